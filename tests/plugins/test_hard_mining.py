"""hard-mining: hard films are drawn more often, only the hardest landmarks count, and a resumed run knows the same."""

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ceph.errors import ConfigError, PluginError
from ceph.hooks.verbs import Hooks
from ceph_plugins.hard_mining import HardMining, HardMiningConfig, averaged, film_errors, film_weights, hardest

NAN = math.nan
ERRORS = st.lists(st.floats(0, 100) | st.just(NAN), min_size=1, max_size=9)


def made(**settings):
    return HardMining(HardMiningConfig(**settings))


def watch(plugin, run, *films):
    """Tell the plugin one mean error in mm for each film, an epoch for each list."""
    hooks = Hooks({"hard-mining": plugin})
    hooks.tell("check_run", run=run)
    hooks.tell("run_start", run=run)
    for epoch, errors in enumerate(films):
        table = torch.tensor(errors)[:, None].repeat(1, len(run.landmarks))
        hooks.tell("epoch_end", epoch=epoch, samples=run.samples, loss=table, errors_mm=table, metrics={})
    return hooks


def weights_of(hooks, run, epoch):
    return hooks.product("sample_weights", (len(run.samples),), epoch=epoch, samples=run.samples)


# --- films --------------------------------------------------------------------------------------------------------


def test_films_whose_error_is_greater_weigh_more(make_run):
    run = make_run(films=4)
    weights = weights_of(watch(made(warmup_epochs=0), run, [1.0, 2.0, 3.0, 4.0]), run, 1)
    assert (weights.diff() > 0).all()
    assert weights.mean() == pytest.approx(1.0)


def test_films_are_drawn_evenly_before_the_warmup_ends_and_when_switched_off(make_run):
    run = make_run(films=2)
    plugin = made(warmup_epochs=2)
    hooks = watch(plugin, run, [1.0, 3.0])
    assert weights_of(hooks, run, 1) is None
    assert weights_of(hooks, run, 2) is not None
    assert weights_of(watch(made(warmup_epochs=0), run), run, 0) is None  # nothing known yet
    assert weights_of(watch(made(warmup_epochs=0, films=False), run, [1.0, 3.0]), run, 1) is None


def test_a_film_that_was_not_drawn_keeps_its_error_and_one_never_drawn_counts_as_average(make_run):
    run = make_run(films=3)
    plugin = made(warmup_epochs=0, momentum=0.5)
    hooks = watch(plugin, run, [2.0, NAN, 4.0], [1.0, NAN, NAN])
    torch.testing.assert_close(plugin.error_mm, torch.tensor([1.5, NAN, 4.0], dtype=torch.float64), equal_nan=True)
    low, middle, high = weights_of(hooks, run, 2).tolist()
    assert low < middle < high


def test_a_landmark_without_an_error_is_left_out_of_its_films_mean():
    table = torch.tensor([[1.0, NAN, 3.0], [NAN, NAN, NAN], [math.inf, 4.0, NAN]])
    torch.testing.assert_close(film_errors(table), torch.tensor([2.0, NAN, 4.0]), equal_nan=True)


def test_errors_may_come_as_an_array(make_run):
    run = make_run(films=2)
    plugin = made()
    table = np.array([[1.0, 3.0], [np.nan, np.nan]], dtype=np.float32)
    Hooks({"m": plugin}).tell("epoch_end", epoch=0, samples=run.samples, loss=table, errors_mm=table, metrics={})
    assert plugin.error_mm[0] == 2.0


@given(ERRORS, st.floats(0, 4), st.floats(0, 1), st.floats(1, 20))
def test_weights_are_always_usable_and_their_ratio_is_capped(errors, power, uniform, max_ratio):
    weights = film_weights(torch.tensor(errors, dtype=torch.float64), power, uniform, max_ratio)
    assert weights.isfinite().all()
    assert (weights > 0).all()
    assert weights.max() / weights.min() <= max_ratio * (1 + 1e-9)
    assert weights.mean() == pytest.approx(1.0)


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=9))
def test_no_power_or_a_whole_share_of_uniform_draws_means_equal_weights(errors):
    table = torch.tensor(errors, dtype=torch.float64)
    assert film_weights(table, 0.0, 0.3, 4.0).tolist() == pytest.approx([1.0] * len(errors))
    assert film_weights(table, 2.0, 1.0, 4.0).tolist() == [1.0] * len(errors)


def test_one_mislabelled_film_does_not_take_over_the_epoch():
    table = torch.full((130,), 1.5, dtype=torch.float64)
    table[7] = 60.0
    weights = film_weights(table, power=2.0, uniform=0.5, max_ratio=4.0)
    assert weights[7] / weights.sum() < 4 / 130


@given(ERRORS, st.data())
def test_the_average_moves_towards_what_is_new(past, data):
    new = data.draw(st.lists(st.floats(0, 100) | st.just(NAN), min_size=len(past), max_size=len(past)))
    found = averaged(torch.tensor(past), torch.tensor(new), 0.7).tolist()
    for before, now, mixed in zip(past, new, found, strict=True):
        known = [x for x in (before, now) if not math.isnan(x)]
        assert math.isnan(mixed) if not known else min(known) - 1e-4 <= mixed <= max(known) + 1e-4


# --- landmarks ----------------------------------------------------------------------------------------------------


def test_only_the_hardest_landmarks_count():
    loss = torch.tensor([[1.0, 4.0, 3.0, 2.0], [9.0, 1.0, 1.0, 5.0]])
    valid = torch.ones_like(loss, dtype=torch.bool)
    assert hardest(loss, valid, 2).tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]
    assert hardest(loss, valid, 0.25).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert hardest(loss, valid, 1.0).eq(1).all()


def test_a_share_is_of_the_valid_landmarks_and_keeps_at_least_one():
    loss = torch.tensor([[5.0, 0.0, 3.0, 2.0], [0.0, 0.0, 0.0, 1.0]])
    valid = torch.tensor([[True, False, True, True], [False, False, False, True]])
    assert hardest(loss, valid, 0.34).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


@given(st.integers(1, 5), st.integers(1, 29), st.data())
def test_the_landmarks_that_count_are_the_top(films, landmarks, data):
    loss = torch.rand(films, landmarks, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    keep = data.draw(st.integers(1, landmarks))
    mask = hardest(loss, torch.ones_like(loss, dtype=torch.bool), keep)
    assert mask.sum(dim=1).eq(keep).all()
    assert (torch.where(mask.bool(), loss, 1.0).amin(1) >= torch.where(mask.bool(), 0.0, loss).amax(1)).all()


@pytest.mark.parametrize(("landmarks", "count"), [("isbi", 8), ("aariz", 12)])
def test_by_default_about_two_fifths_count_after_the_warmup(make_run, make_batch, landmarks, count):
    run = make_run(landmarks)
    loss = torch.rand(3, len(run.landmarks))
    valid = torch.ones_like(loss, dtype=torch.bool)
    hooks = Hooks({"hard-mining": HardMining()})
    found = [
        hooks.product("landmark_weights", loss.shape, batch=make_batch(valid, epoch=epoch), loss=loss)
        for epoch in (1, 2)
    ]
    assert found[0] is None
    assert found[1].sum(dim=1).tolist() == [count] * 3


@pytest.mark.parametrize("off", [{"landmarks": False}, {"keep": None}])
def test_landmarks_can_be_switched_off(make_batch, off):
    loss = torch.rand(3, 4)
    hooks = Hooks({"hard-mining": made(warmup_epochs=0, **off)})
    batch = make_batch(loss > 0)
    assert hooks.product("landmark_weights", loss.shape, batch=batch, loss=loss) is None


# --- settings and state -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "kept"), [(8, 8), (8.0, 8), (1, 1), (1.0, 1.0), (0.4, 0.4)])
def test_keep_is_a_number_or_a_share(given, kept):
    keep = HardMiningConfig(keep=given).keep
    assert keep == kept
    assert type(keep) is type(kept)


@pytest.mark.parametrize(
    "wrong", [{"keep": 0}, {"keep": 1.5}, {"keep": -0.1}, {"uniform": 1.1}, {"max_ratio": 0.5}, {"momentum": 1.0}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        HardMiningConfig(**wrong)


def test_more_landmarks_than_the_set_has_are_refused(make_run):
    with pytest.raises(ConfigError, match=r"plugins\.hard-mining\.keep: keeps 20 landmarks .* has 19"):
        watch(made(keep=20), make_run("isbi"))


def test_a_run_that_ends_within_the_warmup_is_told(make_run, caplog):
    with caplog.at_level(logging.INFO, logger="ceph"):
        watch(made(warmup_epochs=8), make_run(epochs=8))
    assert "nothing is mined" in caplog.text


def test_a_resumed_run_draws_what_the_other_would_have_drawn(make_run, tmp_path):
    run = make_run(films=3)
    settings = {"warmup_epochs": 0}
    hooks = watch(made(**settings), run, [2.0, NAN, 4.0], [1.0, 5.0, NAN])
    torch.save(hooks.state_dict(), tmp_path / "state.pt")
    resumed = watch(made(**settings), run)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(weights_of(resumed, run, 2), weights_of(hooks, run, 2))


def test_a_state_before_the_first_epoch_is_empty_and_loads(make_run):
    hooks = watch(made(), make_run())
    assert hooks.state_dict() == {"hard-mining": {}}
    hooks.load_state_dict({"hard-mining": {}})


def test_a_memory_of_other_films_is_an_error(make_run):
    hooks = watch(made(warmup_epochs=0), make_run(films=3), [1.0, 2.0, 3.0])
    with pytest.raises(PluginError, match="remembers 3 films, but the run trains on 4"):
        weights_of(hooks, make_run(films=4), 1)
