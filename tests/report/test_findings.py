"""Readers, machines, intervals and the order of films."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.data.small_sets import shared_data
from tests.report.folders import films_of, write_run

from ceph.data.formats.find import read
from ceph.report.findings import Films, cumulative, find_splits, reader_distances
from ceph.report.record import read_record
from ceph.runfolder import Predictions


@pytest.fixture
def split(tmp_path):
    (found,) = find_splits(read_record(write_run(tmp_path / "r")), films_of(tmp_path / "films"))
    return found


def test_readers_four_px_apart_are_two_mm_apart_and_one_from_their_mean(split):
    np.testing.assert_allclose(split.readers.apart_mm, 2.0)
    np.testing.assert_allclose(split.readers.from_truth_mm, 1.0)


def test_a_landmark_that_one_reader_left_out_has_no_disagreement(tmp_path):
    films = films_of(tmp_path / "films")
    key = ("validation", "film-2")
    valid = films.samples[key].valid.copy()
    valid[0, 1] = False
    films = replace(films, samples={**films.samples, key: replace(films.samples[key], valid=valid)})
    (found,) = find_splits(read_record(write_run(tmp_path / "r")), films)
    unknown = np.isnan(found.readers.apart_mm)
    assert unknown[2, 1]
    assert unknown.sum() == 1
    assert np.isnan(found.readers.from_truth_mm[2, 1])


def test_figures_by_machine_are_those_of_its_films_and_the_largest_is_first(split):
    assert [(name, figures["n_images"]) for name, figures in split.machines] == [("B", 5), ("A", 3)]
    assert dict(split.machines)["A"]["mre_mm"] == pytest.approx(0.5 * np.mean([1, 2, 3]))


def test_the_worst_film_is_first_and_one_without_truth_is_not_ranked(split):
    assert split.order == list(range(7, -1, -1))
    errors = split.scored.errors_mm.copy()
    errors[7] = np.nan
    assert replace(split, scored=replace(split.scored, errors_mm=errors)).order == list(range(6, -1, -1))


def test_intervals_hold_the_mean_and_need_six_pieces_of_evidence(split, tmp_path):
    low, high = split.intervals_mm.T
    assert ((low < 2.25) & (high > 2.25)).all()
    films = films_of(tmp_path / "again")
    twins = {key: replace(sample, group=f"g{i // 2}") for i, (key, sample) in enumerate(films.samples.items())}
    (found,) = find_splits(read_record(tmp_path / "r"), replace(films, samples=twins))
    assert np.isnan(found.intervals_mm).all()


def test_without_films_there_are_figures_but_no_readers_and_no_machines(tmp_path):
    (found,) = find_splits(read_record(write_run(tmp_path / "r")), Films(missing="they are gone"))
    assert found.readers is None
    assert found.machines == ()
    assert found.figures["mre_mm"] == pytest.approx(2.25)


@pytest.mark.shared
def test_the_readers_of_test1_of_isbi_are_2_36_mm_apart():
    data = read(shared_data() / "isbi2015", mm_per_px=0.25)
    chosen = [s for s in data.samples if s.split == "test1"]
    senior, junior = (np.stack([s.points[r] for s in chosen]) for r in (0, 1))
    truth, nothing = (senior + junior) / 2, np.zeros(senior.shape[:2])
    scored = Predictions(tuple(s.id for s in chosen), data.landmarks, truth, nothing, truth, nothing)
    readers = reader_distances(scored, chosen, range(len(data.landmarks)))
    assert readers.apart_mm.mean() == pytest.approx(2.36, abs=0.005)  # found before by a script of its own
    np.testing.assert_allclose(readers.from_truth_mm, readers.apart_mm / 2)


def test_the_error_curve_ends_at_all_points_and_leaves_unknown_ones_out():
    errors, percent = cumulative(np.array([[3.0, np.nan], [1.0, 2.0]]))
    assert errors.tolist() == [1, 2, 3]
    np.testing.assert_allclose(percent, [100 / 3, 200 / 3, 100])
