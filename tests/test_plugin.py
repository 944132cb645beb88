"""The public door: what it offers, and random numbers that depend on their keys alone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ceph.plugin as door
from ceph.errors import ConfigError

NUMBERS = st.lists(st.floats(0, 100) | st.just(math.nan), min_size=1, max_size=9)


def test_every_name_of_the_door_is_there_once_and_sorted_as_written():
    assert len(set(door.__all__)) == len(door.__all__)
    assert [name for name in door.__all__ if not hasattr(door, name)] == []


def test_a_generator_depends_on_its_keys_alone():
    def draw(*keys):
        return door.generator(*keys).random(3).tolist()

    assert draw(1, "ohkm", 2) == draw(1, "ohkm", 2)
    assert len({tuple(draw(*keys)) for keys in [(1, "a"), (1, "b"), (2, "a"), ("1a",), (1, "a", 0)]}) == 5


@given(NUMBERS, st.data())
def test_a_moving_average_moves_towards_what_is_new(past, data):
    new = data.draw(st.lists(st.floats(0, 100) | st.just(math.nan), min_size=len(past), max_size=len(past)))
    found = door.moving_average(torch.tensor(past), torch.tensor(new), 0.7).tolist()
    for before, now, mixed in zip(past, new, found, strict=True):
        known = [x for x in (before, now) if not math.isnan(x)]
        assert math.isnan(mixed) if not known else min(known) - 1e-4 <= mixed <= max(known) + 1e-4


def test_a_moving_average_keeps_its_share_of_the_past():
    past, new = torch.tensor([1.0, math.nan, 3.0]), torch.tensor([3.0, 5.0, math.nan])
    assert door.moving_average(past, new, 0.75).tolist() == [1.5, 5.0, 3.0]


def test_loading_what_is_no_run_is_an_error_that_says_so(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        door.load(tmp_path)
