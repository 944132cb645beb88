"""Any two built-in plugins train together, in either order to the same weights, or are refused by their names."""

from __future__ import annotations

import importlib.util
import itertools
from functools import cache

import pytest
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.assembly import make_hooks
from ceph.config.load import from_values
from ceph.errors import ConfigError
from ceph.hooks import discovery
from ceph.hooks.misuse import hooks_of
from ceph.hooks.specs import VERBS
from ceph.training import checkpoint

NAMES = sorted(plugin.name for plugin in discovery.installed() if plugin.distribution == "ceph-trainer")
# What a plugin needs to be valid, and to act, in a run of two steps on the tiny set (two readers, twelve whole films).
SETTINGS = {
    "anisotropic-targets": ["spread=4"],
    "ema": ["decay=0.5"],
    "fine-tune": ["layer_decay=0.5"],
    "hard-mining": ["warmup_epochs=1"],
    "hard-only": ["landmarks=[UMT, R, Ar]"],
    "multi-scale": ["scales=[0.5, 1.0]"],
    "shape-prior": ["warmup_epochs=0"],
}
EXTRAS = {"tensorboard", "trackio", "wandb", "mlflow"}  # each needs the package of its name, which an extra brings
HOSTED = EXTRAS - {"tensorboard"}  # theirs take seconds to begin a run: only in `make soak`
THERE = [name for name in NAMES if name not in EXTRAS or importlib.util.find_spec(name) is not None]
QUICK = [name for name in THERE if name not in HOSTED]
PAIRS = list(itertools.combinations(NAMES, 2))
HALF = (len(QUICK) + 1) // 2
SAMPLE = {tuple(sorted((QUICK[i], QUICK[(i + HALF) % len(QUICK)]))) for i in range(HALF)}


@cache
def classes():
    return {name: discovery.load(name).plugin_class for name in NAMES}


def sole_answers(name):
    """The hooks of a plugin that take one answer."""
    return [hook for hook in hooks_of(classes()[name]) if VERBS[hook] == "one"]


def refused(one, other):
    """Whether two plugins cannot go together, as they declare it."""
    found = classes()
    declared = other in found[one].conflicts or one in found[other].conflicts
    return declared or bool(set(sole_answers(one)) & set(sole_answers(other)))


def resolved(tiny, names):
    settings = [f"plugins.{name}.{setting}" for name in names for setting in SETTINGS.get(name, [])]
    # An epoch of one step each, so that what a plugin remembers of the first acts in the second.
    values = tiny(train={"epochs": 2, "batch_size": 12, "warmup_epochs": 0})
    return from_values(values, plugins=names, settings=settings)


def test_the_sample_has_every_plugin_that_can_run_here():
    assert {name for pair in SAMPLE for name in pair} == set(QUICK)
    assert len(NAMES) >= 17
    assert set(SETTINGS) | EXTRAS <= set(NAMES)


def marks(pair):
    found = [] if pair in SAMPLE else [pytest.mark.slow]
    # A sink's package may warn of what it itself uses.
    return [*found, pytest.mark.filterwarnings("ignore::DeprecationWarning")] if EXTRAS & set(pair) else found


@pytest.mark.parametrize("pair", [pytest.param(p, marks=marks(p), id="+".join(p)) for p in PAIRS])
def test_two_plugins_named_in_either_order_train_to_the_same_weights(pair, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in set(pair) - set(THERE):
        pytest.skip(f"{name} needs the extra of that name: pip install 'ceph-trainer[{name}]'")
    if refused(*pair):
        with pytest.raises(ConfigError) as found:
            resolved(tiny, pair)
        assert all(name in str(found.value) for name in pair)
        return
    folders = [ceph.train(resolved(tiny, ns), out=tmp_path / "-".join(ns)).folder for ns in (pair, pair[::-1])]
    for folder in folders:
        assert "switched off" not in (folder / "log.txt").read_text()
        assert checkpoint.load(folder / "checkpoints", checkpoint.LAST)["progress"]["step"] == 2
    assert same_weights(*map(last_weights, folders))


@pytest.mark.parametrize("name", [name for name in NAMES if sole_answers(name)])
def test_a_second_answer_to_a_hook_that_takes_one_is_refused_naming_both_plugins(name, tiny, tmp_path):
    mine = sole_answers(name)
    methods = "".join(f"\n    @hookimpl\n    def {hook}(self):\n        return None\n" for hook in mine)
    (tmp_path / "rival.py").write_text(
        f"from ceph.plugin import Plugin, hookimpl\n\n\nclass Rival(Plugin):\n    '''A rival.'''\n{methods}"
    )
    for names in ([name, str(tmp_path / "rival.py")], [str(tmp_path / "rival.py"), name]):
        with pytest.raises(ConfigError) as found:
            make_hooks(from_values(tiny(), plugins=names, settings=[]))
        message = str(found.value)
        assert all(f"--without {one}" in message for one in (name, "rival"))
        assert all(hook in message for hook in mine)
