"""Intervals: they hold what they promise, know that errors go together, follow the radii, and are left out in doubt."""

from __future__ import annotations

import numpy as np
import pytest
from tests.measuring.test_values import HEAD, POINTS

from ceph.measuring.interval import Errors, ends, errors_from, intervals, moved
from ceph.measuring.table import built_in

LANDMARKS = tuple(HEAD)
NAMES = ("SNA", "ANB", "FMA", "U1-L1", "S-Go to N-Me", "Go-Me")
MEASURES = [lambda p, one=one: one.formula.of(p, LANDMARKS) for one in built_in() if one.name in NAMES]
UNKNOWN = np.full((1, len(LANDMARKS)), np.nan)


def readings(rng, films, covariance=0.5):
    """True points of heads of many sizes, and found ones whose errors go together and have a bias and heavy tails."""
    true = POINTS * rng.uniform(0.9, 1.1, (films, 1, 1)) + rng.normal(size=(films, *POINTS.shape)) * 2
    own, shared = rng.standard_t(4, (films, *POINTS.shape)), rng.normal(size=(films, 1, 2))
    return true, true + 1.2 * (np.sqrt(1 - covariance) * own + np.sqrt(covariance) * shared) + 0.3


def test_ninety_percent_of_true_values_lie_in_the_interval():
    rng = np.random.default_rng(3)
    errors = errors_from(*readings(rng, 150)[::-1], LANDMARKS)
    true, found = readings(rng, 400)
    low, high = intervals(MEASURES, found, np.full(found.shape[:2], np.nan), errors)
    values = np.stack([measure(true) for measure in MEASURES], axis=-1)
    held = ((low <= values) & (values <= high)).mean(axis=0)
    assert np.all((held > 0.85) & (held < 0.95)), held
    assert 0.88 < held.mean() < 0.92


def test_points_that_are_off_together_leave_an_angle_as_it_is():
    together = errors_from(POINTS + np.arange(30.0)[:, None, None], np.repeat(POINTS[None], 30, axis=0), LANDMARKS)
    low, high = intervals(MEASURES, POINTS[None], UNKNOWN, together)
    assert np.allclose(low, high)


def test_an_interval_grows_with_the_radii():
    true, found = readings(np.random.default_rng(5), 60)
    errors = errors_from(found, true, LANDMARKS)
    usual = errors.usual * np.sqrt(((POINTS - POINTS.mean(axis=0)) ** 2).sum(axis=1).mean())
    widths = []
    for radius in (UNKNOWN, usual[None], 2 * usual[None]):
        low, high = intervals(MEASURES, POINTS[None], radius, errors)
        widths.append(high - low)
    assert np.allclose(widths[0], widths[1])
    assert np.all(widths[2] > 1.6 * widths[0])


def test_radii_alone_draw_points_of_which_ninety_percent_lie_within():
    radius = np.full((1, len(LANDMARKS)), 3.0)
    there = moved(POINTS[None], radius, None)
    inside = np.linalg.norm(there - POINTS, axis=-1) < 3
    assert 0.89 < inside.mean() < 0.91
    assert np.array_equal(there, moved(POINTS[None], radius, None))
    low, high = intervals(MEASURES, POINTS[None], radius, None)
    assert np.all(low < high)


def test_without_enough_films_or_without_a_landmark_there_is_no_interval():
    true, found = readings(np.random.default_rng(6), 18)
    few = errors_from(found, true, LANDMARKS)
    assert np.isnan(intervals(MEASURES, POINTS[None], UNKNOWN, few)).all()
    assert np.isnan(intervals(MEASURES, POINTS[None], UNKNOWN, None)).all()
    true, found = readings(np.random.default_rng(6), 40)
    true[:, LANDMARKS.index("A")] = np.nan
    low, _ = intervals(MEASURES, POINTS[None], UNKNOWN, errors_from(found, true, LANDMARKS))
    assert np.isnan(low).tolist()[0] == [name in ("SNA", "ANB") for name in NAMES_IN_ORDER]
    none = Errors(np.zeros((0, len(LANDMARKS), 2)), np.full(len(LANDMARKS), np.nan))
    assert np.isnan(intervals(MEASURES, POINTS[None], UNKNOWN, none)).all()


NAMES_IN_ORDER = [one.name for one in built_in() if one.name in NAMES]


@pytest.mark.parametrize(("count", "expected"), [(19, (0.0, 18.0)), (39, (1.0, 37.0)), (18, (np.nan, np.nan))])
def test_the_ends_leave_a_twentieth_on_either_side(count, expected):
    assert np.array_equal(ends(np.arange(float(count))[::-1][None]), np.array(expected)[:, None], equal_nan=True)
