"""The sinks observe without a wait for the device, write what they saw with the real packages, and ask for these."""

import dataclasses
import importlib.util
import json
import os
import pickle
import sqlite3
import struct
import subprocess
import sys
import time
import warnings

import pytest
import torch
from pydantic import ValidationError

import ceph
from ceph.config.models import Config
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph_plugins.sinks import (
    Mlflow,
    MlflowConfig,
    Tensorboard,
    TensorboardConfig,
    Trackio,
    TrackioConfig,
    Wandb,
    WandbConfig,
    dotted,
    scalars,
)

SINKS = {
    "tensorboard": (Tensorboard, TensorboardConfig),
    "trackio": (Trackio, TrackioConfig),
    "wandb": (Wandb, WandbConfig),
    "mlflow": (Mlflow, MlflowConfig),
}
FIGURES = {
    "mre_mm": 2.0,
    "sd_mm": None,
    "sdr_percent": {"2.0": 50.0, "4.0": None},
    "n_images": 4,
    "truth": "mean",
    "per_landmark": {"Pog`": {"mre_mm": 3.0, "n": 4}, "Ar": {"mre_mm": None, "n": 0}},
    "plugins": {"hard_mre_mm": 3.0},
    "higher_is_better": ["hard_mre_mm"],
}


def needs(package):
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs the extra: pip install 'ceph-trainer[{package}]'")


def test_the_curves_of_a_validation_are_its_numbers_and_one_a_landmark():
    assert dict(scalars(FIGURES)) == {
        "mre_mm": 2.0,
        "sdr_percent/2.0": 50.0,
        "per_landmark/Pog`": 3.0,
        "plugins/hard_mre_mm": 3.0,
    }


def test_settings_have_a_dotted_name_each():
    nested = {"train": {"lr": 0.1, "clip": {"norm": 5}}, "plugins": {}}
    assert dict(dotted(nested)) == {"train.lr": 0.1, "train.clip.norm": 5}


@pytest.mark.parametrize("name", SINKS)
def test_without_the_package_a_run_is_refused_with_the_command_that_installs_it(name, make_run, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as found:
        Hooks({name: SINKS[name][0]()}).tell("check_run", run=make_run())
    assert str(found.value) == (
        f"plugins.{name}: the package {name} is not installed\n  hint: pip install 'ceph-trainer[{name}]'"
    )


class Unread(torch.Tensor):
    """A loss that must not be read yet."""

    def item(self):
        raise AssertionError("waits for the device")

    __float__ = __bool__ = tolist = cpu = item


@pytest.mark.parametrize("name", SINKS)
def test_the_loss_of_some_steps_is_kept_unread(name):
    plugin = SINKS[name][0](SINKS[name][1](every=2))
    hooks = Hooks({name: plugin})
    for step in range(1, 6):
        hooks.tell("step_end", step=step, model=None, loss=torch.tensor(float(step)).as_subclass(Unread))
    assert list(plugin.losses) == [2, 4]
    assert not hooks.disabled


@pytest.mark.parametrize("name", SINKS)
def test_what_is_open_stays_behind_when_it_is_sent_to_a_loader_worker(name, make_run):
    plugin = SINKS[name][0]()
    plugin.run, plugin.out, plugin.losses = make_run(), lambda: None, {1: torch.ones(())}
    sent = pickle.loads(pickle.dumps(plugin))
    assert (sent.out, sent.losses, sent.config) == (None, {}, plugin.config)


def test_it_only_observes_so_a_fault_of_it_does_not_end_a_run(make_run, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    hooks = Hooks({"tensorboard": Tensorboard(TensorboardConfig(folder=str(tmp_path / "file")))})
    told(hooks, make_run(), tmp_path / "first")
    assert "tensorboard" in hooks.disabled
    assert "it only observes" in caplog.text


def told(hooks, run, folder, epoch=0):
    """Tell of one epoch, of two steps, of a run in `folder`."""
    folder.mkdir(exist_ok=True)
    hooks.tell("run_start", run=dataclasses.replace(run, folder=folder, config=Config(), steps_per_epoch=2))
    for step in (1, 2):
        hooks.tell("step_end", step=2 * epoch + step, model=None, loss=torch.tensor(0.5 * step))
    table = torch.tensor([[1.0, torch.nan], [3.0, 2.0]])
    tables = {"samples": run.samples, "loss": table, "errors_mm": 10 * table}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the packages' own
        hooks.tell("epoch_end", epoch=epoch, metrics=FIGURES, **tables)
        hooks.tell("run_end", run=run, result=None)
    return hooks


def sunk(name, make_run, where, **settings):
    """A run of two epochs that was stopped after the first and resumed: what a sink of this name was told."""
    for epoch in (0, 1):
        hooks = Hooks({name: SINKS[name][0](SINKS[name][1](every=1, **settings))})
        told(hooks, make_run(), where, epoch)
        assert not hooks.disabled


@pytest.mark.parametrize(("steps", "expected"), [((5, 6, 7), 7), ((), 6)])
def test_figures_stand_at_the_step_that_was_made_and_not_at_the_nominal_one(make_run, tmp_path, steps, expected):
    """Batches of small films are larger with `train.constant_pixels`, so an epoch may have fewer steps than planned."""
    written = []

    class Kept(Tensorboard):
        def open(self, run, folder):
            return object()

        def write(self, numbers, step, epoch):
            written.append((step, epoch))

    plugin = Kept(TensorboardConfig(every=1))
    plugin.run_start(run=dataclasses.replace(make_run(), folder=tmp_path, steps_per_epoch=3))
    for step in steps:
        plugin.step_end(step=step, loss=torch.tensor(0.5))
    plugin.epoch_end(epoch=1, loss=torch.ones(2, 2), errors_mm=torch.ones(2, 2), metrics=FIGURES)
    assert written == [*((step, None) for step in steps), (expected, 2)]


# --- tensorboard -----------------------------------------------------------------------------------------------------


def curves(folder):
    """{name: [(step, value)]} of the run in a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = EventAccumulator(str(folder)).Reload()
    return {name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]}


@needs("tensorboard")
def test_tensorboard_has_steps_and_epochs_as_told_and_a_resumed_run_goes_on(make_run, tmp_path):
    sunk("tensorboard", make_run, tmp_path / "first", folder=str(tmp_path / "all"))
    found = curves(tmp_path / "all" / "first")
    assert found["step/loss"] == [(1, 0.5), (2, 1.0), (3, 0.5), (4, 1.0)]
    assert found["train/loss"] == [(1, 2.0), (2, 2.0)]
    assert found["train/mre_mm"] == [(1, 20.0), (2, 20.0)]
    assert found["validation/mre_mm"] == [(1, 2.0), (2, 2.0)]
    assert found["validation/per_landmark/Pog`"] == [(1, 3.0), (2, 3.0)]


@needs("tensorboard")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_writes_its_curves(tiny, tmp_path):
    plugins = {"tensorboard": {"every": 1}}
    result = ceph.train(tiny(plugins=plugins), out=tmp_path / "run")
    found = curves(tmp_path / "run" / "tensorboard")
    assert [step for step, _ in found["step/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [epoch for epoch, _ in found["validation/mre_mm"]] == [1, 2]
    assert min(value for _, value in found["validation/mre_mm"]) == pytest.approx(result.metrics["mre_mm"], rel=1e-5)


# --- wandb -----------------------------------------------------------------------------------------------------------


def records(file):
    """The records of an offline run: LevelDB's log format, a protocol buffer a record."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = file.read_bytes(), 7, []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if left < 7 or kind == 0:
            at += left
            continue
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(b"".join(parts))
            parts = []


def offline(folder):
    """The ids and the history of the offline runs under a folder: {id}, [{name: value}]."""
    ids, rows = set(), []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        until = time.monotonic() + 30
        while not any(r.HasField("exit") for r in records(file)) and time.monotonic() < until:
            time.sleep(0.1)  # a process of wandb's own writes, and a little later than `finish` returns
        for record in records(file):
            if record.HasField("run"):
                ids.add(record.run.run_id)
            if record.HasField("history"):
                items = record.history.item
                rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return ids, rows


@needs("wandb")
def test_wandb_writes_offline_into_the_run_folder_and_a_resumed_run_has_the_same_id(make_run, tmp_path, capfd):
    folder = tmp_path / "first"
    sunk("wandb", make_run, folder)
    ids, rows = offline(folder)
    assert ids == {(folder / "wandb.txt").read_text().strip()}
    losses = [(row["_step"], row["step/loss"]) for row in rows if "step/loss" in row]
    assert losses == [(1, 0.5), (2, 1.0), (3, 0.5), (4, 1.0)]
    epochs = [row for row in rows if "epoch" in row]
    assert [(row["_step"], row["epoch"], row["train/mre_mm"]) for row in epochs] == [(2, 1, 20.0), (4, 2, 20.0)]
    assert epochs[0]["validation/per_landmark/Pog`"] == 3.0
    assert capfd.readouterr() == ("", "")


# --- trackio ---------------------------------------------------------------------------------------------------------


@needs("trackio")
@pytest.mark.slow
def test_trackio_keeps_the_curves_of_a_run_on_this_machine(tiny_set, tmp_path):
    small = [
        "data.size=[64,64]",
        "model.backbone=test_resnet",
        "model.weights=none",
        "train.epochs=2",
        "train.batch_size=6",
    ]
    settings = [part for s in [*small, "plugins.trackio.every=1", "train.device=cpu"] for part in ("--set", s)]
    command = ["run", "--plugin", "trackio", "--data", str(tiny_set), "--out", str(tmp_path / "first"), *settings]
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "ceph.cli.app", *command], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "switched off" not in ran.stdout + ran.stderr
    assert "Trackio" not in ran.stdout
    with sqlite3.connect(tmp_path / "trackio" / "ceph.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics").fetchall()
    assert {name for name, _, _ in rows} == {(tmp_path / "first" / "trackio.txt").read_text().strip()}
    told = [(step, json.loads(text)) for _, step, text in rows]
    assert sorted(step for step, found in told if "step/loss" in found) == [1, 2, 3, 4]
    assert sorted((step, found["epoch"]) for step, found in told if "epoch" in found) == [(2, 1), (4, 2)]
    validated = json.loads((tmp_path / "first" / "metrics.jsonl").read_text().splitlines()[-1])["validation"]
    assert next(f for _, f in told if f.get("epoch") == 2)["validation/mre_mm"] == pytest.approx(validated["mre_mm"])


# --- mlflow ----------------------------------------------------------------------------------------------------------


@needs("mlflow")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # its import alone warns
def test_mlflow_writes_into_the_run_folder_and_a_resumed_run_goes_on(make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "first"
    sunk("mlflow", make_run, folder)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("ceph").experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params["train.batch_size"] == "8"

    def history(name):
        return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]

    assert history("step/loss") == [(1, 0.5), (2, 1.0), (3, 0.5), (4, 1.0)]
    assert history("train/mre_mm") == [(1, 20.0), (2, 20.0)]
    assert history("validation/per_landmark/Pog_") == [(1, 3.0), (2, 3.0)]
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


@needs("mlflow")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_runs_that_share_a_database_stand_side_by_side(make_run, tmp_path):
    for name in ("first", "second"):
        sunk("mlflow", make_run, tmp_path / name, uri=f"sqlite:///{tmp_path / 'all.db'}", experiment="films")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'all.db'}")
    found = client.search_runs([client.get_experiment_by_name("films").experiment_id])
    assert sorted(run.info.run_name for run in found) == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *((name, {"every": 0}) for name in SINKS),
        *((name, {"logdir": "x"}) for name in SINKS),
        ("tensorboard", {"folder": ""}),
        ("trackio", {"space": ""}),
        ("wandb", {"mode": "disabled"}),
        ("mlflow", {"uri": ""}),
    ],
)
def test_wrong_settings_are_refused(name, wrong):
    with pytest.raises(ValidationError):
        SINKS[name][1](**wrong)
