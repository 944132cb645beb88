"""hard-only: in its part of a run nothing but the named landmarks trains; their error is a figure to monitor."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.training.runs import last_weights

import ceph
from ceph.config.models import Config
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph.training import checkpoint
from ceph_plugins.hard_mining import HardMining, HardMiningConfig
from ceph_plugins.hard_only import HARDEST, HardOnly, HardOnlyConfig


def made(*landmarks, **phase):
    return HardOnly(HardOnlyConfig(landmarks=landmarks or None, **phase))


def started(plugin, run, monitor="mre_mm"):
    run = dataclasses.replace(run, config=Config.model_validate({"train": {"monitor": monitor}}))
    hooks = Hooks({"hard-only": plugin})
    hooks.tell("check_run", run=run)
    hooks.tell("run_start", run=run)
    return hooks


def trained(hooks, run, make_batch, epochs_done=0.0):
    batch = make_batch(torch.ones(2, len(run.landmarks), dtype=torch.bool), epochs_done)
    mask = hooks.plugins["hard-only"].landmark_mask(batch)
    counts = torch.ones(len(run.landmarks), dtype=torch.bool) if mask is None else mask
    return {symbol for symbol, counted in zip(run.landmarks, counts.tolist(), strict=True) if counted}


@pytest.mark.parametrize(("landmarks", "expected"), [("aariz", set(HARDEST)), ("isbi", {"Ar", "Go"})])
def test_by_default_the_hardest_five_train_as_far_as_the_set_has_them(make_run, make_batch, landmarks, expected):
    run = make_run(landmarks)
    assert trained(started(HardOnly(), run), run, make_batch) == expected


def test_the_user_s_landmarks_train_and_no_others(make_run, make_batch):
    run = make_run("isbi")
    assert trained(started(made("N", "Po"), run), run, make_batch) == {"N", "Po"}


@pytest.mark.parametrize("phase", [(2, 6), ("25%", "75%")])  # of eight epochs
def test_before_and_after_its_part_of_the_run_all_landmarks_train(make_run, make_batch, phase):
    run = make_run("isbi")
    hooks = started(made("N", "Po", warmup_epochs=phase[0], until_epoch=phase[1]), run)
    for epochs_done, named in [(0.0, False), (1.9, False), (2.0, True), (5.9, True), (6.0, False), (7.9, False)]:
        expected = {"N", "Po"} if named else set(run.landmarks)
        assert trained(hooks, run, make_batch, epochs_done) == expected


@pytest.mark.parametrize("phase", [{"warmup_epochs": 8}, {"warmup_epochs": 3, "until_epoch": 3}, {"until_epoch": "0%"}])
def test_a_part_without_an_epoch_is_refused(make_run, phase):
    with pytest.raises(ConfigError, match=r"plugins\.hard-only\.warmup_epochs: it starts after .* of 8 epochs"):
        started(made("N", **phase), make_run("isbi", epochs=8))


def test_mining_picks_among_the_landmarks_that_it_leaves(make_run, make_batch):
    run = make_run("isbi")
    hooks = started(made("N", "Po", "Go"), run)
    loss = torch.arange(19.0).flip(0).repeat(2, 1)  # the named ones are not the hardest
    batch = make_batch(loss >= 0, 5.0)
    batch = dataclasses.replace(batch, valid=batch.valid & hooks.plugins["hard-only"].landmark_mask(batch))
    mining = HardMining(HardMiningConfig(keep=2))
    mining.run_start(run)
    weights = mining.landmark_weights(batch, loss * batch.valid)
    assert ((weights > 0) & batch.valid).sum(1).tolist() == [2, 2]


def test_unknown_symbols_are_refused_all_at_once_with_the_nearest_name(make_run):
    with pytest.raises(ConfigError) as caught:
        started(made("pog", "Go", "UMTT"), make_run("aariz"))
    assert str(caught.value) == (
        "plugins.hard-only.landmarks: the data set has no landmark 'pog'\n  hint: did you mean 'Pog'?\n"
        "plugins.hard-only.landmarks: the data set has no landmark 'UMTT'\n  hint: did you mean 'UMT'?"
    )


def test_a_set_without_any_of_the_hardest_is_refused(make_run):
    with pytest.raises(ConfigError, match=r"none of UMT, UPM, R, Ar, Go\n  hint: name .*valid: X, Y"):
        started(HardOnly(), make_run(("X", "Y")))


def test_the_figure_is_the_mean_error_of_these_landmarks(make_run):
    run = make_run(("X", "Y", "Z"))
    hooks = started(made("X", "Z"), run)
    errors = np.array([[1.0, 50.0, 2.0], [np.nan, 50.0, 6.0]])
    asked = {"points_px": None, "valid": None, "samples": run.samples, "landmarks": run.landmarks}
    assert hooks.merge("metrics", errors_mm=errors, **asked) == {"hard_mre_mm": 3.0}
    assert hooks.merge("metrics", errors_mm=errors * np.nan, **asked) == {}


@pytest.mark.parametrize(
    ("monitor", "told"), [("mre_mm", True), ("plugins.hard_mre_mm", False), ("per_landmark.Go.mre_mm", False)]
)
def test_a_monitor_that_counts_other_landmarks_is_pointed_out(make_run, caplog, monitor, told):
    with caplog.at_level(logging.INFO, logger="ceph"):
        started(HardOnly(), make_run("isbi"), monitor)
    assert ("--set train.monitor=plugins.hard_mre_mm, or per_landmark.Go.mre_mm for one" in caplog.text) == told
    assert "hard-only: trains Go, Ar of 19 landmarks" in caplog.text


@pytest.mark.parametrize("beside", [{}, {"hard-mining": {"warmup_epochs": 0}}], ids=["alone", "mining"])
def test_only_their_maps_are_trained_and_the_best_checkpoint_is_picked_by_them(tiny, tmp_path, beside):
    settings = {"monitor": "plugins.hard_mre_mm", "weight_decay": 0.0}
    config = tiny(plugins={"hard-only": {"landmarks": ["Go", "Ar"]}, **beside}, train=settings)
    folder = ceph.train(config, out=tmp_path / "run").folder
    first = ceph.train(tiny(train={"epochs": 1, "lr": 1e-30, "weight_decay": 0.0}), out=tmp_path / "first").folder
    before, after = (last_weights(f)["head.weight"] for f in (first, folder))
    best = checkpoint.load(folder / "checkpoints", checkpoint.BEST)
    moved = (before != after).flatten(1).any(1)
    assert {symbol for symbol, m in zip(best["landmarks"], moved.tolist(), strict=True) if m} == {"Go", "Ar"}
    lines = checkpoint.load(folder / "checkpoints", checkpoint.LAST)["progress"]["records"]
    figures = [line["validation"]["plugins"]["hard_mre_mm"] for line in lines]
    assert best["value"] == min(figures)
    each = [line["validation"]["per_landmark"] for line in lines]
    assert ceph.load(folder).evaluate()[0]["plugins"]["hard_mre_mm"] == best["value"]
    assert figures == pytest.approx([(f["Go"]["mre_mm"] + f["Ar"]["mre_mm"]) / 2 for f in each])


@pytest.mark.parametrize("wrong", [{"landmarks": []}, {"landmarks": "Go"}, {"symbols": ["Go"]}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        HardOnlyConfig(**wrong)
