"""A plugin whose films follow what it learns in training: neither workers nor a stop change a bit of the run."""

from __future__ import annotations

import signal

import pytest
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.errors import Interrupted
from ceph.report.progress import Silent

LEARNER = '''
import numpy as np
from ceph.plugin import Plugin, PluginConfig, Warp, hookimpl

class Zoom(Warp):
    def __init__(self, plugin):
        self.plugin = plugin

    def matrix(self, rng, size):
        return np.diag([1 + 0.02 * self.plugin.steps, 1, 1.0])

class Learner(Plugin[PluginConfig]):
    """What it counts in training decides over warps, truth and extras of the next epoch."""

    steps = 0

    @hookimpl
    def warps(self):
        return [Zoom(self)]

    @hookimpl
    def second_draws(self):
        return ["again"]

    @hookimpl
    def truth(self, sample, rng):
        return sample.points[0] + self.steps + rng.uniform(), sample.valid[0]

    @hookimpl
    def extras(self, truth, look, rng):
        return {"window": look(truth[0][:2], 20.0, 4), "steps": self.steps, "factor": rng.uniform()}

    @hookimpl
    def loss_terms(self, batch, pred):
        seen = batch.extras["window"].mean((1, 2, 3)) * batch.extras["factor"] * (1 + batch.extras["steps"])
        seen = seen * batch.draws["again"].image.mean((1, 2, 3))
        return {"seen": (seen[:, None] * pred.mean((2, 3))).mean()}

    @hookimpl
    def step_end(self):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]
'''


class StopAt(Silent):
    """Sends this process a signal after a number of steps."""

    def __init__(self, steps):
        self.left = steps

    def step(self, epoch, done, total, loss):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def whole(tiny_set, tmp_path_factory):
    """The config's maker, and the weights of a run of two epochs without workers that nothing stopped."""
    folder = tmp_path_factory.mktemp("learner")
    (folder / "learner.py").write_text(LEARNER)

    def config(workers):
        return {
            "data": {"path": str(tiny_set), "size": [64, 64], "workers": workers},
            "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
            "train": {"epochs": 2, "batch_size": 4, "precision": "fp32", "device": "cpu"},
            "plugins": {"learner": {"from": str(folder / "learner.py")}},
        }

    return config, last_weights(ceph.train(config(0), out=folder / "whole").folder)


def test_workers_do_not_matter(whole, tmp_path):
    config, weights = whole
    assert same_weights(weights, last_weights(ceph.train(config(2), out=tmp_path / "run").folder))


@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_within_an_epoch_and_resumed_it_ends_in_the_same_weights(whole, tmp_path, workers):
    config, weights = whole
    with pytest.raises(Interrupted):
        ceph.train(config(workers), out=tmp_path / "run", watcher=StopAt(4))  # the first of three of the second epoch
    ceph.resume(tmp_path / "run")
    assert same_weights(weights, last_weights(tmp_path / "run"))
