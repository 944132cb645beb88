"""Intervals that cover, alarms that are rare, films and seeds that count once."""

from __future__ import annotations

import itertools
import math
import runpy
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceph.evaluation.statistics import estimate as estimate_terms
from ceph.evaluation.statistics import estimate_many, holm, share_seeds, t_quantile

CHECK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "check_statistics.py"))
coverage, false_alarms, simulate = (CHECK[name] for name in ("coverage", "false_alarms", "simulate"))
RNG = np.random.default_rng
FILMS = np.arange(12)


def estimate(differences, weights, units, **more):
    return estimate_terms([differences], weights, units, **more)


def some(seeds=1, films=12, seed=0):
    return 0.2 + RNG(seed).standard_normal((seeds, films))


def test_the_value_is_the_weighted_mean_over_films_and_seeds():
    differences, weights = some(seeds=3), np.arange(12.0)
    assert estimate(differences, weights, FILMS).value == pytest.approx(
        np.average(differences.mean(axis=0), weights=weights)
    )


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_shift_and_a_scale_of_all_differences_move_the_interval_with_them(seeds):
    before, after = (estimate(5 * some(seeds) + shift, np.ones(12), FILMS) for shift in (0, 3))
    unit = estimate(some(seeds), np.ones(12), FILMS)
    assert (after.low, after.high) == pytest.approx((before.low + 3, before.high + 3))
    assert (before.low, before.high) == pytest.approx((5 * unit.low, 5 * unit.high))
    assert before.p == unit.p


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_film_that_stands_there_four_times_counts_once(seeds):
    once = estimate(some(seeds), np.ones(12), FILMS)
    joined = estimate(np.tile(some(seeds), 4), np.ones(48), np.tile(FILMS, 4))
    apart = estimate(np.tile(some(seeds), 4), np.ones(48), np.arange(48))
    assert (joined.low, joined.high, joined.p) == pytest.approx((once.low, once.high, once.p))
    assert apart.high - apart.low < once.high - once.low


def test_films_without_weight_are_not_looked_at():
    differences = some(films=14)
    differences[:, 12:] = 1e6
    weights = np.r_[np.ones(12), 0, 0]
    assert estimate(differences, weights, np.arange(14)) == estimate(differences[:, :12], np.ones(12), FILMS)
    with pytest.raises(ValueError, match="weight"):
        estimate(some(), np.zeros(12), FILMS)


def test_nothing_follows_from_the_same_run_twice_nor_from_a_single_film():
    assert estimate(np.zeros((3, 12)), np.ones(12), FILMS) == estimate(np.zeros((1, 12)), np.ones(12), FILMS)
    same = estimate(np.zeros((1, 12)), np.ones(12), FILMS)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    alone = estimate(np.ones((1, 12)), np.ones(12), np.zeros(12, int))
    assert (alone.value, alone.low, alone.high, alone.p) == (1, -math.inf, math.inf, 1)


def test_the_sign_flip_test_is_that_of_all_signs():
    # Of the 32 signs of five films that all gain, two are as extreme as what was seen.
    assert estimate(np.array([[1.0, 1.1, 0.9, 1.2, 0.8]]), np.ones(5), np.arange(5)).p == 2 / 32


@pytest.mark.parametrize("seeds", range(1, 9))
@pytest.mark.parametrize("differ", [1, 4, 6])
def test_the_test_of_few_films_that_differ_is_exact_with_every_number_of_seeds(seeds, differ):
    base = np.full((seeds, 128), 80.0)
    other = base.copy()
    other[:, :differ] += 5  # every seed says the same
    found = estimate_terms([-base, other], np.ones(128), np.arange(128), step=5 / 128)
    assert found.p == 2 / 2**differ
    assert (found.low > 0) == (differ == 6)


def test_other_films_in_each_seed_leave_no_interval_without_width():
    base, other = np.zeros((2, 2, 128))
    other[0, :4] = other[1, 4:8] = 5  # the seeds agree on the mean, and on no film
    for step in (0.0, 5 / 128):
        found = estimate_terms([-base, other], np.ones(128), np.arange(128), step=step)
        assert found.high - found.low > found.value / 2
        assert found.p >= 2 / 2**8


def test_counts_that_no_film_changed_may_change_by_a_point_or_two():
    same = np.full((2, 128), 97.5)
    found = estimate_terms([-same, same], np.ones(128), np.arange(128), step=0.04)
    assert (found.value, found.p) == (0, 1)
    assert 0.04 < found.high == -found.low < 0.12


def test_seeds_of_two_configs_need_not_be_as_many_and_one_alone_says_nothing_of_seeds():
    rng = RNG(0)
    two, five, one = (0.05 * rng.standard_normal((s, 40)) + 0.3 * rng.standard_normal((s, 1)) for s in (2, 5, 1))
    width = {}
    for name, terms in {"both": [two, five], "alone": [one, five]}.items():
        found = estimate_terms(terms, np.ones(40), np.arange(40))
        width[name] = found.high - found.low
    assert width["alone"] < width["both"] / 5


def test_seeds_are_taken_together_where_they_go_astray_on_the_same_films():
    rng = RNG(0)
    training, other = rng.standard_normal((2, 3, 50))
    assert share_seeds([-training, training + 0.3 * other])
    assert not share_seeds([-training, other])
    assert not share_seeds([-training, training[:2]])
    assert not share_seeds([-training[:1], training[:1]])


def test_seeds_that_disagree_show_nothing_however_many_the_films():
    luck = np.array([[0.3], [0.5], [-0.35]])
    seeds = luck + 0.1 * RNG(0).standard_normal((3, 500))
    together = estimate(seeds, np.ones(500), np.arange(500))
    assert together.low < 0 < together.high
    assert together.p > 0.05
    first = estimate(seeds[:1], np.ones(500), np.arange(500))
    assert first.low > 0


def test_many_at_once_are_the_same_as_one_at_a_time():
    whole = RNG(0).standard_normal((70, 3, 12))
    for one, many in zip(whole, estimate_many([whole], np.ones(12), FILMS), strict=True):
        alone = estimate(one, np.ones(12), FILMS)
        assert (many.low, many.high, many.p) == pytest.approx((alone.low, alone.high, alone.p))


def test_twenty_nine_landmarks_of_three_seeds_and_128_films_take_about_a_second():
    differences = RNG(0).standard_normal((30, 3, 128))
    began = time.process_time()
    for of_landmark in differences:
        estimate_terms([-of_landmark, of_landmark[::-1]], np.ones(128), np.arange(128))
    assert time.process_time() - began < 3


@pytest.mark.parametrize(("freedom", "level", "t"), [(1, 0.95, 12.7062), (2, 0.95, 4.30265), (4, 0.99, 4.60409)])
def test_the_quantiles_of_student_s_t(freedom, level, t):
    assert t_quantile(freedom, level) == pytest.approx(t, rel=1e-5)


def test_holm_s_steps():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_keeps_the_order_and_never_flatters(p):
    adjusted = holm(p)
    assert all(raw <= new <= 1 for raw, new in zip(p, adjusted, strict=True))
    order = sorted(range(len(p)), key=lambda i: p[i])
    assert all(adjusted[i] <= adjusted[j] for i, j in itertools.pairwise(order))


QUICK = [
    ("t", {"seeds": 1, "films": 20, "twins": 4, "luck": 0.0}),
    ("lognormal", {"seeds": 2, "films": 20, "twins": 4, "luck": 0.1}),
    ("t", {"seeds": 3, "films": 128, "twins": 0, "luck": 0.3}),
    ("ties", {"seeds": 5, "films": 20, "twins": 0, "luck": 0.0}),
    ("SDR", {"seeds": 2, "films": 128, "twins": 19, "luck": 0.1}),
    ("paired", {"seeds": 3, "films": 20, "twins": 0, "luck": 0.1}),
]


@pytest.mark.parametrize(("figure", "scenario"), QUICK, ids=lambda s: s if isinstance(s, str) else "")
def test_the_interval_covers_a_known_effect(figure, scenario):
    # Of 500 draws, a true 95 % is outside of these bounds about once in 500 tests.
    assert 0.92 <= coverage(RNG(0), figure, draws=500, **scenario) / 500 <= 0.985


@pytest.mark.parametrize("seeds", [1, 2, 3, 8])
def test_few_points_that_change_are_covered_at_least_as_often(seeds):
    luck = 0.1 if seeds > 1 else 0.0
    assert coverage(RNG(0), "few", draws=500, seeds=seeds, films=128, twins=19, luck=luck) >= 460


def covered(terms, units, truth):
    found = estimate_many(terms, np.ones(len(units)), units, resamples=499)
    return np.mean([e.low <= truth <= e.high for e in found])


def test_an_interval_that_ignores_seeds_or_repeats_would_not_cover():
    truth = -0.1 * 1.2 * math.exp(0.4**2 / 2)
    lucky, units, _ = simulate(RNG(0), "t", draws=300, seeds=3, films=128, twins=0, luck=0.3)
    assert covered([term.mean(axis=1, keepdims=True) for term in lucky], units, truth) < 0.6
    repeated, units, _ = simulate(RNG(0), "t", draws=300, seeds=1, films=40, twins=20, luck=0.0)
    assert covered(repeated, np.arange(40), truth) < 0.9 < covered(repeated, units, truth)


@pytest.mark.parametrize("figure", ["lognormal", "ties", "SDR", "few"])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_false_alarms_over_many_figures_are_rare(figure, seeds):
    # 14 of 150 draws would be beyond what a true 5 % gives once in 100 tests.
    luck = 0.1 if seeds > 1 else 0.0
    assert false_alarms(RNG(0), figure, draws=150, seeds=seeds, films=20, twins=4, luck=luck, own=0.5) <= 14


@pytest.mark.slow
@pytest.mark.parametrize("seeds", range(1, 9))
@pytest.mark.parametrize("figure", CHECK["FIGURES"])
def test_intervals_cover_and_alarms_are_rare_in_every_scenario(figure, seeds):
    # 93-97 %, and what 1,000 draws may add at its ends; counts of a few points and gross errors have their own words.
    low, high = (0.90 if figure == "gross" else 0.92), (1.0 if figure == "few" else 0.985)
    for i, scenario in enumerate(CHECK["scenarios"](seeds)):
        assert low <= coverage(RNG((seeds, i)), figure, draws=1000, **scenario) / 1000 <= high
        if figure != "gross":
            assert false_alarms(RNG((seeds, i)), figure, draws=500, **scenario) <= 40


def test_five_films_have_no_interval_of_95_percent_and_six_have():
    rng = np.random.default_rng(3)
    assert not np.isfinite(estimate(rng.normal(size=(1, 5)), np.ones(5), np.arange(5)).low)
    assert np.isfinite(estimate(rng.normal(size=(1, 6)), np.ones(6), np.arange(6)).low)
