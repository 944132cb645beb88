"""The rate starts low, reaches what was asked for, and ends at nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ceph.training.optim import adamw, initial_rates, set_rates, warmup_cosine


def test_the_warm_up_starts_low_and_ends_at_the_set_rate():
    factor = warmup_cosine(20, 2)
    assert factor(0) == pytest.approx(0.01)
    assert factor(1) == pytest.approx(0.505)
    assert factor(2) == pytest.approx(1.0)
    assert factor(11) == pytest.approx(0.5)
    assert factor(20) == pytest.approx(0.0)


def test_a_warm_up_longer_than_the_run_is_cut_to_it():
    assert warmup_cosine(3, 10)(2.999) == pytest.approx(1.0, abs=1e-3)


@given(epochs=st.integers(1, 100), warmup=st.floats(0, 10), done=st.floats(0, 100))
def test_the_factor_is_always_between_0_and_1(epochs, warmup, done):
    assert 0 <= warmup_cosine(epochs, warmup)(min(done, epochs)) <= 1 + 1e-9


def test_norms_and_biases_do_not_decay():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = adamw(model, 1e-3, 0.1)
    decay = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    assert decay == {id(model[0].weight)}


def test_each_group_keeps_its_own_rate():
    parts = [torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)]
    optimizer = torch.optim.SGD([{"params": parts[:1], "lr": 1.0}, {"params": parts[1:], "lr": 0.1}])
    rates = initial_rates(optimizer)
    set_rates(optimizer, rates, 0.5)
    set_rates(optimizer, rates, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.5, 0.05])
