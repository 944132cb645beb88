"""Readings that one reader took over from another are named, and count as one wherever readers are compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.data.check_sets import LANDMARKS, changed, heads
from tests.data.small_sets import shared_data

from ceph.data.check.check import check
from ceph.data.check.quick import quick_check
from ceph.data.copied import beyond_chance, equal_by_chance, find_copied, with_copies
from ceph.data.formats.base import picked
from ceph.data.several import on_landmarks
from ceph.data.truth import reader_disagreement_mm
from ceph.data.types import Sample

S, GO = LANDMARKS.index("S"), LANDMARKS.index("Go")


def whole(data):
    """The same marks on whole pixels, as people's are."""
    return changed(data, {sample.id: np.round(sample.points) for sample in data.samples})


def with_copied_sella(films=40, share=1.0, seed=0):
    data, rng = whole(heads(films, seed=seed)), np.random.default_rng(seed)
    points = {sample.id: sample.points.copy() for sample in data.samples}
    for marks in points.values():
        if rng.random() < share:
            marks[1, S] = marks[0, S]
    return changed(data, points)


def test_readers_who_mark_by_themselves_are_called_copies_in_no_set():
    assert [find_copied(whole(heads(60, seed=seed)).samples)[0] for seed in range(20)] == [[]] * 20


def test_the_chance_of_one_pixel_is_that_of_two_readers_who_agree_uncommonly_well():
    rng = np.random.default_rng(0)
    marks = np.round(rng.uniform(0, 9, (400_000, 2)) + rng.normal(0, 0.3 / np.sqrt(2), (2, 400_000, 2)) / 0.25)
    seen = (marks[0] == marks[1]).all(axis=-1).mean()
    assert seen <= equal_by_chance(0.25) < 1.5 * seen
    # 3 of 4 at even odds are no wonder; 9 of 10 are less likely than 1 in 30: (1 + 10) / 1024.
    assert not beyond_chance(3, 4, 0.5, 0.05)
    assert beyond_chance(9, 10, 0.5, 0.05)
    assert not any(beyond_chance(equal, n, 0.5, 1e-9) for equal, n in ((0, 0), (1, 1), (0, 9), (5, 10)))


@pytest.mark.parametrize(("share", "wholly"), [(1.0, True), (0.9, True), (0.5, False)])
def test_a_copied_landmark_is_named_and_left_out(share, wholly):
    data = with_copied_sella(share=share)
    [copy], flags = find_copied(data.samples)
    assert (copy.landmark, copy.film, copy.n, copy.wholly) == (S, None, 40, wholly)
    equal = np.stack([(s.points[0, S] == s.points[1, S]).all() for s in data.samples])
    np.testing.assert_array_equal(flags[:, 1, S], True if wholly else equal)
    assert not flags[:, 0].any()
    assert not np.delete(flags[:, 1], S, axis=1).any()
    apart = reader_disagreement_mm(with_copies(data).samples, len(LANDMARKS))
    assert np.isnan(apart[S]) == wholly
    plain = reader_disagreement_mm(data.samples, len(LANDMARKS))
    np.testing.assert_array_equal(np.delete(apart, S), np.delete(plain, S))
    assert wholly or apart[S] == pytest.approx(plain[S] / (1 - equal.mean()))


def test_a_copied_film_is_named_and_left_out():
    data = whole(heads(40))
    film = data.samples[7]
    data = changed(data, {film.id: film.points[[0, 0]]})
    [copy], flags = find_copied(data.samples)
    assert (copy.film, copy.landmark, copy.equal, copy.wholly) == (7, None, len(LANDMARKS), True)
    assert flags[7, 1].all()
    assert flags.sum() == len(LANDMARKS)
    checked = check("films", with_copies(data))
    [finding] = (found for found in checked.findings if found.kind == "copied readings")
    assert finding.films == (film.id,)
    assert finding.text.startswith(
        f"{film.id} (train): senior and junior have one and the same point in 16 of 16 points"
    )
    assert {row.n for row in checked.disagreement} == {39}


def test_of_three_readers_the_later_of_two_equal_ones_is_the_copy():
    data = whole(heads(30, readers=3))
    points = {s.id: s.points[[0, 1, 1]] for s in data.samples}
    samples = [replace(s, points=points[s.id]) for s in data.samples]
    copies, flags = find_copied(samples)
    assert {copy.readers for copy in copies} == {(1, 2)}
    assert flags.any(axis=(0, 2)).tolist() == [False, False, True]


def test_what_is_copied_is_known_of_whatever_landmarks_are_chosen():
    data = with_copies(with_copied_sella())
    assert picked(data.samples[0], [GO, S]).own.tolist() == [[True, True], [True, False]]
    laid = on_landmarks(data, ("Go", "S", "Wing"))
    assert laid.samples[0].own.tolist() == [[True, True, False], [True, False, False]]


def test_a_run_is_told_before_it_starts():
    data = with_copies(with_copied_sella())
    samples = [replace(sample, path=Path(f"{sample.id}.bmp")) for sample in data.samples]
    [line] = quick_check(samples, [sample.id for sample in samples], data.landmarks)
    assert line.startswith("40 of 640 points of further readers were taken over from another")


@pytest.mark.shared
def test_the_landmarks_of_aariz_whose_second_reading_is_a_copy_are_named():
    content = json.loads((shared_data() / "aariz" / "landmarks.json").read_text())
    samples = []
    for film in (film for film in content["images"] if film["points"]):
        size = film["orig_height"], film["orig_width"]
        one = np.array([film["points"]["annotator_x"].get(s, (np.nan,) * 2) for s in content["landmarks"]])
        mean = np.array([film["points_norm_mean"][s] for s in content["landmarks"]]) * size[::-1]
        points = np.stack([one, np.round(2 * mean - one)])
        known = ~np.isnan(points).any(axis=-1)
        samples.append(Sample(film["id"], "train", film["id"], "", size, film["mm_per_px"], points, known, Path("x")))
    copies, _ = find_copied(samples)
    wholly = {content["landmarks"][copy.landmark] for copy in copies if copy.wholly}
    assert wholly == {"LPM", "UPM", "UMT", "S", "LMT", "PNS"}
    assert len(copies) == 27, "on every landmark that both marked, more is equal than chance allows"
