"""Modules that plugins give: trained, kept in checkpoints, gone on with bit for bit, loaded, transferred."""

from __future__ import annotations

import torch
from tests.training import parts
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.model.network import parts_of
from ceph.runfolder import read_figures
from ceph.training import checkpoint


def goes_on(run):
    config = run / "config.yaml"
    config.write_text(
        "".join(line for line in config.read_text().splitlines(keepends=True) if "stop_after" not in line)
    )
    return ceph.resume(run).folder


def test_modules_learn_and_a_stopped_run_goes_on_in_the_same_bits(tiny, tmp_path):
    plugins = {**parts.switched_on(tmp_path), "mean-teacher": {}, "ema": {}}
    whole = ceph.train(tiny(plugins=plugins, train={"epochs": 3}), out=tmp_path / "whole").folder
    half = ceph.train(tiny(plugins=plugins, train={"epochs": 3, "stop_after": 1}), out=tmp_path / "half").folder
    before = last_weights(half)
    after = last_weights(goes_on(half))
    assert same_weights(after, last_weights(whole))
    assert all(not torch.equal(before[name], after[name]) for name in parts.NAMES)


def test_a_loaded_run_has_its_modules_and_their_figures_and_another_starts_from_it(tiny, tmp_path):
    plugins = parts.switched_on(tmp_path)
    run = ceph.train(tiny(plugins=plugins, train={"epochs": 1}), out=tmp_path / "run").folder
    assert set(parts_of(ceph.load(run).model)) == {"spacing_head", "scale"}
    assert read_figures(run)["validation"]["plugins"]["heads"] == 1
    assert checkpoint.load(run / "checkpoints", checkpoint.BEST)["parts"] == ["spacing_head", "scale"]
    plain = ceph.train(tiny(train={"epochs": 1}), out=tmp_path / "plain", init_from=run).folder
    assert not set(parts.NAMES) & set(last_weights(plain))
    both = ceph.train(tiny(plugins=plugins, train={"epochs": 1}), out=tmp_path / "both", init_from=plain).folder
    assert set(parts.NAMES) <= set(last_weights(both))
