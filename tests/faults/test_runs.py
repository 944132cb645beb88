"""Faults in real runs: a decisive one ends the run with a checkpoint from which the mended plugin goes on."""

from __future__ import annotations

import json

import pytest
import torch
from tests.faults.table import CALLS, FAULTS, GOOD, LATE, TELL, source
from tests.training.runs import last_weights

import ceph
from ceph.cli.app import main
from ceph.errors import PluginError, TrainingError
from ceph.hooks import discovery
from ceph.runfolder import read_figures
from ceph.training import checkpoint

QUICK = [
    ("landmark_weights", "raise"),
    ("sample_weights", "NaN"),
    ("build_criterion", "wrong shape"),
    ("pixel_weights", "NaN"),
]
SOON = ("optimizer", "backward", "transform")  # of LATE, in `make test`


def label(fault):
    return f"{fault.hook}-{fault.kind.replace(' ', '-')}"


def written(folder, text):
    """The file of a plugin named `mine`, its section of a config, and its version."""
    path = folder / "mine.py"
    path.write_text(text)
    return {"mine": {"from": str(path)}}, discovery.load(str(path)).version


def marks(fault):
    return () if (fault.hook, fault.kind) in QUICK else pytest.mark.slow


@pytest.mark.parametrize("fault", [pytest.param(f, marks=marks(f), id=label(f)) for f in FAULTS])
def test_a_run_that_a_plugin_ends_names_it_and_goes_on_once_it_is_mended(fault, tiny, tmp_path, capsys):
    plugins, version = written(
        tmp_path, source(fault.hook, fault.body, calls=CALLS.get(fault.hook, 0), memory=fault.hook in TELL)
    )
    data = {"format": "mine"} if fault.hook == "dataset_formats" else {}
    run = tmp_path / "run"
    with pytest.raises(PluginError) as found:
        ceph.train(tiny(plugins=plugins, data=data), out=run)
    for word in (f"plugin 'mine' {version}, hook {fault.hook}: ", fault.words, "hint: ", "--without mine"):
        assert word in str(found.value)
    began = (run / "checkpoints" / checkpoint.LAST).exists()
    assert began or fault.hook not in CALLS
    if not began:
        assert not read_figures(run)
        return
    state = checkpoint.load(run / "checkpoints", checkpoint.LAST)
    assert all(torch.isfinite(part).all() for part in state["model"].values())
    if fault.hook in CALLS:
        assert state["progress"]["step"] > 0
    if fault.hook == "run_end":
        return  # all is trained
    mended = source(fault.hook, GOOD[fault.hook], memory=fault.hook in TELL)
    (run / "plugins" / "mine" / "mine.py").write_text(mended)
    assert main(["run", "--resume", str(run), "--trust"]) == 0, capsys.readouterr().err
    assert read_figures(run)["validation"]["mre_mm"] > 0
    assert last_state(run)["progress"]["epoch"] == 2
    assert epochs_of(run) == [0, 1]


def epochs_of(run):
    """The epochs in metrics.jsonl."""
    return [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("part", [pytest.param(p, marks=() if p in SOON else pytest.mark.slow) for p in LATE])
def test_a_part_that_fails_while_it_trains_names_the_plugin_and_the_run_goes_on_from_there(part, tiny, tmp_path):
    hook, body = LATE[part]
    plugins, version = written(tmp_path, source(hook, body))
    run = tmp_path / "run"
    with pytest.raises(PluginError) as found:
        ceph.train(tiny(plugins=plugins), out=run)
    for word in (f"plugin 'mine' {version}, hook {hook}: ", "(mine.py, line ", "hint: ", "--without mine"):
        assert word in str(found.value)
    assert last_state(run)["progress"]["step"] >= 2
    (run / "plugins" / "mine" / "mine.py").write_text(source(hook, mended(part)))
    assert main(["run", "--resume", str(run), "--trust"]) == 0
    assert epochs_of(run) == [0, 1]


def mended(part):
    """The good answer; an optimiser stays of its kind, whose state the checkpoint has."""
    hook, body = LATE[part]
    return body.replace("Optimizer(", "torch.optim.SGD(") if part == "optimizer" else GOOD[hook]


IN_EVALUATION = {
    "epoch_end": ("epoch_end", "return fail() if epoch == 1 else None", "return None"),
    "eval_model": ("eval_model", "self.n = getattr(self, 'n', 0) + 1; return model if self.n != 2 else fail()", ""),
    "metrics": ("metrics", "self.n = getattr(self, 'n', 0) + 1; return {} if self.n != 2 else fail()", "return {}"),
}


MINING = {"hard-mining": {"warmup_epochs": 0, "uniform": 0.0, "max_ratio": None, "power": 3.0}}


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The folder of a run of three epochs without a fault; what only observes would change nothing."""
    config = tiny(plugins=MINING, train={"epochs": 3})
    return ceph.train(config, out=tmp_path_factory.mktemp("whole") / "run").folder


@pytest.mark.parametrize("name", IN_EVALUATION)
def test_what_a_fault_after_an_epoch_left_half_told_is_told_again_whole(name, whole, tiny, tmp_path):
    hook, body, good = IN_EVALUATION[name]
    run, sound = tmp_path / "run", source(hook, good or "return model", memory=True)
    plugins, _ = written(tmp_path, source(hook, body, memory=True))
    with pytest.raises(PluginError, match=f"hook {hook}: KeyError"):
        ceph.train(tiny(plugins={**plugins, **MINING}, train={"epochs": 3}), out=run)
    (run / "plugins" / "mine" / "mine.py").write_text(sound)
    assert main(["run", "--resume", str(run), "--trust"]) == 0
    one, other = last_state(whole), last_state(run)
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    assert str(one["plugins"]["hard-mining"]) == str(other["plugins"]["hard-mining"])
    assert epochs_of(run) == epochs_of(whole) == [0, 1, 2]


def last_state(run):
    return checkpoint.load(run / "checkpoints", checkpoint.LAST)


TOLD = [f for f in FAULTS if f.hook in TELL]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, marks=() if (f.hook, f.kind) == ("step_end", "exit") else pytest.mark.slow, id=label(f))
        for f in TOLD
    ],
)
def test_a_run_whose_observer_fails_ends_well_with_a_warning_and_the_same_weights(fault, tiny_run, tiny, tmp_path):
    plugins, version = written(tmp_path, source(fault.hook, fault.body, calls=CALLS.get(fault.hook, 0)))
    run = ceph.train(tiny(plugins=plugins), out=tmp_path / "run").folder
    assert last_state(run)["progress"]["epoch"] == 2
    one, other = last_weights(run), last_weights(tiny_run)
    assert all(torch.equal(one[name], other[name]) for name in other)
    if fault.hook != "check_run":  # there the run has no log yet
        log = (run / "log.txt").read_text()
        for word in (f"plugin 'mine' {version}, hook {fault.hook}: ", fault.words, "switched off"):
            assert word in log


NUMBERS = {  # what is built can give numbers that are not finite without a fault of its own: it is named as a suspect
    "build_model": "return Net(default(), lambda maps: maps * {bad})",
    "build_targets": "return Targets(default(), lambda maps: maps * {bad})",
    "build_criterion": "return lambda p, t, w: default()(p, t, w) * {bad}",
}


@pytest.mark.parametrize("bad", ["nan", pytest.param("inf", marks=pytest.mark.slow)])
@pytest.mark.parametrize("hook", NUMBERS)
def test_a_loss_that_is_not_finite_names_the_plugins_that_what_it_comes_from_was_built_by(hook, bad, tiny, tmp_path):
    body = NUMBERS[hook].format(bad=f"float('{bad}')")
    plugins, version = written(tmp_path, source(hook, body))
    with pytest.raises(TrainingError) as found:
        ceph.train(tiny(plugins=plugins), out=tmp_path / "run")
    words = str(found.value)
    assert words.startswith("the loss is not finite at step 0")
    assert f"it may be plugin 'mine' {version}, hook {hook}: --without mine" in words
    state = checkpoint.load(tmp_path / "run" / "checkpoints", checkpoint.LAST)
    assert all(torch.isfinite(part).all() for part in state["model"].values())


def test_a_station_s_state_that_cannot_be_kept_names_the_plugin(tiny, tmp_path):
    body = "station = Station(inner=default()); station.state_dict = lambda: {'shape': object()}; return station"
    plugins, version = written(tmp_path, source("build_decoder", body))
    with pytest.raises(PluginError) as found:
        ceph.train(tiny(plugins=plugins), out=tmp_path / "run")
    for word in (f"plugin 'mine' {version}, hook build_decoder: ", "its state_dict()['shape'] is builtins.object"):
        assert word in str(found.value)


def test_a_station_s_state_that_it_does_not_take_back_names_the_plugin(tiny, tmp_path):
    body = (
        "station = Station(inner=default()); station.state_dict = lambda: {'shape': torch.ones(3)}; "
        "station.load_state_dict = lambda state: fail() if len(state['shape']) == 3 else None; return station"
    )
    plugins, version = written(tmp_path, source("build_decoder", body))
    with pytest.raises(PluginError, match=f"plugin 'mine' {version}, hook build_decoder: KeyError: 'oops'"):
        ceph.train(tiny(plugins=plugins, train={"epochs": 1}), out=tmp_path / "run")  # its end loads what is best
    stations = checkpoint.load(tmp_path / "run" / "checkpoints", checkpoint.BEST)["stations"]
    assert stations["decoder"]["mine"]["shape"].tolist() == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("hook", ["truth", "warps"])
def test_a_fault_in_a_loader_worker_reaches_the_person_with_its_names(hook, tiny, tmp_path):
    fault = next(f for f in FAULTS if (f.hook, f.kind) == (hook, "NaN"))
    plugins, version = written(tmp_path, source(fault.hook, fault.body))
    with pytest.raises(PluginError) as found:
        ceph.train(tiny(plugins=plugins, data={"workers": 2}), out=tmp_path / "run")
    for word in (f"plugin 'mine' {version}, hook {hook}: ", fault.words, "hint: ", "--without mine"):
        assert word in str(found.value)
