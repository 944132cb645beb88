"""Errors, means and success rates as the field defines them."""

from __future__ import annotations

import numpy as np
import pytest

from ceph.evaluation.metrics import flatten, higher_is_better, intervals, radial_errors_mm, summarise


def test_an_error_is_the_distance_on_the_film_in_its_own_millimetres():
    found = np.array([[[3.0, 4.0]], [[3.0, 4.0]]])
    errors = radial_errors_mm(found, np.zeros((2, 1, 2)), np.array([[True], [True]]), np.array([0.1, 0.2]))
    assert errors[:, 0] == pytest.approx([0.5, 1.0])


def test_a_landmark_without_truth_has_no_error():
    errors = radial_errors_mm(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.array([[True, False]]), np.ones(1))
    assert errors[0, 0] == 0
    assert np.isnan(errors[0, 1])


def test_the_figures_of_a_split():
    errors = np.array([[1.0, 2.0], [3.0, np.nan]])
    figures = summarise(errors, ("A", "B"), "mean")
    assert figures["mre_mm"] == 2.0
    assert figures["sd_mm"] == 1.0
    assert figures["n_images"] == 2
    assert figures["n_points"] == 3
    assert figures["truth"] == "mean"
    # An error of exactly 2.0 mm counts as a success at 2.0 mm.
    assert figures["sdr_percent"] == pytest.approx({"2.0": 200 / 3, "2.5": 200 / 3, "3.0": 100.0, "4.0": 100.0})
    assert figures["per_landmark"]["A"] == {
        "mre_mm": 2.0,
        "sd_mm": pytest.approx(2**0.5),
        "sdr_percent": {"2.0": 50.0, "2.5": 50.0, "3.0": 100.0, "4.0": 100.0},
        "n": 2,
    }


def test_a_landmark_that_no_film_shows_has_no_figures():
    figures = summarise(np.array([[1.0, np.nan]]), ("A", "B"), "mean")
    assert figures["per_landmark"]["B"]["mre_mm"] is None
    assert figures["per_landmark"]["B"]["n"] == 0


def test_the_interval_of_a_split_is_about_its_films_and_widens_where_films_are_one_patient_s():
    rng = np.random.default_rng(0)
    errors = rng.lognormal(0.2, 0.3, (60, 1)) * rng.lognormal(0, 0.4, (60, 19))
    errors[3, 4] = np.nan
    alone = intervals(errors, np.arange(60))
    low, high = alone["mre_mm"]
    assert low < np.nanmean(errors) < high
    of_film = np.nanmean(errors, axis=1)
    assert high - low == pytest.approx(2 * 2.0 * of_film.std(ddof=1) / 60**0.5, rel=0.15)
    twice = intervals(np.concatenate([errors, errors]), np.arange(120) % 60)
    assert twice["mre_mm"] == pytest.approx(alone["mre_mm"], rel=1e-6)
    assert alone["sdr_percent"]["2.0"][0] < np.nanmean(errors <= 2) * 100 < alone["sdr_percent"]["2.0"][1]
    assert intervals(np.full((3, 2), np.nan), np.arange(3)) == {}
    assert intervals(rng.random((5, 2)), np.arange(5)) == {}
    assert intervals(rng.random((6, 2)), np.arange(6))


def test_every_figure_has_a_dotted_name():
    flat = flatten(summarise(np.ones((2, 1)), ("A",), "mean"))
    assert flat["mre_mm"] == 1
    assert flat["sdr_percent.2.0"] == 100
    assert flat["per_landmark.A.sdr_percent.2.5"] == 100
    assert higher_is_better("sdr_percent.2.0", {})
    assert not higher_is_better("per_landmark.A.mre_mm", {})
