"""The readers' part of an error: own errors from three distances, bias and scatter, limits of agreement, ICC."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.data.check_sets import LANDMARKS, MM, heads
from tests.data.small_sets import shared_data

import ceph
from ceph.data.copied import with_copies
from ceph.data.truth import combine
from ceph.evaluation.floor import agreement, floor_figures, intraclass_correlation, three_cornered_hat
from ceph.report.floor import agreement_rows, floor_rows, floor_sentences

FILMS = 100


def drawn(own_mm, landmarks, films=FILMS, seed=0):
    """Marks [3, F, K, 2] whose errors have these RMS and each one's habit, on heads anywhere on the film."""
    rng = np.random.default_rng(seed)
    sd = np.array(own_mm)[:, None, None, None] / np.sqrt(2)
    habits = rng.normal(0, 3, (3, 1, landmarks, 2))
    return rng.uniform(0, 200, (films, landmarks, 2)) + habits + sd * rng.normal(size=(3, films, landmarks, 2))


def test_three_distances_give_three_own_errors():
    """Errors of 2, 1 and 3 mm with the signs of rows of a Hadamard matrix are uncorrelated exactly."""
    signs = np.array([[1, -1, 1, -1, 1, -1, 1, -1], [1, 1, -1, -1, 1, 1, -1, -1], [1, 1, 1, 1, -1, -1, -1, -1]])
    marks = np.zeros((3, 8, 1, 2))
    marks[:, :, 0, 0] = np.array([2, 1, 3])[:, None] * signs + np.array([5, -4, 0])[:, None]
    found = three_cornered_hat(marks, np.arange(8))
    np.testing.assert_allclose(found.rms_mm[:, 0], np.array([2, 1, 3]) * np.sqrt(8 / 7))
    np.testing.assert_allclose(found.pooled_mm, found.rms_mm[:, 0])
    assert not found.clipped.any()


def test_the_intervals_hold_the_truth_as_often_as_they_say():
    own_mm = (1.0, 2.0, 1.5)
    found = three_cornered_hat(drawn(own_mm, 500), np.arange(FILMS), resamples=400)
    for who, true in enumerate(own_mm):
        assert np.sqrt((found.rms_mm[who] ** 2).mean()) == pytest.approx(true, rel=0.03)
        assert 0.91 < ((found.low_mm[who] <= true) & (true <= found.high_mm[who])).mean() < 0.975
        assert found.pooled_low_mm[who] < true < found.pooled_high_mm[who]


def test_who_has_no_error_is_often_below_zero_and_that_is_said():
    found = three_cornered_hat(drawn((0.0, 2.0, 2.0), 300), np.arange(FILMS), resamples=200)
    assert 0.4 < found.clipped[0].mean() < 0.6
    np.testing.assert_array_equal(found.rms_mm[0] == 0, found.clipped[0])
    assert not found.clipped[1:].any()
    assert found.pooled_mm[0] < 0.3, "the mean over landmarks is of what is below zero, too"


def test_films_of_one_patient_are_one_piece_of_evidence_and_few_films_are_none():
    marks = drawn((1.0, 2.0, 1.5), 50, films=20)
    one = three_cornered_hat(marks, np.arange(20))
    again = three_cornered_hat(np.concatenate([marks] * 3, axis=1), np.tile(np.arange(20), 3))
    widths = [(found.high_mm - found.low_mm)[1].mean() for found in (one, again)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    marks[0, 5:, 3] = np.nan
    found = three_cornered_hat(marks, np.arange(20))
    assert np.isnan(found.rms_mm[:, 3]).all()
    assert np.isfinite(np.delete(found.rms_mm, 3, axis=1)).all()


def test_the_intraclass_correlation_is_that_of_shrout_and_fleiss():
    judged = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert intraclass_correlation(np.array(judged, dtype=float)) == pytest.approx(0.29, abs=5e-3)  # their table 4
    assert np.isnan(intraclass_correlation(np.ones((4, 2))))


def test_limits_of_agreement_are_the_bias_and_what_lies_about_it():
    one, other = np.zeros((2, 4, 1, 2))
    one[:, 0, 0], one[:, 0, 1] = (1, 2, 3, 2), (-1, -1, -1, np.nan)
    found = agreement(one, other)
    assert found.n.tolist() == [3], "a film counts where both are known"
    np.testing.assert_allclose(found.bias_mm, [[2, -1]])
    np.testing.assert_allclose(found.scatter_mm, [1])
    np.testing.assert_allclose(found.limits_mm, [[[2 - 1.96, 2 + 1.96], [-1, -1]]])


def figures(data, points_mm=None, truth="mean"):
    """Of points [F, K, 2] in mm; by default those of the first reader."""
    true = np.stack([combine(s.points, s.valid, truth, data.readers)[0] for s in data.samples])
    points = np.stack([s.points[0] for s in data.samples]) if points_mm is None else points_mm / MM
    films = np.arange(len(data.samples))
    return floor_figures(points, true, data.samples, data.landmarks, data.readers, truth, films)


def test_the_readers_part_of_the_scatter_is_half_their_distance_and_disputed_points_are_apart():
    data = heads(60)
    points = [s.points.copy() for s in data.samples]
    points[3][1, 2] += 8 / MM
    data = replace(data, samples=tuple(replace(s, points=p) for s, p in zip(data.samples, points, strict=True)))
    found = figures(data)
    floor = found["floor"]
    assert floor["disputed"]["n"] == 1
    assert floor["disputed"]["n"] + floor["undisputed"]["n"] == 60 * len(LANDMARKS)
    assert floor["disputed"]["mre_mm"] == pytest.approx(np.linalg.norm(points[3][0, 2] - points[3][1, 2]) * MM / 2)
    # The first reader is half the distance from the mean, whatever the readers are.
    assert floor["scatter_rms_mm"] == pytest.approx(floor["floor_rms_mm"])
    row = found["agreement"]["Go"]
    assert floor["per_landmark"]["Go"]["floor_rms_mm"] == pytest.approx(row["scatter_mm"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    text = " ".join(floor_sentences(found))
    assert "senior and junior are" in text
    assert "100 % of its square" in text
    assert "without the 1 points" in text


@pytest.mark.parametrize(("truth", "who"), [("senior", "first"), ("junior", "second")])
def test_against_one_reader_the_readers_part_is_his_own_error(truth, who):
    floor = figures(heads(30), truth=truth)["floor"]
    assert floor["floor_mre_mm"] is None
    rows = floor["per_landmark"].values()
    assert [row["floor_rms_mm"] for row in rows] == [row[who]["rms_mm"] for row in rows]
    assert [row["first"]["rms_mm"] for row in rows] != [row["second"]["rms_mm"] for row in rows]


def test_a_copied_reading_is_no_reader_and_one_reader_has_no_floor():
    data = heads(40)
    k = LANDMARKS.index("S")
    points = [np.round(s.points) for s in data.samples]
    for marks in points:
        marks[1, k] = marks[0, k]
    pairs = zip(data.samples, points, strict=True)
    data = with_copies(replace(data, samples=tuple(replace(s, points=p) for s, p in pairs)))
    floor = figures(data)["floor"]
    assert floor["per_landmark"]["S"]["model"]["rms_mm"] is None
    assert floor["per_landmark"]["S"]["readers"]["n"] == 0
    alone = figures(heads(40, readers=1))
    assert list(alone) == ["agreement"]
    assert list(floor_sentences(alone)) == []
    assert {len(row) for row in floor_rows(alone)[1]} == {3}
    assert {len(row) for row in agreement_rows(figures(data))[1]} == {8}


@pytest.mark.shared
def test_a_published_model_s_own_errors_are_those_that_are_known_of_it():
    shared = shared_data()
    found, _ = ceph.evaluate(
        predictions=shared / "anchors" / "delr_isbi2015_test1.csv",
        data=shared / "isbi2015_full",
        settings=["data.mm_per_px=0.1"],
    )
    floor = found["floor"]
    rows = {symbol: row["model"] for symbol, row in floor["per_landmark"].items()}
    own = {"LIT": 1.03, "UIT": 0.90, "Sn": 1.16, "ANS": 1.10, "N": 0.85, "Po": 0.78, "Ar": 0.63, "Go": 0.60, "A": 0.65}
    assert {symbol: rows[symbol]["rms_mm"] for symbol in own} == pytest.approx(own, abs=5e-3)
    assert {symbol for symbol, row in rows.items() if row["clipped"]} == {"B", "Li", "Pog`"}
    assert floor["apart_mm"] == pytest.approx(2.36, abs=5e-3)
    assert floor["apart_without_habits_mm"] == pytest.approx(1.58, abs=5e-3)
    assert floor["floor_mre_mm"] == pytest.approx(0.788, abs=1e-3)
    assert (floor["disputed"]["n"], floor["undisputed"]["n"]) == (449, 1983)
