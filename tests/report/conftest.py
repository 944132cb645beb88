"""One short real run with three plugins, for the tests of what is reported of it."""

from __future__ import annotations

import shutil

import pytest

from ceph.run.train import train
from ceph.run.trained import load


@pytest.fixture(scope="session")
def trained_once(once, tiny_set):
    config = {
        "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": 3, "batch_size": 4, "precision": "fp32", "device": "cpu"},
        "plugins": {"weighted-loss": {"weights": "auto"}, "hard-mining": {"warmup_epochs": 1}, "multi-scale": {}},
    }

    def make(folder):
        load(train(config, out=folder / "run").folder).evaluate("test")

    return once("reported", make) / "run"


@pytest.fixture
def real_run(trained_once, tmp_path):
    """A copy, to write into."""
    return shutil.copytree(trained_once, tmp_path / "run")
