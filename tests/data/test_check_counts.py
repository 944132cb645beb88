"""What a set holds is counted, and what is missing, impossible or there twice is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.data.check_sets import changed, displaced, heads

from ceph.data.check.counts import counts, find_in_counts
from ceph.data.check.quick import quick_check, trained_on
from ceph.data.check.readers import APART_MM, disagreement

SET = heads(12)


def resplit(data, **splits):
    """`data` with the films named in other splits."""
    by_film = {film: split for split, films in splits.items() for film in films}
    return replace(data, samples=tuple(replace(s, split=by_film.get(s.id, s.split)) for s in data.samples))


WHOLE = resplit(SET, validation=["010", "011"])


def texts(data, outside=()):
    return [f"{f.level}: {f.text}" for f in find_in_counts(data, outside)]


def test_films_are_counted_by_split_and_kind_and_points_by_reader():
    found = counts(WHOLE)
    assert found["films"] == 12
    assert found["splits"] == {"train": 10, "validation": 2}
    assert found["kinds"][0] == {"split": "train", "machine": "", "size": [1200, 1000], "mm_per_px": 0.25, "films": 10}
    assert found["points"] == {"senior": 12 * 16, "junior": 12 * 16}
    assert texts(WHOLE) == []


def test_missing_landmarks_are_listed_by_landmark():
    points = {f"{n:03d}": SET.samples[n].points.copy() for n in range(10)}
    for marks in points.values():
        marks[:, 0] = np.nan  # A
    points["003"][:] = np.nan
    points["004"][0, 1] = np.nan  # one reader is enough
    assert texts(changed(WHOLE, points)) == [
        "warning: 003 (train): no landmark is marked",
        f"warning: A is missing in 9 films: {', '.join(f'{n:03d} (train)' for n in range(9) if n != 3)} and 1 more",
    ]


def test_a_landmark_that_nobody_marked_is_named():
    points = {s.id: s.points.copy() for s in WHOLE.samples}
    for marks in points.values():
        marks[:, 5] = np.nan
    assert texts(changed(WHOLE, points)) == ["warning: Or is marked in no film"]


def test_points_outside_the_film_are_errors():
    assert texts(WHOLE, ["N of film 7 (senior: x -3, y 5; film 100 x 200)"]) == [
        "error: outside its film, and left out: N of film 7 (senior: x -3, y 5; film 100 x 200)"
    ]


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_spacing_that_makes_heads_of_another_size_is_an_error(factor):
    wrong = replace(WHOLE, samples=tuple(replace(s, mm_per_px=s.mm_per_px * factor) for s in WHOLE.samples))
    (line,) = texts(wrong)
    assert line.startswith("error: from S to N it is ")
    assert line.endswith("the mm per pixel are wrong")


def test_copied_annotations_and_groups_across_splits_are_errors():
    twice = changed(WHOLE, {"011": WHOLE.samples[2].points})
    assert texts(twice) == [
        "error: 002 (train), 011 (validation) have the same points: an annotation was copied, or a film"
    ]
    grouped = replace(
        WHOLE, samples=tuple(replace(s, group="x") if s.id in ("001", "010") else s for s in WHOLE.samples)
    )
    assert texts(grouped) == ["error: 001 (train), 010 (validation) are of one group, x, in several splits"]


def test_a_set_that_cannot_train_says_which_split_it_lacks():
    assert texts(resplit(SET, test=[s.id for s in SET.samples])) == [
        "warning: there are no films of the split 'train': nothing trains without",
        "warning: there are no films of the split 'validation': nothing trains without",
    ]


def test_the_readers_are_compared_landmark_by_landmark_beyond_their_habit():
    points = {s.id: s.points.copy() for s in SET.samples}
    for marks in points.values():
        marks[1, SET.landmarks.index("Pog`")] += np.array([0, 9]) / 0.25  # a habit of the junior
    data = changed(SET, points)
    data = changed(data, {"006": displaced(data, "006", "N", (11, 0), 0)})
    rows, found = disagreement(data)
    assert [(f.films, f.landmarks) for f in found] == [(("006",), ("N",))]
    assert found[0].text.startswith("006 (train): N of senior and junior are 1")
    assert found[0].mm > APART_MM
    by = {row.landmark: row for row in rows}
    assert by["Pog`"].habit_mm == pytest.approx((0, -9), abs=0.7)
    assert by["N"].film == "006"
    assert by["N"].largest_mm == found[0].mm
    assert by["A"].median_mm < 1.5
    assert {row.n for row in rows} == {12}


def test_one_reader_has_nobody_to_differ_from():
    assert disagreement(heads(5, readers=1)) == ([], [])


def with_files(data, folder):
    """`data` with a small file for each film; and their digests."""
    samples = []
    for s in data.samples:
        path = folder / f"{s.id}.png"
        path.write_bytes(b"\x89PNG" + s.id.encode() + b"IEND")
        samples.append(replace(s, path=path))
    return samples, [s.id for s in samples]


def test_the_quick_check_is_silent_about_a_good_set(tmp_path):
    samples, digests = with_files(WHOLE, tmp_path)
    assert quick_check(samples, digests, WHOLE.landmarks) == []


def test_the_quick_check_names_copies_groups_cut_off_files_and_missing_points(tmp_path):
    samples, digests = with_files(WHOLE, tmp_path)
    digests[11] = digests[2]
    samples[3] = replace(samples[3], group="x")
    samples[10] = replace(samples[10], group="x")
    samples[4].path.write_bytes(b"\x89PNG cut")
    samples[5] = replace(samples[5], valid=np.zeros_like(samples[5].valid))
    samples[6] = replace(samples[6], valid=samples[6].valid & (np.arange(16) != 0))
    assert quick_check(samples, digests, WHOLE.landmarks) == [
        "002 (train), 011 (validation) are one film, byte for byte",
        "003 (train), 010 (validation) are of one group, x, in several splits",
        f"{samples[4].path} seems to be cut off",
        "005 (train): no landmark is marked",
        "A is marked in 10 of 12 films",
    ]


def test_films_that_a_run_trained_on_are_named_when_they_are_scored(tmp_path):
    samples, digests = with_files(resplit(SET, test=[s.id for s in SET.samples]), tmp_path)
    films = {"train": {"a": f"{digests[1]}:marks", "b": "other:marks"}, "validation": {"c": f"{digests[7]}:marks"}}
    assert trained_on(samples, digests, films) == [
        "001 (test): byte for byte in train of this run, so that the score says too much",
        "007 (test): byte for byte in validation of this run, so that the score says too much",
    ]
    assert trained_on(samples, digests, {"train": {"b": "other:marks"}}) == []
