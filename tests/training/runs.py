"""Helpers of the tests that train: weights of a run folder, and whether two of them are the same."""

from __future__ import annotations

import torch

from ceph.training import checkpoint

ALL = {
    "weighted-loss": {},
    "hard-mining": {"warmup_epochs": 1},
    "multi-scale": {"scales": [0.5, 1.0]},
    "heavy-augmentation": {},
}


def last_weights(folder):
    return checkpoint.load(folder / "checkpoints", checkpoint.LAST)["model"]


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
