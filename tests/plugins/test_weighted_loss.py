"""weighted-loss: weights by symbol, from the table, the user or the validation's errors, raised gradually."""

import dataclasses
import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ceph.config.models import FoldConfig
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph_plugins.weighted_loss import (
    NOISE_FLOOR,
    TABLE,
    WeightedLoss,
    WeightedLossConfig,
    by_error,
    by_symbol,
    effective_number,
    ramped,
    relative_noise,
)

NAN = math.nan
ERRORS = st.lists(st.floats(0, 100) | st.just(NAN), min_size=1, max_size=9)


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


def test_the_films_that_a_fold_holds_out_choose_no_weights(make_run):
    run = make_run("isbi")
    data = run.config.data.model_copy(update={"fold": FoldConfig(of=3, number=0)})
    folded = dataclasses.replace(run, config=run.config.model_copy(update={"data": data}))
    with pytest.raises(ConfigError, match=r"weights: auto learns from .* held out"):
        Hooks({"weighted-loss": made(weights="auto")}).tell("check_run", run=folded)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weights": {"S": -1}},
        {"weights": {"S": float("nan")}},
        {"other": -1},
        {"weight": {}},
        {"weights": "table"},
        {"power": -1},
        {"momentum": 1.0},
        {"max_ratio": 0.5},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        WeightedLossConfig(**wrong)


@pytest.mark.parametrize("ramp_epochs", [2, 2.0, "25%"])
def test_the_ramp_starts_at_one_and_ends_at_the_weights(make_run, batch, ramp_epochs):
    run = make_run("isbi", epochs=8)
    plugin = made(weights={"Po": 3.0}, ramp_epochs=ramp_epochs)
    for done, expected in [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (1.75, 2.75), (2.0, 3.0), (7.9, 3.0)]:
        (film, _) = weights_at(plugin, run, batch(run, epochs_done=done))
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


# --- auto -----------------------------------------------------------------------------------------------------------


def validations(plugin, run, *epochs):
    """Start a run and tell the plugin of the validation's errors in mm by symbol, an epoch for each dict."""
    hooks = Hooks({"weighted-loss": plugin})
    hooks.tell("check_run", run=run)
    hooks.tell("run_start", run=run)
    for epoch, errors in enumerate(epochs):
        hooks.tell("epoch_start", epoch=epoch, model=None)
        metrics = {} if errors is None else {"per_landmark": {s: {"mre_mm": mm} for s, mm in errors.items()}}
        hooks.tell("epoch_end", epoch=epoch, samples=run.samples, loss=None, errors_mm=None, metrics=metrics)
    hooks.tell("epoch_start", epoch=len(epochs), model=None)
    return hooks


def weights_of(hooks, run, batch):
    shape = (batch.image.shape[0], len(run.landmarks))
    return hooks.product("landmark_weights", shape, batch=batch, loss=torch.zeros(shape)).tolist()


def test_auto_starts_all_equal_and_then_goes_with_the_validation_s_error(make_run, batch):
    run = make_run(("X", "Y", "Z"))
    assert weights_of(validations(made(weights="auto"), run), run, batch(run)) == [1.0, 1.0, 1.0]
    hooks = validations(made(weights="auto", max_ratio=9), run, {"X": 1.0, "Y": 2.0, "Z": 3.0})
    assert weights_of(hooks, run, batch(run)) == pytest.approx([0.5, 1.0, 1.5])


def test_auto_smooths_over_epochs_and_keeps_the_past_where_a_validation_lacks_a_landmark(make_run):
    run = make_run(("X", "Y", "Z"))
    plugin = made(weights="auto", momentum=0.5)
    validations(plugin, run, {"X": 2.0, "Y": 4.0, "Z": None}, {"X": 4.0}, None)
    torch.testing.assert_close(plugin.error_mm, torch.tensor([3.0, 4.0, NAN], dtype=torch.float64), equal_nan=True)


def test_auto_ramps_from_one(make_run, batch):
    run = make_run(("X", "Y"))
    hooks = validations(made(weights="auto", ramp_epochs=2), run, {"X": 1.0, "Y": 2.0})
    assert weights_of(hooks, run, batch(run, epochs_done=1.0)) == pytest.approx([5 / 6, 7 / 6])
    assert weights_of(hooks, run, batch(run, epochs_done=2.0)) == pytest.approx([2 / 3, 4 / 3])


@given(ERRORS, st.floats(0, 5), st.floats(1, 20))
def test_auto_weights_have_mean_one_and_stay_within_the_ratio(errors, power, max_ratio):
    weights = by_error(torch.tensor(errors, dtype=torch.float64), power, max_ratio)
    assert (weights > 0).all()
    assert weights.mean() == pytest.approx(1.0)
    assert weights.max() / weights.min() <= max_ratio * (1 + 1e-9)


@given(st.permutations(range(5)), st.lists(st.floats(0.1, 9) | st.just(NAN), min_size=5, max_size=5), st.floats(0.1, 9))
def test_auto_weights_depend_neither_on_the_order_nor_on_the_unit(order, errors, unit):
    table = torch.tensor(errors, dtype=torch.float64)
    weights = by_error(table, 1.5, 4.0)
    torch.testing.assert_close(by_error(table[order] * unit, 1.5, 4.0), weights[order])
    assert by_error(table, 0.0, 4.0).tolist() == by_error(table, 1.5, 1.0).tolist() == [1.0] * 5


def test_a_resumed_run_goes_on_with_the_same_auto_weights(make_run, batch, tmp_path):
    run = make_run("isbi")
    errors = [{s: 1.0 + i % 3 for i, s in enumerate(run.landmarks)}, dict.fromkeys(run.landmarks[:9], 2.0)]
    hooks = validations(made(weights="auto"), run, *errors)
    torch.save(hooks.state_dict(), tmp_path / "state.pt")
    resumed = Hooks({"weighted-loss": made(weights="auto")})
    resumed.tell("run_start", run=run)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.tell("epoch_start", epoch=2, model=None)
    assert weights_of(resumed, run, batch(run)) == weights_of(hooks, run, batch(run))


def test_the_log_has_auto_weights_when_they_change_materially_and_at_the_end(make_run, caplog):
    run = make_run(("X", "Y"))
    with caplog.at_level(logging.INFO, logger="ceph"):
        hooks = validations(
            made(weights="auto", momentum=0), run, {"X": 1, "Y": 3}, {"X": 1, "Y": 3.1}, {"X": 1, "Y": 1}
        )
        hooks.tell("run_end", run=run, result=None)
    assert [record.message for record in caplog.records] == [
        "weighted-loss: epoch 1: X 1, Y 1",
        "weighted-loss: epoch 2: X 0.5, Y 1.5",
        "weighted-loss: epoch 4: X 1, Y 1",
        "weighted-loss: at the end X 1, Y 1; worth 2.0 equally weighted landmarks of 2 (Kish)",
    ]


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=9), st.floats(0.1, 10))
def test_the_effective_number_is_between_one_and_all_and_ignores_the_scale(weights, scale):
    table = torch.tensor(weights)
    assert 1 - 1e-5 <= effective_number(table) <= len(weights) + 1e-5
    assert effective_number(table * scale) == pytest.approx(effective_number(table), rel=1e-4)
    assert effective_number(torch.ones(7)) == 7


# --- readers --------------------------------------------------------------------------------------------------------


def with_readers(run, shift_px, valid=None):
    """The run, its second reader off by `shift_px` [K] px in every film; `valid` [2, K] of both."""
    points = np.zeros((2, len(shift_px), 2))
    points[1, :, 0] = shift_px
    flags = np.ones(points.shape[:2], dtype=bool) if valid is None else np.array(valid)
    points[~flags] = np.nan
    films = tuple(dataclasses.replace(s, points=points, valid=flags, mm_per_px=0.5) for s in run.samples)
    return dataclasses.replace(run, samples=films)


@given(ERRORS)
def test_relative_noise_is_one_where_unknown_and_never_below_the_floor(disagreement):
    table = torch.tensor(disagreement, dtype=torch.float64)
    found = relative_noise(table)
    assert found.isfinite().all()
    assert (found >= NOISE_FLOOR).all()
    assert (found[table.isnan()] == 1).all()


def test_noise_aware_divides_fixed_weights_by_the_disagreement_down_to_the_floor(make_run, batch):
    run = with_readers(make_run(("X", "Y", "Z")), [0, 3, 6])
    (film, _) = weights_at(made(weights={"X": 2, "Y": 3}, noise_aware=True), run, batch(run))
    assert film == pytest.approx({"X": 2 / NOISE_FLOOR, "Y": 3.0, "Z": 0.5})


def test_noise_aware_auto_weighs_the_error_relative_to_the_disagreement(make_run, batch):
    run = with_readers(make_run(("X", "Y", "Z")), [2, 4, 6])
    errors = {"X": 1.0, "Y": 2.0, "Z": 3.0}  # as hard as people find them
    hooks = validations(made(weights="auto", noise_aware=True), run, errors)
    assert weights_of(hooks, run, batch(run)) == pytest.approx([1.0, 1.0, 1.0])


def test_a_landmark_without_two_readers_is_taken_as_average_and_told(make_run, batch, caplog):
    run = with_readers(make_run(("X", "Y", "Z")), [2, 4, 6], [[True, True, True], [True, True, False]])
    with caplog.at_level(logging.INFO, logger="ceph"):
        (film, _) = weights_at(made(weights={}, noise_aware=True), run, batch(run))
    assert film == pytest.approx({"X": 3 / 2, "Y": 3 / 4, "Z": 1.0})
    assert "two readers differ by (mm) X 1.00, Y 2.00" in caplog.text
    assert "without two readers, taken as the mean disagreement: Z" in caplog.text


def test_a_set_of_one_reader_is_weighed_as_without_noise(make_run, batch):
    run = make_run("isbi")
    alone = [dataclasses.replace(s, points=s.points[:1], valid=s.valid[:1]) for s in run.samples]
    run = dataclasses.replace(run, samples=tuple(alone))
    assert weights_at(made(noise_aware=True), run, batch(run)) == weights_at(made(), run, batch(run))
