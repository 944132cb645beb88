"""Faults in real runs: a decisive one ends the run with a checkpoint from which the mended plugin goes on."""

from __future__ import annotations

import pytest
import torch
from tests.faults.table import CALLS, FAULTS, GOOD, TELL, source
from tests.training.runs import last_weights

import ceph
from ceph.cli.app import main
from ceph.errors import PluginError, TrainingError
from ceph.hooks import discovery
from ceph.training import checkpoint
from ceph.training.folder import read_metrics

QUICK = [
    ("landmark_weights", "raise"),
    ("sample_weights", "NaN"),
    ("build_criterion", "wrong shape"),
    ("pixel_weights", "NaN"),
]


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
        assert not read_metrics(run)
        return
    state = checkpoint.load(run / "checkpoints", checkpoint.LAST)
    assert all(torch.isfinite(part).all() for part in state["model"].values())
    if fault.hook in CALLS:
        assert state["progress"]["step"] > 0
    if fault.hook == "run_end":
        return  # all is trained
    mended = source(fault.hook, GOOD[fault.hook], memory=fault.hook in TELL)
    (run / "plugins" / "mine" / "mine.py").write_text(mended)
    assert main(["run", "--resume", str(run)]) == 0, capsys.readouterr().err
    assert read_metrics(run)["validation"]["mre_mm"] > 0
    assert last_state(run)["progress"]["epoch"] == 2


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
def test_a_run_whose_observer_fails_ends_well_with_a_warning_and_the_same_weights(fault, tiny, tmp_path):
    plugins, version = written(tmp_path, source(fault.hook, fault.body, calls=CALLS.get(fault.hook, 0)))
    run = ceph.train(tiny(plugins=plugins), out=tmp_path / "run").folder
    assert last_state(run)["progress"]["epoch"] == 2
    plain = ceph.train(tiny(), out=tmp_path / "plain").folder
    one, other = last_weights(run), last_weights(plain)
    assert all(torch.equal(one[name], other[name]) for name in other)
    if fault.hook != "check_run":  # there the run has no log yet
        log = (run / "log.txt").read_text()
        for word in (f"plugin 'mine' {version}, hook {fault.hook}: ", fault.words, "switched off"):
            assert word in log


NUMBERS = {  # what is built can give numbers that are not finite without a fault of its own: it is named as a suspect
    "build_model": "return Net(default(), lambda maps: maps * {bad})",
    "build_codec": "return Codec(default(), encode=lambda maps: maps * {bad})",
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


def test_a_codec_s_state_that_cannot_be_kept_names_the_plugin(tiny, tmp_path):
    body = "codec = Codec(default()); codec.state_dict = lambda: {'shape': object()}; return codec"
    plugins, version = written(tmp_path, source("build_codec", body))
    with pytest.raises(PluginError) as found:
        ceph.train(tiny(plugins=plugins), out=tmp_path / "run")
    for word in (f"plugin 'mine' {version}, hook build_codec: ", "its state_dict()['shape'] is builtins.object"):
        assert word in str(found.value)
    assert checkpoint.load(tmp_path / "run" / "checkpoints", checkpoint.LAST)["progress"]["step"] > 0


def test_a_codec_s_state_that_it_does_not_take_back_names_the_plugin(tiny, tmp_path):
    body = (
        "codec = Codec(default()); codec.state_dict = lambda: {'shape': torch.ones(3)}; "
        "codec.load_state_dict = lambda state: fail() if len(state['shape']) == 3 else None; return codec"
    )
    plugins, version = written(tmp_path, source("build_codec", body))
    with pytest.raises(PluginError, match=f"plugin 'mine' {version}, hook build_codec: KeyError: 'oops'"):
        ceph.train(tiny(plugins=plugins, train={"epochs": 1}), out=tmp_path / "run")  # its end loads what is best
    assert checkpoint.load(tmp_path / "run" / "checkpoints", checkpoint.BEST)["codec"]["shape"].tolist() == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("hook", ["truth", "warps"])
def test_a_fault_in_a_loader_worker_reaches_the_person_with_its_names(hook, tiny, tmp_path):
    fault = next(f for f in FAULTS if (f.hook, f.kind) == (hook, "NaN"))
    plugins, version = written(tmp_path, source(fault.hook, fault.body))
    with pytest.raises(PluginError) as found:
        ceph.train(tiny(plugins=plugins, data={"workers": 2}), out=tmp_path / "run")
    for word in (f"plugin 'mine' {version}, hook {hook}: ", fault.words, "hint: ", "--without mine"):
        assert word in str(found.value)
