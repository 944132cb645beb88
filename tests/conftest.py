"""What all tests share: a cache of their own, one thread, and a tiny set of films to train on."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# A deadline of 200 ms is a test with a clock: on a busy machine it fails where nothing is wrong. So is `too_slow`.
settings.register_profile("ceph", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ceph")

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and by all that a test starts

# Before torch is imported, here and in every process that a test starts: tiny networks only lose by more threads, and
# pytest-xdist has the other cores busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep the user's cache, and the plugins that they agreed to run, out of the tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv("CEPH_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory):
    """Sixteen small synthetic films in the Aariz layout."""
    from ceph.data.synthetic.sets import write

    folder = tmp_path_factory.mktemp("films") / "tiny"
    write(folder, films=16, height=330)
    return folder


@pytest.fixture
def tiny(tiny_set):
    """A config that trains a tiny network for two epochs; keyword arguments `section={...}` change it."""

    def config(**sections):
        base = {
            "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
            "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
            "train": {"epochs": 2, "batch_size": 4, "precision": "fp32", "device": "cpu", "warmup_epochs": 0.5},
            "plugins": {},
        }
        for name, values in sections.items():
            base[name] = {**base.get(name, {}), **values}
        return base

    return config
