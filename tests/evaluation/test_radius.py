"""Radii hold as often as they say, on films that they were not learned from."""

from __future__ import annotations

import numpy as np
import pytest

from ceph.evaluation.difficulty import apart_mm, difficulty
from ceph.evaluation.difficulty import learn as learn_shape
from ceph.evaluation.radius import LEVELS, coverage, held_out_radii, learn, learn_of_few

LANDMARKS = tuple("abcdef")


def drawn(films, seed=0):
    """Errors [N, 6] in mm, of landmarks that are hard and easy, and how hard each point was; films differ, too."""
    rng = np.random.default_rng(seed)
    hard = np.exp(rng.normal(0, 0.4, (films, len(LANDMARKS)))) * np.exp(rng.normal(0, 0.2, (films, 1)))
    return rng.rayleigh(np.linspace(0.5, 2, len(LANDMARKS)), hard.shape) * hard, hard


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_radii_cover_new_films_as_often_as_they_say(level):
    covered = []
    for seed in range(8):
        errors, hard = drawn(160, seed)
        radii = learn(errors[:60], hard[:60]).radii_mm(hard[60:], level)
        covered.append((errors[60:] <= radii).mean())
    assert level - 0.015 < np.mean(covered) < level + 0.03  # few films make radii a little too wide


def test_each_landmark_is_covered_and_hard_points_have_large_radii():
    errors, hard = drawn(300)
    radii = learn(errors[:150], hard[:150]).radii_mm(hard[150:])
    found = coverage(errors[150:], radii, LANDMARKS)
    assert all(82 < row["covered_percent"] < 97 for row in found["per_landmark"].values())
    assert found["per_landmark"]["f"]["mean_radius_mm"] > 2 * found["per_landmark"]["a"]["mean_radius_mm"]
    assert found["large"]["in_largest_tenth_percent"] > 30


def test_few_films_give_wide_radii_and_too_few_none():
    errors, hard = drawn(40)
    few, many = (learn(errors[:n], hard[:n]).factors for n in (12, 40))
    assert np.isfinite(few).all()
    assert few[:, -1].mean() < 3 * many[:, -1].mean()
    assert learn(errors[:9], hard[:9]) is None


def test_the_quantile_of_n_films_has_the_rank_of_one_film_more():
    errors = np.arange(1.0, 20.0)[:, None]  # 19 films of one landmark: 0.9 * 20 is the 18th
    found = learn(errors, np.ones((19, 1)))
    assert found.radii_mm(np.ones((1, 1)), 0.9)[0, 0] == pytest.approx(18.0)


@pytest.mark.parametrize(("elsewhere", "apart"), [(learn(*drawn(400, 1000)), 0.04), (None, 0.2)])
def test_few_films_widen_radii_from_elsewhere_and_these_hold_on_average_over_such_sets(elsewhere, apart):
    covered = []
    for seed in range(100):
        errors, hard = drawn(45, seed)
        errors *= 1.5
        errors[:5, 3] = np.nan
        radii = learn_of_few(errors[:5], hard[:5], elsewhere).radii_mm(hard[5:])
        assert np.isnan(radii[:, 3]).all()
        covered.append(np.delete(errors[5:] <= radii, 3, axis=1).mean(axis=0))
    assert 0.87 < np.mean(covered) < 0.92
    assert np.abs(np.mean(covered, axis=0) - 0.9).max() < apart
    assert learn_of_few(errors[:3], hard[:3], None) is None


def test_a_landmark_without_truth_has_no_radius_and_a_level_that_is_not_known_is_refused():
    errors, hard = drawn(30)
    errors[:, 2] = np.nan
    radii = learn(errors, hard)
    assert np.isnan(radii.radii_mm(hard)[:, 2]).all()
    assert np.isfinite(np.delete(radii.radii_mm(hard), 2, axis=1)).all()
    with pytest.raises(ValueError, match="levels from"):
        radii.radii_mm(hard, LEVELS[-1] + 0.005)


def test_held_out_radii_of_a_film_do_not_depend_on_its_own_error():
    errors, hard = drawn(40)
    before = held_out_radii(errors, hard, np.arange(40))
    errors[7] = 100
    assert np.array_equal(held_out_radii(errors, hard, np.arange(40))[7], before[7])


def heads(films, seed=0, scatter=0.8):
    """Truth [N, 6, 2] in mm: a hexagon, turned, scaled and shifted, its first two points bound to each other."""
    rng = np.random.default_rng(seed)
    angle = np.arange(6) * np.pi / 3
    shape = 40 * np.stack([np.cos(angle), np.sin(angle) * 1.3], -1) + rng.normal(0, scatter, (films, 6, 2))
    shape[:, 1] += 3 * rng.normal(size=(films, 1)) * [[1, 0]]
    turn = rng.normal(0, 0.1, films)
    matrix = np.stack([np.stack([np.cos(turn), -np.sin(turn)], -1), np.stack([np.sin(turn), np.cos(turn)], -1)], -2)
    return shape @ matrix * np.exp(rng.normal(0, 0.05, films))[:, None, None] + rng.uniform(50, 90, (films, 1, 2))


def test_a_point_out_of_its_place_is_apart_from_where_the_others_put_it_however_the_head_lies():
    truth = heads(80)
    points = truth.copy()
    points[3, 4] += [0, 12]
    apart = apart_mm(points, truth, np.arange(80))
    assert np.median(apart) < 2.5
    assert apart[3, 4] > 7
    assert apart[3].argmax() == 4
    shape = learn_shape(truth)
    assert shape.apart_mm(points[:5] @ [[0, 1], [-1, 0]] + 7) == pytest.approx(shape.apart_mm(points[:5]), abs=1e-6)


def test_a_landmark_that_was_never_marked_says_nothing():
    truth = heads(30)
    truth[:, 5] = np.nan
    shape = learn_shape(truth)
    assert (shape.apart_mm(heads(4))[:, 5] == 0).all()
    nothing = learn_shape(np.full((3, 6, 2), np.nan))
    assert (difficulty(np.ones((4, 6)), np.full((4, 6), 2.0), nothing.apart_mm(heads(4))) == 2).all()


def test_of_two_points_alike_the_one_of_the_lower_score_is_the_harder():
    assert difficulty(np.array([[1.0, 0.5, 0.0]]), np.full((1, 3), 2.0), np.zeros((1, 3))).tolist() == [[2, 3, 4]]
