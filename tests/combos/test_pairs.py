"""Any two built-in plugins train together, in either order to the same weights, or are refused by their names."""

from __future__ import annotations

import importlib.util
import itertools
import json
from dataclasses import replace
from functools import cache

import pytest
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.config.load import from_values
from ceph.config.models import read_only
from ceph.errors import ConfigError
from ceph.hooks import discovery
from ceph.hooks.misuse import hooks_of
from ceph.hooks.specs import VERBS
from ceph.run.assembly import make_hooks
from ceph.training import checkpoint

# `presence` refuses films of which none says that a landmark is absent: tests/plugins/test_presence.py trains it.
NAMES = sorted(p.name for p in discovery.installed() if p.distribution == "ceph-trainer" and p.name != "presence")
# What a plugin needs to be valid, and to act, in a run of two steps on the tiny set (two readers, twelve whole films).
SETTINGS = {
    "anisotropic-targets": ["spread=4"],
    "ema": ["decay=0.5"],
    "fine-tune": ["layer_decay=0.5"],
    "hard-mining": ["warmup_epochs=1"],
    "hard-only": ["landmarks=[UMT, R, Ar]"],
    "multi-scale": ["scales=[0.5, 1.0]"],
    "shape-prior": ["warmup_epochs=0"],
    "zoom": ["windows=1", "px=32", "mm=16", "width=8"],
}
EXTRAS = {"tensorboard", "trackio", "wandb", "mlflow"}  # each needs the package of its name, which an extra brings
HOSTED = EXTRAS - {"tensorboard"}  # theirs take seconds to begin a run: only in `make soak`
THERE = [name for name in NAMES if name not in EXTRAS or importlib.util.find_spec(name) is not None]
QUICK = [name for name in THERE if name not in HOSTED]
PAIRS = list(itertools.combinations(NAMES, 2))


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


# An epoch of one step each, so that what a plugin remembers of the first acts in the second.
TWO_STEPS = {"epochs": 2, "batch_size": 12, "warmup_epochs": 0}


def resolved(tiny, names, teacher, train=TWO_STEPS):
    needed = {**SETTINGS, "distill": [f"runs=[{teacher}]"]}
    settings = [f"plugins.{name}.{setting}" for name in names for setting in needed.get(name, [])]
    return from_values(tiny(train=train), plugins=names, settings=settings)


def sink_marks(names):
    """A sink's package may warn of what it itself uses."""
    return [pytest.mark.filterwarnings("ignore::DeprecationWarning")] if EXTRAS & set(names) else []


def parameters(named, *marks):
    return [pytest.param(names, marks=[*marks, *sink_marks(names)], id="+".join(names)) for names in named]


def companies():
    """The plugins that can run here in two companies, each of which goes together."""
    made: list[list[str]] = [[], []]
    for name in QUICK:
        first = sorted(made, key=len)
        next(company for company in first if not any(refused(name, other) for other in company)).append(name)
    return made


REFUSED = [pair for pair in PAIRS if refused(*pair)]
TOGETHER = [pair for pair in PAIRS if pair not in REFUSED]


def test_every_plugin_is_looked_at():
    assert len(NAMES) >= 17
    assert set(SETTINGS) | EXTRAS <= set(NAMES)
    assert sorted(itertools.chain(*companies())) == QUICK


@pytest.mark.parametrize("pair", parameters(REFUSED))
def test_two_plugins_that_cannot_go_together_are_refused_by_their_names(pair, tiny, tiny_run):
    with pytest.raises(ConfigError) as found:
        resolved(tiny, pair, tiny_run)
    assert all(name in str(found.value) for name in pair)


@pytest.mark.parametrize("names", [*parameters(companies()), *parameters(TOGETHER, pytest.mark.slow)])
def test_plugins_named_in_either_order_train_to_the_same_weights(names, tiny, tmp_path, monkeypatch, tiny_run):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in set(names) - set(THERE):
        pytest.skip(f"{name} needs the extra of that name: pip install 'ceph-trainer[{name}]'")
    folders = [ceph.train(resolved(tiny, ns, tiny_run), out=tmp_path / ns[0]).folder for ns in (names, names[::-1])]
    for folder in folders:
        assert "switched off" not in (folder / "log.txt").read_text()
        assert checkpoint.load(folder / "checkpoints", checkpoint.LAST)["progress"]["step"] == 2
    assert same_weights(*map(last_weights, folders))


def learned(resolved, out):
    """`train_mre_mm` of each epoch of a run."""
    run = ceph.train(resolved, out=out).folder
    return [json.loads(line)["train_mre_mm"] for line in (run / "metrics.jsonl").read_text().splitlines()]


# Those which only observe change nothing that is learned.
LEARNING = [pair for pair in TOGETHER if not EXTRAS & set(pair)]
FAST = {("distill", "mean-teacher"), ("hard-mining", "hard-only")}
LEARN = {"epochs": 8, "batch_size": 4, "lr": 3e-3, "warmup_epochs": 0}


@pytest.mark.parametrize(
    "pair", [pytest.param(p, marks=[] if p in FAST else [pytest.mark.slow], id="+".join(p)) for p in LEARNING]
)
def test_a_short_run_with_two_plugins_ends_nearer_than_it_began(pair, tiny, tmp_path, tiny_run):
    errors_mm = learned(resolved(tiny, pair, tiny_run, LEARN), tmp_path / "run")
    assert errors_mm[-1] < errors_mm[0]


def test_hard_only_beside_hard_mining_trains_its_landmarks_just_as_alone(tiny, tmp_path):
    """All films are drawn alike; of 29 landmarks mining keeps 12, so that it leaves no named one out."""
    folders = []
    for names in (["hard-only"], ["hard-mining", "hard-only"]):
        run = resolved(tiny, names, None)
        if len(names) == 2:
            mining = {**run.config.plugins["hard-mining"], "films": False}
            plugins = read_only({**run.config.plugins, "hard-mining": mining})
            run = replace(run, config=run.config.model_copy(update={"plugins": plugins}))
        folders.append(ceph.train(run, out=tmp_path / "+".join(names)).folder)
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
