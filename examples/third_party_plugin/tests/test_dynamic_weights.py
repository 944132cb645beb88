"""dynamic-weights keeps the rules of plugins, and weighs slow landmarks more."""

import math
from types import SimpleNamespace

import pytest
import torch
from ceph.testing import checks

from dynamic_weights import DynamicWeights, DynamicWeightsConfig, dynamic_weights

# `neutral`: settings with which training must be the same, bit for bit, as without the plugin.
CHECKS = checks(DynamicWeights, name="dynamic-weights", neutral={"warmup_epochs": 1000})


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_conformance(check):
    check()


def test_the_landmark_that_improves_least_weighs_most_and_the_mean_is_one():
    weights = dynamic_weights(torch.tensor([1.0, 2.0, 2.2]), torch.tensor([2.0, 2.0, 2.0]), temperature=2.0)
    assert weights.argsort().tolist() == [0, 1, 2]
    assert weights.mean().item() == pytest.approx(1)
    assert (weights[1] / weights[0]).item() == pytest.approx(math.exp((1 - 0.5) / 2))


def test_a_lower_temperature_tells_landmarks_further_apart():
    errors = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0])
    assert dynamic_weights(*errors, temperature=0.5).std() > dynamic_weights(*errors, temperature=2.0).std()


def test_a_landmark_without_a_known_error_counts_as_unchanged():
    weights = dynamic_weights(torch.tensor([math.nan, 2.0, 1.0]), torch.tensor([1.0, 2.0, 0.0]), temperature=2.0)
    torch.testing.assert_close(weights, torch.ones(3))


def test_two_epochs_must_be_known():
    plugin = DynamicWeights(DynamicWeightsConfig(temperature=1.0))
    plugin.run_start(SimpleNamespace(epochs=10))
    batch, loss = SimpleNamespace(epochs_done=2.0), torch.ones(1, 2)
    assert plugin.landmark_weights(batch, loss) is None
    plugin.epoch_end(torch.tensor([[2.0, 2.0]]))
    plugin.epoch_end(torch.tensor([[1.0, 2.0], [math.nan, math.nan]]))
    slow, fast = plugin.landmark_weights(batch, loss)[[1, 0]].tolist()
    assert slow > fast
