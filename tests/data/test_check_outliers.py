"""Landmarks that are out of place are named, by what is wrong; films without their pixels, so by shape alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.data.check_sets import changed, displaced, heads, swapped

from ceph.data.check.outliers import GROSS_MM, LEAST_MM, find_outliers
from ceph.data.check.shape import LEAST_FILMS, predict, spread

SET = heads(72)


def found_in(data):
    return find_outliers(data, [None] * len(data.samples))


def named(findings):
    return {(f.kind, *f.films, *f.landmarks) for f in findings}


def test_a_set_without_faults_has_no_outliers():
    assert found_in(SET) == []


def test_a_displaced_landmark_is_named_with_its_film_its_distance_and_each_reader():
    (finding,) = found_in(changed(SET, {"008": displaced(SET, "008", "N", (16, -16))}))
    assert (finding.kind, finding.films, finding.landmarks) == ("displaced", ("008",), ("N",))
    assert finding.mm == pytest.approx(16 * 2**0.5, abs=8)
    assert finding.level == ("error" if finding.mm > GROSS_MM else "warning")
    assert finding.text.startswith(f"008 (train): N is {finding.mm:.0f} mm from where the film and the other 15")
    assert re.fullmatch(r".* landmarks put it \(senior \d\d mm, junior \d\d mm\)", finding.text)


def test_many_faults_at_once_do_not_hide_each_other():
    rng = np.random.default_rng(0)
    films = [s.id for s in SET.samples][::6]
    symbols = rng.permutation([s for s in SET.landmarks if s != "Go"])[: len(films)]
    turns = rng.uniform(0, 2 * np.pi, len(films))
    planted = {
        f: (s, displaced(SET, f, s, (25 * np.cos(t), 25 * np.sin(t))))
        for f, s, t in zip(films, symbols, turns, strict=True)
    }
    found = named(found_in(changed(SET, {f: points for f, (_, points) in planted.items()})))
    assert found == {("displaced", f, s) for f, (s, _) in planted.items()}


@pytest.mark.parametrize(("one", "other"), [("ANS", "A"), ("Me", "Pog"), ("S", "Pog`"), ("Po", "Ar"), ("A", "B")])
def test_a_swap_is_named_as_one_and_not_as_two_displacements(one, other):
    pair = sorted((one, other), key=SET.landmarks.index)
    columns = [SET.landmarks.index(symbol) for symbol in pair]
    film = next(
        s for s in SET.samples if np.linalg.norm(np.diff(s.points[:, columns], axis=1), axis=-1).min() * 0.25 > 8
    )
    findings = found_in(changed(SET, {film.id: swapped(SET, film.id, one, other)}))
    assert named(findings) == {("swap", film.id, *pair)}
    assert findings[0].level == "error"
    assert f"{pair[0]} and {pair[1]}, " in findings[0].text
    assert findings[0].text.endswith("mm apart, are swapped")


def test_a_swap_by_one_reader_names_the_reader():
    (finding,) = found_in(changed(SET, {"030": swapped(SET, "030", "A", "B", (1,))}))
    assert finding.text.endswith("are swapped by junior")


def test_a_film_that_faces_the_other_way_is_one_finding():
    points = SET.samples[5].points * (-1, 1) + (1000, 0)
    (finding,) = found_in(changed(SET, {"005": points}))
    assert (finding.kind, finding.level, finding.films) == ("pose", "error", ("005",))
    assert "mirrored" in finding.text


def test_a_film_of_another_spacing_is_one_finding():
    (finding,) = found_in(changed(SET, {"007": SET.samples[7].points * 2.5}))
    assert finding.kind == "pose"
    assert "landmarks spread 2." in finding.text
    assert "is 0.25 mm per pixel right?" in finding.text


def test_a_film_that_is_turned_is_one_finding():
    (finding,) = found_in(changed(SET, {"009": SET.samples[9].points[..., ::-1] * (1, -1) + (0, 1200)}))
    assert "turned by -90 degrees" in finding.text or "turned by 9" in finding.text or "turned by -9" in finding.text


def test_missing_landmarks_are_no_outliers_and_do_not_stop_the_others():
    points = {s.id: s.points.copy() for s in SET.samples[::3]}
    for n, marks in enumerate(points.values()):
        marks[:, n % 16] = np.nan
    points["001"] = displaced(SET, "001", "A", (0, 20))
    points["002"] = np.full_like(SET.samples[2].points, np.nan)
    assert named(found_in(changed(SET, points))) == {("displaced", "001", "A")}


def test_one_reader_alone_is_enough():
    data = heads(60, readers=1)
    (finding,) = found_in(changed(data, {"011": displaced(data, "011", "ANS", (0, 18))}))
    assert finding.landmarks == ("ANS",)
    assert finding.text.endswith("put it")


def test_too_few_films_are_not_judged_and_it_says_so():
    (finding,) = found_in(heads(LEAST_FILMS - 1))
    assert (finding.kind, finding.level) == ("few films", "warning")
    assert f"{LEAST_FILMS - 1} films are too few" in finding.text
    data = heads(LEAST_FILMS)
    assert named(found_in(changed(data, {"004": displaced(data, "004", "Or", (0, 30))}))) == {
        ("displaced", "004", "Or")
    }


def test_no_film_takes_part_in_its_own_prediction():
    points = SET.samples[0].points[None, 0] * 0.25
    rest = np.stack([s.points[0] * 0.25 for s in SET.samples])
    trusted = np.ones(rest.shape[:2], bool)
    moved = rest.copy()
    moved[0, 3] += 40
    before, after = predict(rest, trusted), predict(moved, trusted)
    assert points.shape[0] == 1
    # Not exactly, since the ridge and the middle of the films are chosen with all of them.
    assert np.linalg.norm(after[0, 3] - before[0, 3]) < 1.5
    assert np.linalg.norm(after[0, 3] - rest[0, 3]) < LEAST_MM


def test_the_spread_of_normal_distances_is_their_root_mean_square_whatever_a_tenth_of_them_does():
    rng = np.random.default_rng(0)
    distances = np.linalg.norm(rng.normal(0, 2, (4000, 1, 2)), axis=-1)
    assert spread(distances, np.ones_like(distances, bool))[0] == pytest.approx(8**0.5, rel=0.05)
    distances[:400] = 100
    assert spread(distances, np.ones_like(distances, bool))[0] == pytest.approx(8**0.5, rel=0.12)


def test_a_run_that_never_saw_the_films_finds_smaller_mistakes_and_its_own_are_nobodys():
    rng = np.random.default_rng(0)
    faulty = changed(SET, {"008": displaced(SET, "008", "Go", (-4, 4))})
    assert found_in(faulty) == []
    by_run = np.stack([s.points.mean(axis=0) for s in SET.samples]) + rng.normal(0, 2, (len(SET.samples), 16, 2)) + 4
    by_run[3, 2] += 200
    by_run[5] = np.nan
    (finding,) = find_outliers(faulty, [None] * len(SET.samples), by_run)
    assert (finding.films, finding.landmarks) == (("008",), ("Go",))
    assert finding.text.startswith("008 (train): Go is 5 mm from where a run that never saw the film finds it")
