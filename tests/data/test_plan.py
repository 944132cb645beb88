"""The plan of an epoch is a pure function, the same for any number of ranks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ceph.data.plan import derive, epoch_order, plan_epoch, steps_per_epoch

BASE = {"seed": 3, "size": (64, 48)}


@given(films=st.integers(1, 60), batch=st.integers(1, 16), seed=st.integers(0, 2**40), epoch=st.integers(0, 100))
def test_a_plain_epoch_draws_each_film_at_most_once_in_full_batches(films, batch, seed, epoch):
    plan = plan_epoch(films, batch, seed=seed, epoch=epoch, size=(64, 48))
    drawn = [entry.film for one in plan.batches for entry in one]
    assert len(drawn) == len(set(drawn)) == max(films // batch * batch, min(films, batch))
    assert {len(one) for one in plan.batches} == {min(films, batch)}
    assert plan == plan_epoch(films, batch, seed=seed, epoch=epoch, size=(64, 48))


def test_epochs_and_seeds_differ():
    plans = {plan_epoch(20, 4, seed=s, epoch=e, size=(64, 48)) for s in (0, 1) for e in (0, 1, 2)}
    assert len(plans) == 6


def test_equal_weights_are_a_plain_permutation():
    assert (epoch_order(30, np.full(30, 0.3), 5, 2) == epoch_order(30, None, 5, 2)).all()


def test_films_are_drawn_in_proportion_to_their_weights():
    weights = np.array([0.0, 1.0, 3.0])
    drawn = np.concatenate([epoch_order(3, weights, 0, epoch) for epoch in range(2000)])
    share = np.bincount(drawn, minlength=3) / len(drawn)
    assert share[0] == 0
    assert abs(share[2] - 0.75) < 0.02


@given(ranks=st.integers(1, 5), start=st.integers(0, 3))
def test_ranks_share_one_plan(ranks, start):
    plan = plan_epoch(40, 8, epoch=1, **BASE)
    parts = [plan.part(rank, ranks, start) for rank in range(ranks)]
    for index, whole in enumerate(plan.batches[start:]):
        assert sorted(entry for part in parts for entry in part[index]) == sorted(whole)


def test_a_film_drawn_twice_gets_two_seeds():
    plan = plan_epoch(4, 4, epoch=0, weights=np.array([1.0, 0, 0, 0.0001]), **BASE)
    seeds = [entry.seed for one in plan.batches for entry in one]
    assert len(set(seeds)) == 4


def test_constant_pixels_puts_fewer_films_into_a_larger_batch():
    def shape(index):
        return (128, 96) if index % 2 else (64, 48)

    plan = plan_epoch(40, 8, epoch=0, batch_shape=shape, constant_pixels=True, **BASE)
    assert [len(one) for one in plan.batches] == [8, 2, 8, 2, 8, 2, 8, 2]
    assert {(entry.size, len(one)) for one in plan.batches for entry in one} == {((64, 48), 8), ((128, 96), 2)}


def test_derived_seeds_tell_their_parts_apart():
    assert derive("a", "bc") != derive("ab", "c")
    assert derive("plan", 0) == 2824737674170873746  # golden: another value would change every run


def test_accumulation_shortens_an_epoch():
    assert steps_per_epoch(130, 8, 1) == 16
    assert steps_per_epoch(130, 8, 4) == 4
    assert steps_per_epoch(3, 8, 1) == 1


def test_a_plan_counts_its_films_and_pixels():
    plan = plan_epoch(
        10, 4, **BASE | {"epoch": 0}, batch_shape=lambda i: (32, 48) if i else (64, 48), constant_pixels=True
    )
    assert [len(batch) for batch in plan.batches] == [4]
    assert (plan.films, plan.pixels) == (4, 4 * 64 * 48)


@given(
    films=st.integers(1, 30),
    others=st.integers(1, 30),
    batch=st.integers(1, 12),
    share=st.floats(0, 0.95),
    epoch=st.integers(0, 9),
)
def test_each_batch_holds_its_share_of_unmarked_films_and_an_epoch_is_one_pass_over_the_marked(
    films, others, batch, share, epoch
):
    base = {"seed": 1, "epoch": epoch, "size": (64, 48)}
    plan = plan_epoch(films, batch, unmarked=others, unmarked_share=share, **base)
    beside = min(batch - 1, round(share * batch))
    marked = [entry.film for one in plan.batches for entry in one if entry.film < films]
    unmarked = [entry.film - films for one in plan.batches for entry in one if entry.film >= films]
    assert marked == [e.film for one in plan_epoch(films, batch - beside, **base).batches for e in one]
    assert len(unmarked) == beside * len(plan.batches)
    for start in range(0, len(unmarked), others):  # a permutation, and another one
        part = unmarked[start : start + others]
        assert len(set(part)) == len(part)
        assert set(part) <= set(range(others))
    seeds = [entry.seed for one in plan.batches for entry in one]
    assert len(set(seeds)) == len(seeds)


def test_unmarked_films_come_in_another_order_each_epoch():
    orders = {
        tuple(e.film for one in plan_epoch(8, 4, epoch=n, unmarked=8, unmarked_share=0.5, **BASE).batches for e in one)
        for n in range(3)
    }
    assert len(orders) == 3
