"""Whatever is planned: films in range, sizes as asked, ranks that share every batch, and the same plan again."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from ceph.data.plan import epoch_order, plan_epoch

WEIGHTS = st.lists(st.floats(0, 1e12) | st.just(0.0), min_size=1, max_size=40).filter(lambda w: sum(w) > 0)


@given(
    films=st.integers(1, 60),
    batch=st.integers(1, 17),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 10**6),
    ranks=st.integers(1, 5),
    start=st.integers(0, 9),
    sides=st.lists(st.integers(32, 2048), min_size=2, max_size=6),
    constant=st.booleans(),
)
def test_any_plan_is_whole_repeats_itself_and_is_shared_by_all_ranks(
    films, batch, seed, epoch, ranks, start, sides, constant
):
    def shape(index):
        return sides[index % len(sides)], sides[(index + 1) % len(sides)]

    def plan():
        return plan_epoch(
            films, batch, seed=seed, epoch=epoch, size=(256, 256), batch_shape=shape, constant_pixels=constant
        )

    found = plan()
    assert found == plan()
    drawn = [entry.film for one in found.batches for entry in one]
    assert len(drawn) == len(set(drawn)) == found.films <= films  # no weights: no film twice
    assert all(0 <= film < films for film in drawn)
    assert len({entry.seed for one in found.batches for entry in one}) == len(drawn)
    for index, one in enumerate(found.batches):
        assert one
        assert {entry.size for entry in one} == {shape(index)}
    parts = [found.part(rank, ranks, start) for rank in range(ranks)]
    for index, one in enumerate(found.batches[start:]):
        assert {entry for part in parts for entry in part[index]} == set(one)


@given(weights=WEIGHTS, seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
@example(weights=[0.0, 5e-324, 0.0], seed=0, epoch=0)
def test_any_weights_draw_each_film_as_often_as_its_chance_says_up_or_down_to_a_whole_number(weights, seed, epoch):
    table = np.array(weights)
    order = epoch_order(len(weights), table, seed, epoch)
    assert np.array_equal(order, epoch_order(len(weights), table, seed, epoch))
    expected = table / table.sum() * len(weights)
    counts = np.bincount(order, minlength=len(weights))
    assert counts.sum() == len(weights)
    assert (np.abs(counts - expected) < 1 + 1e-6).all()
