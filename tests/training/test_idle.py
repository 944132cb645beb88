"""Weights that leave nothing to train are told: of an epoch, and of a landmark in all of it."""

from __future__ import annotations

import logging

import pytest

import ceph

PLUGIN = """
import torch
from ceph.plugin import Plugin, hookimpl


class Idle(Plugin):
    @hookimpl
    def landmark_weights(self, loss):
        weights = torch.ones_like(loss)
        weights[:, {which}] = 0
        return weights
"""


@pytest.mark.parametrize(
    ("which", "words"), [("2", "epoch 1: B weighed 0"), (":", "epoch 1: every landmark weighed 0")]
)
def test_what_weighs_nothing_in_an_epoch_is_a_warning_that_names_who_said_so(tiny, tmp_path, caplog, which, words):
    path = tmp_path / "idle.py"
    path.write_text(PLUGIN.format(which=which))
    with caplog.at_level(logging.WARNING, "ceph"):
        ceph.train(tiny(plugins={"idle": {"from": str(path)}}, train={"epochs": 1}), out=tmp_path / "run")
    told = next(text for text in caplog.messages if "weighed 0" in text)
    assert told.startswith(words)
    assert "weights are from idle" in told


def test_a_mask_is_no_such_weight(tiny, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "ceph"):
        plugins = {"hard-only": {"landmarks": ["Go", "Ar"]}, "hard-mining": {"keep": 1, "warmup_epochs": 0}}
        ceph.train(tiny(plugins=plugins, train={"epochs": 1}), out=tmp_path / "run")
    assert not [text for text in caplog.messages if "weighed 0" in text]
