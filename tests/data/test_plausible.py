"""Points in percent, fractions, or with x and y swapped are suspected; real and synthetic films are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.data.check_sets import heads
from tests.data.small_sets import shared_data

from ceph.data.formats.base import picked
from ceph.data.formats.find import read
from ceph.data.plausible import doubts, head_doubts, impossible


@pytest.fixture(scope="module")
def films(tiny_set):
    return read(tiny_set)


def enlarged(sample):
    """The film at twice its size."""
    return replace(sample, points=sample.points * 2, size=(sample.size[0] * 2, sample.size[1] * 2))


CHANGES = {
    "percent": lambda points, size: points * 100 / np.array(size[::-1]),
    "fractions": lambda points, size: points / np.array(size[::-1]),
    "swapped": lambda points, size: points[..., ::-1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_doubtful_film_is_named_with_its_readers_and_the_others_are_not(films, change):
    samples = [enlarged(sample) for sample in films.samples]
    victim = samples[3]
    samples[3] = replace(victim, points=CHANGES[change](victim.points, victim.size))
    (doubt,) = doubts(samples, films.landmarks, films.readers)
    assert change in doubt
    assert doubt.count(str(victim.path)) == len(films.readers)
    assert not any(str(sample.path) in doubt for sample in samples if sample is not samples[3])


def test_many_doubtful_films_are_counted(films):
    samples = [replace(s, points=CHANGES["fractions"](s.points, s.size)) for s in films.samples]
    (doubt,) = doubts(samples, films.landmarks, films.readers)
    assert doubt.endswith(f"and {len(samples) * len(films.readers) - 5} more")


def test_films_without_these_landmarks_or_points_are_not_suspected(films):
    sample = films.samples[0]
    nothing = replace(sample, points=np.full_like(sample.points, np.nan))
    assert doubts([nothing], films.landmarks, films.readers) == []
    assert doubts([sample], [f"p{k}" for k in range(len(films.landmarks))], films.readers) == []


@pytest.mark.shared
def test_no_real_film_is_suspected():
    data = read(shared_data() / "isbi2015", mm_per_px=0.25)
    assert doubts(data.samples, data.landmarks, data.readers) == []
    turned = [replace(sample, points=sample.points[..., ::-1]) for sample in data.samples]
    (doubt,) = doubts(turned, data.landmarks, data.readers)
    assert f"and {len(turned) * len(data.readers) - 5} more" in doubt


def respaced(data, factor, films=slice(None)):
    """`data` with the mm per pixel of some films multiplied."""
    wrong = {s.id for s in data.samples[films]}
    return [replace(s, mm_per_px=s.mm_per_px * (factor if s.id in wrong else 1)) for s in data.samples]


@pytest.mark.parametrize(("factor", "says"), [(0.35, "from S to N it is 2"), (2.5, "from S to N it is 1")])
def test_heads_of_no_heads_size_are_doubted_for_the_set_as_a_whole(factor, says):
    data = heads(12)
    ((doubt, mm),) = head_doubts(respaced(data, factor), data.landmarks)
    assert doubt.startswith(says)
    assert doubt.endswith("mm in the median film, in heads 45 to 100: the mm per pixel are wrong")
    assert not 45 <= mm <= 100


def test_the_films_of_one_spacing_are_doubted_beside_good_ones():
    data = heads(16)
    assert head_doubts(data.samples, data.landmarks) == []
    ((doubt, mm),) = head_doubts(respaced(data, 0.4, slice(5)), data.landmarks)
    assert "in the median film of those with 0.1 mm per pixel, in heads 45 to 100" in doubt
    assert mm == pytest.approx(28, abs=4)


def test_sets_without_s_or_n_tell_nothing_of_their_spacing():
    data = heads(12)
    assert head_doubts(respaced(data, 0.2), [f"p{k}" for k in range(len(data.landmarks))]) == []
    blank = [replace(s, points=np.full_like(s.points, np.nan)) for s in data.samples]
    assert head_doubts(blank, data.landmarks) == []


def test_whoever_reads_a_set_is_warned_of_its_spacing(tiny_set, caplog):
    read(tiny_set)
    assert "from S to N" not in caplog.text
    read(tiny_set, mm_per_px=0.25)
    assert "mm in the median film, in heads 45 to 100: the mm per pixel are wrong (ceph data check" in caplog.text


def out_of(sample, columns):
    """The film with these landmarks marked off it, as it is read."""
    outside = np.zeros_like(sample.valid)
    outside[:, columns] = True
    points = np.where(outside[..., None], np.nan, sample.points)
    return replace(sample, points=points, valid=sample.valid & ~outside, outside=outside, path=Path(f"{sample.id}.png"))


def at(sample, columns, place):
    """The film with these landmarks at one place, in film px."""
    points = sample.points.copy()
    points[:, columns] = place
    return replace(sample, points=points, path=Path(f"{sample.id}.png"))


def test_heads_are_possible(films):
    assert impossible(films.samples, films.landmarks) == []
    assert impossible(heads(40).samples, heads(1).landmarks) == []


@pytest.mark.shared
def test_real_films_are_possible():
    data = read(shared_data() / "isbi2015", mm_per_px=0.25)
    assert impossible(data.samples, data.landmarks) == []


def test_one_film_with_most_of_its_points_outside_is_named_and_one_with_half_of_them_is_not():
    data = heads(12)
    half = len(data.landmarks) // 2
    films = [out_of(data.samples[0], range(half + 1)), out_of(data.samples[1], range(half)), *data.samples[2:]]
    (found,) = impossible(films, data.landmarks)
    assert found.what == "most points lie outside the film in 1 of 12 films, such as 000.png"
    assert "scale the points" in found.hint


def test_a_film_with_most_points_at_one_place_is_named_wherever_that_is():
    data = heads(12)
    most = range(len(data.landmarks) // 2 + 1)
    films = [at(data.samples[0], most, (0, 0)), at(data.samples[1], most, (321.5, 77)), *data.samples[2:]]
    (found,) = impossible(films, data.landmarks)
    assert found.what.startswith("most points lie at one place in 2 of 12 films")
    assert "empty" in found.hint


def test_a_landmark_outside_most_films_or_at_one_place_in_most_is_named_below_thirty_films():
    data = heads(6)
    films = [at(out_of(s, [2]), [4], (0, 0)) for s in data.samples[:4]] + list(data.samples[4:])
    outside, stuck = impossible(films, data.landmarks)
    assert outside.what.startswith(f"{data.landmarks[2]}: outside the film in most films that have it")
    assert stuck.what.startswith(f"{data.landmarks[4]} at (0, 0): at one place")
    assert impossible(films[1:], data.landmarks) != []  # 3 of 5
    assert impossible(films[2:], data.landmarks) == []  # 2 of 4


def test_points_in_one_quarter_of_most_films_are_doubted_and_a_few_landmarks_of_the_face_are_not():
    data = heads(8)
    small = [replace(s, points=s.points * 0.4) for s in data.samples]
    (found,) = impossible(small, data.landmarks)
    assert found.what.startswith("all points of a whole head lie in one quarter of the film in 8 of 8 films")
    assert impossible([*small[:3], *data.samples[3:]], data.landmarks) == []
    face = [data.landmarks.index(s) for s in ("A", "B", "Pog", "LIT")]
    assert impossible([picked(s, face) for s in small], ("A", "B", "Pog", "LIT")) == []


def test_a_point_in_the_corner_is_doubted_in_any_film(films):
    sample = at(films.samples[0], [3], (0, 0))
    (doubt,) = doubts([sample, *films.samples[1:]], films.landmarks, films.readers)
    assert "missing" in doubt
    assert str(sample.path) in doubt
