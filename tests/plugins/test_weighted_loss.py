"""weighted-loss: weights by symbol, from the table or from the user, raised gradually."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph_plugins.weighted_loss import TABLE, WeightedLoss, WeightedLossConfig, by_symbol, ramped


def weights_at(plugin, run, batch):
    hooks = Hooks({"weighted-loss": plugin})
    hooks.tell("check_run", run=run)
    hooks.tell("run_start", run=run)
    shape = (batch.image.shape[0], len(run.landmarks))
    found = hooks.product("landmark_weights", shape, batch=batch, loss=torch.zeros(shape)).expand(shape)
    hooks.check()
    return [dict(zip(run.landmarks, row.tolist(), strict=True)) for row in found]


def made(**settings):
    return WeightedLoss(WeightedLossConfig(**settings))


@pytest.fixture
def batch(make_batch):
    return lambda run, **at: make_batch(torch.ones(2, len(run.landmarks), dtype=torch.bool), **at)


@pytest.mark.parametrize(("landmarks", "raised"), [("isbi", 4), ("aariz", 10)])
def test_by_default_the_table_weighs_the_landmarks_that_the_set_has(make_run, batch, landmarks, raised):
    run = make_run(landmarks)
    for film in weights_at(WeightedLoss(), run, batch(run)):
        assert film == pytest.approx({symbol: TABLE.get(symbol, 1.0) for symbol in run.landmarks})
        assert sum(weight > 1 for weight in film.values()) == raised


def test_the_users_weights_replace_the_table(make_run, batch):
    run = make_run("isbi")
    (film, _) = weights_at(made(weights={"Po": 3, "S": 0}, other=0.5), run, batch(run))
    assert film == {symbol: {"Po": 3.0, "S": 0.0}.get(symbol, 0.5) for symbol in run.landmarks}


def test_a_set_without_any_of_the_table_is_weighed_evenly_and_told(make_run, batch, caplog):
    run = make_run(("X", "Y"))
    with caplog.at_level(logging.INFO, logger="ceph"):
        (film, _) = weights_at(WeightedLoss(), run, batch(run))
    assert film == {"X": 1.0, "Y": 1.0}
    assert "no landmark of this set is in the table" in caplog.text
    assert "weighted-loss: X 1, Y 1" in caplog.text


def test_unknown_symbols_are_refused_all_at_once_with_the_nearest_name(make_run):
    hooks = Hooks({"weighted-loss": made(weights={"pog": 2, "Go": 2, "UMTT": 2})})
    with pytest.raises(ConfigError) as found:
        hooks.tell("check_run", run=make_run("aariz"))
    assert str(found.value) == (
        "plugins.weighted-loss.weights.pog: the data set has no landmark 'pog'\n  hint: did you mean 'Pog'?\n"
        "plugins.weighted-loss.weights.UMTT: the data set has no landmark 'UMTT'\n  hint: did you mean 'UMT'?"
    )


def test_weights_that_leave_nothing_to_train_are_refused(make_run):
    with pytest.raises(ConfigError, match=r"plugins\.weighted-loss\.weights: every landmark weighs 0"):
        Hooks({"weighted-loss": made(other=0, weights={"S": 0})}).tell("check_run", run=make_run("isbi"))


@pytest.mark.parametrize(
    "wrong", [{"weights": {"S": -1}}, {"weights": {"S": float("nan")}}, {"other": -1}, {"weight": {}}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        WeightedLossConfig(**wrong)


def test_the_ramp_starts_at_one_and_ends_at_the_weights(make_run, batch):
    run = make_run("isbi", steps_per_epoch=4)
    plugin = made(weights={"Po": 3.0}, ramp_epochs=2)
    for step, expected in [(0, 1.0), (2, 1.5), (4, 2.0), (7, 2.75), (8, 3.0), (100, 3.0)]:
        (film, _) = weights_at(plugin, run, batch(run, epoch=step // 4, step=step))
        assert film["Po"] == pytest.approx(expected)
        assert film["S"] == 1.0


@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=5), st.floats(0, 9), st.floats(0, 9))
def test_a_ramp_stays_between_one_and_the_weights(weights, done, epochs):
    target = torch.tensor(weights)
    found = ramped(target, done, epochs)
    assert (found >= target.clamp(max=1) - 1e-6).all()
    assert (found <= target.clamp(min=1) + 1e-5).all()
    if done >= epochs:
        assert torch.equal(found, target)


def test_weights_stand_in_the_order_of_the_landmarks():
    assert by_symbol(("b", "a", "c"), {"a": 2.0, "b": 3.0}, 1.0).tolist() == [3.0, 2.0, 1.0]
