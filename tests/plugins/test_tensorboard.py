"""tensorboard: it observes without a wait for the device, writes what it saw, and asks for its package."""

import dataclasses
import importlib.util
import sys
import warnings
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import ceph
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph_plugins.tensorboard import Tensorboard, TensorboardConfig, scalars

FIGURES = {
    "mre_mm": 2.0,
    "sd_mm": None,
    "sdr_percent": {"2.0": 50.0, "4.0": None},
    "n_images": 4,
    "truth": "mean",
    "per_landmark": {"Go": {"mre_mm": 3.0, "n": 4}, "Ar": {"mre_mm": None, "n": 0}},
    "plugins": {"hard_mre_mm": 3.0},
}
needs_package = pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is an extra")


def test_the_curves_of_a_validation_are_its_numbers_and_one_a_landmark():
    assert dict(scalars(FIGURES)) == {
        "mre_mm": 2.0,
        "sdr_percent/2.0": 50.0,
        "per_landmark/Go": 3.0,
        "plugins/hard_mre_mm": 3.0,
    }


def test_without_the_package_a_run_is_refused_with_the_command_that_installs_it(make_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"not installed\n  hint: pip install 'ceph-trainer\[tensorboard\]'"):
        Hooks({"tensorboard": Tensorboard()}).tell("check_run", run=make_run())


class Unread(torch.Tensor):
    """A loss that must not be read yet."""

    def item(self):
        raise AssertionError("waits for the device")

    __float__ = __bool__ = tolist = cpu = item


def test_the_loss_of_some_steps_is_kept_unread():
    plugin = Tensorboard(TensorboardConfig(every=2))
    hooks = Hooks({"tensorboard": plugin})
    for step in range(1, 6):
        hooks.tell("step_end", step=step, model=None, loss=torch.tensor(float(step)).as_subclass(Unread))
    assert list(plugin.losses) == [2, 4]
    assert not hooks.disabled


def test_it_only_observes_so_a_fault_of_it_does_not_end_a_run(make_run, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    hooks = Hooks({"tensorboard": Tensorboard(TensorboardConfig(folder=str(tmp_path / "file")))})
    told(hooks, make_run())
    assert "tensorboard" in hooks.disabled
    assert "it only observes" in caplog.text


def told(hooks, run):
    """Tell of a run of one epoch of two steps."""
    hooks.tell("run_start", run=dataclasses.replace(run, folder=Path("runs/first")))
    for step in (1, 2):
        hooks.tell("step_end", step=step, model=None, loss=torch.tensor(0.5 * step))
    table = torch.tensor([[1.0, torch.nan], [3.0, 2.0]])
    tables = {"samples": run.samples, "loss": table, "errors_mm": 10 * table}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own
        hooks.tell("epoch_end", epoch=0, metrics=FIGURES, **tables)
    hooks.tell("run_end", run=run, result=None)


def curves(folder):
    """{name: [(step, value)]} of the run in a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = EventAccumulator(str(folder)).Reload()
    return {name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]}


@needs_package
def test_steps_and_epochs_are_written_as_told(make_run, tmp_path):
    hooks = Hooks({"tensorboard": Tensorboard(TensorboardConfig(folder=str(tmp_path), every=1))})
    told(hooks, make_run())
    assert not hooks.disabled
    found = curves(tmp_path / "first")
    assert found["step/loss"] == [(1, 0.5), (2, 1.0)]
    assert found["train/loss"] == [(1, 2.0)]
    assert found["train/mre_mm"] == [(1, 20.0)]
    assert found["validation/mre_mm"] == [(1, 2.0)]
    assert found["validation/per_landmark/Go"] == [(1, 3.0)]


@needs_package
@pytest.mark.filterwarnings("ignore")
def test_a_run_writes_its_curves(tiny, tmp_path):
    plugins = {"tensorboard": {"every": 1}}
    result = ceph.train(tiny(plugins=plugins), out=tmp_path / "run")
    found = curves(tmp_path / "run" / "tensorboard")
    assert [step for step, _ in found["step/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [epoch for epoch, _ in found["validation/mre_mm"]] == [1, 2]
    assert min(value for _, value in found["validation/mre_mm"]) == pytest.approx(result.metrics["mre_mm"], rel=1e-5)


@pytest.mark.parametrize("wrong", [{"every": 0}, {"folder": ""}, {"logdir": "x"}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        TensorboardConfig(**wrong)
