"""What all tests share: a cache of their own, one thread, and a tiny set of films to train on."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# A deadline of 200 ms is a test with a clock: on a busy machine it fails where nothing is wrong. So is `too_slow`.
# How many examples are tried is said here alone: few in `make test`, which draws others each time, many in `make soak`.
settings.register_profile("ceph", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("ceph"), max_examples=200)
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
def once(tmp_path_factory, own_cache):
    """`once(name, make)`: a folder of that name that `make(folder)` makes, once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name, make):
        where = shared / f"once-{name}"
        where.mkdir(exist_ok=True)
        fcntl = pytest.importorskip("fcntl", reason="tests share what they make by POSIX locks")
        with (where / "made").open("a+") as note:
            fcntl.flock(note, fcntl.LOCK_EX)
            if not note.seek(0, os.SEEK_END):
                make(where / name)
                note.write("yes")
        return where / name

    return made


@pytest.fixture(scope="session")
def tiny_set(once):
    """Sixteen small synthetic films in the Aariz layout."""
    from ceph.data.synthetic.sets import write

    return once("tiny", lambda folder: write(folder, films=16, height=330))


@pytest.fixture(scope="session")
def folds_run(once, tiny_set):
    """Two folds of a tiny run, trained side by side and moved to another place afterwards; not to be changed."""
    import ceph
    from ceph.runfolder import read_figures

    def make(folder):
        config = {
            "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
            "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
            "train": {"epochs": 2, "batch_size": 4, "precision": "fp32", "device": "cpu", "warmup_epochs": 0.5},
        }
        lines, elsewhere = [], folder.with_name("elsewhere")
        result = ceph.folds(config, out=elsewhere, folds=2, jobs=2, say=lines.append)
        assert lines[0].startswith("2 folds by group, seeds 0 to 1, 0 done; 2 at a time")
        assert result.metrics == read_figures(elsewhere)["out-of-fold"]
        elsewhere.rename(folder)

    return once("folds", make)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def tiny_run(once, tiny):
    """The folder of a finished run of the tiny config as it is; not to be changed."""
    import ceph

    return once("run", lambda folder: ceph.train(tiny(), out=folder))
