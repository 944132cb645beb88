"""Several processes train as one does: the same plan, the same loss, one writer, one voice."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import signal
import sqlite3
import time
from collections import Counter

import pytest
import torch
from tests.distributed.launch import DOUBLE, forked, launch, ranks_of, records, start, until, written
from tests.plugins.test_sinks import curves, offline
from tests.training import parts
from tests.training.runs import ALL, last_weights, same_weights

import ceph
from ceph.data.plan import plan_epoch
from ceph.training import checkpoint
from ceph.training.ranks import ALONE, Ranks

SHELF = {
    "weighted-loss": {},
    "hard-mining": {"warmup_epochs": 1, "pixels": True},
    "multi-scale": {"scales": [0.5, 1.0]},
    "heavy-augmentation": {},
    "ema": {},
    "tta": {},
    "shape-prior": {"warmup_epochs": 0},
    "annotator-noise": {},
    "fine-tune": {"freeze": 2, "freeze_epochs": 1},
    "attention-head": {},
    "anisotropic-targets": {"spread": 20},
    "coordinate-loss": {},
    "hard-only": {},
    "mean-teacher": {"ramp": 1},
}
TOGETHER = SHELF
SINKS = ("tensorboard", "trackio", "wandb", "mlflow")


def curve(run, *names):
    return [line[name] for line in records(run) for name in names or ("loss", "train_mre_mm")]


def last(run):
    return checkpoint.load(run / "checkpoints", checkpoint.LAST)


def plugin(folder, name, body, more=""):
    path = folder / f"{name}.py"
    path.write_text(
        "import json, os, pathlib, torch\nfrom ceph.plugin import Plugin, PluginConfig, hookimpl\n\n\n"
        f"class Mine(Plugin[PluginConfig]):\n    '''A test.'''\n{more}\n    @hookimpl\n{body}"
    )
    return {name: {"from": str(path)}}


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 7])
def test_processes_share_each_batch_and_none_is_without_a_film(ranks, batch_size):
    plan = plan_epoch(11, batch_size, seed=0, epoch=1, size=(64, 64))
    parts = [plan.part(rank, ranks) for rank in range(ranks)]
    for index, batch in enumerate(plan.batches):
        own = [parts[r][index][: Ranks(r, ranks).share(len(batch))] for r in range(ranks)]
        assert sorted(entry for part in own for entry in part) == sorted(batch)
        assert all(parts[r][index] for r in range(ranks))


def test_one_process_exchanges_nothing():
    value = torch.tensor(3.0)
    assert ALONE.averaged(value) is value
    assert ALONE.gathered((value,), 1) == (value,)
    assert (ALONE.greatest(2), ALONE.agreed("a"), ALONE.collected(1)) == (2, "a", [1])


# --- the same training -----------------------------------------------------------------------------------------------


def test_two_processes_train_as_one_does_and_one_of_them_writes(tiny, tmp_path):
    config = tiny(train={"batch_size": 5})  # slices of three and two films
    words = "run", written(config, tmp_path / "c.json"), "--out", tmp_path / "two"
    codes, (out, other), err = forked(2, *words, folder=tmp_path / "io")
    assert codes == [0, 0], err
    assert not other
    alone = ceph.train(config, out=tmp_path / "one").folder
    assert curve(tmp_path / "two") == pytest.approx(curve(alone), rel=1e-5)
    names = {p.relative_to(alone).as_posix() for p in alone.rglob("*") if p.is_file()}
    assert {p.relative_to(tmp_path / "two").as_posix() for p in (tmp_path / "two").rglob("*") if p.is_file()} == names
    assert out.count("epoch   1/2") == 1
    assert out.count("run: ") == 1
    assert len((tmp_path / "two" / "log.txt").read_text().splitlines()) <= len(
        (alone / "log.txt").read_text().splitlines()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {"train": {"batch_size": 1}},  # one process of two has no film
        {"train": {"batch_size": 5, "epochs": 8}},
        {"train": {"batch_size": 8, "constant_pixels": True}, "plugins": {"multi-scale": {"scales": [1.0, 2.0]}}},
        {"train": {"batch_size": 3, "accumulate": 2}, "loss": {"name": "adaptive-wing"}},
        {"train": {"batch_size": 4, "clip_norm": 0.0, "epochs": 3}},
        {"plugins": {"weighted-loss": {}, "shape-prior": {"warmup_epochs": 0}}},
    ],
    ids=["batch-1", "eight-epochs", "constant-pixels", "accumulate", "no-clip", "weights-and-terms"],
)
def test_only_rounding_parts_the_loss_curve_from_that_of_one_process(tiny, tmp_path, sections):
    config = written(tiny(**sections), tmp_path / "c.json")
    for ranks, name in ((1, "one"), (2, "two")):  # in double precision: training makes roundings of fp32 grow
        code, _, err = launch(ranks, "run", config, "--out", tmp_path / name, program=DOUBLE)
        assert code == 0, err
    # A film that stands in for an empty slice counts in the norms' statistics.
    tolerance = 0.05 if sections.get("train", {}).get("batch_size") == 1 else 1e-12
    assert curve(tmp_path / "two", "loss") == pytest.approx(curve(tmp_path / "one", "loss"), rel=tolerance)


@pytest.mark.slow
def test_modules_train_beside_the_network_on_two_processes_as_on_one(tiny, tmp_path):
    plugins = parts.switched_on(tmp_path)
    config = written(tiny(plugins=plugins, train={"batch_size": 3, "accumulate": 2}), tmp_path / "c.json")
    for ranks, name in ((1, "one"), (2, "two")):
        code, _, err = launch(ranks, "run", config, "--out", tmp_path / name, program=DOUBLE)
        assert code == 0, err
    assert curve(tmp_path / "two", "loss") == pytest.approx(curve(tmp_path / "one", "loss"), rel=1e-12)
    one, two = (last(tmp_path / name)["model"] for name in ("one", "two"))
    for name in parts.NAMES:
        torch.testing.assert_close(one[name], two[name], rtol=1e-9, atol=1e-12)
    assert records(tmp_path / "two")[-1]["validation"]["plugins"]["heads"] == 1


@pytest.mark.slow
def test_loader_workers_of_each_process_change_no_bit(tiny, tmp_path):
    for workers in (0, 2):
        config = written(tiny(data={"workers": workers}, plugins=ALL), tmp_path / "c.json")
        code, _, err = launch(2, "run", config, "--out", tmp_path / str(workers))
        assert code == 0, err
    assert same_weights(last_weights(tmp_path / "0"), last_weights(tmp_path / "2"))
    assert (tmp_path / "0" / "metrics.jsonl").read_bytes() == (tmp_path / "2" / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_run_to_run_two_processes_are_bit_identical_and_see_the_same_epochs(tiny, tmp_path):
    body = (
        "    def epoch_end(self, epoch, loss, errors_mm, metrics):\n"
        "        seen = [loss.nan_to_num(-1).tolist(), errors_mm.nan_to_num(-1).tolist(), dict(metrics)]\n"
        "        file = pathlib.Path(os.environ['SEEN'], f'{epoch}-{os.environ[\"RANK\"]}.json')\n"
        "        file.write_text(json.dumps(seen))\n"
    )
    memory = (
        "\n    def state_dict(self):\n        return {'here': 1}\n"
        "\n    def load_state_dict(self, state):\n        pass\n"
    )
    weights = []
    for name in ("a", "b"):
        seen = tmp_path / f"seen-{name}"
        seen.mkdir()
        plugins = {**TOGETHER, **plugin(tmp_path, "look", body, memory)}
        config = written(tiny(plugins=plugins), tmp_path / "c.json")
        code, _, err = launch(2, "run", config, "--out", tmp_path / name, SEEN=str(seen))
        assert code == 0, err
        for epoch in (0, 1):
            assert (seen / f"{epoch}-0.json").read_bytes() == (seen / f"{epoch}-1.json").read_bytes()
        weights.append(last_weights(tmp_path / name))
    assert same_weights(*weights)
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHELF)
def test_a_plugin_of_the_shelf_trains_in_two_processes_as_in_one(tiny, tmp_path, name):
    config = tiny(plugins={name: SHELF[name]})
    code, _, err = launch(2, "run", written(config, tmp_path / "c.json"), "--out", tmp_path / "two")
    assert code == 0, err
    alone = ceph.train(config, out=tmp_path / "one").folder
    assert curve(tmp_path / "two", "loss") == pytest.approx(curve(alone, "loss"), rel=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not all(map(importlib.util.find_spec, SINKS)), reason="the extra `sinks` is not installed")
def test_sinks_are_written_by_one_process(tiny, tmp_path):
    config = written(tiny(plugins={name: {"every": 1} for name in SINKS}), tmp_path / "c.json")
    code, _, err = launch(2, "run", config, "--out", tmp_path / "run", TRACKIO_DIR=str(tmp_path / "trackio"))
    assert code == 0, err
    assert "switched off" not in err
    run = tmp_path / "run"
    points = dict.fromkeys(range(1, 7), 1)  # two epochs of three steps; each step once
    found = curves(run / "tensorboard")
    assert Counter(step for step, _ in found["step/loss"]) == points
    assert [loss for _, loss in found["train/loss"]] == pytest.approx(curve(run, "loss"))
    with sqlite3.connect(tmp_path / "trackio" / "ceph.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics").fetchall()
    assert {name for name, _, _ in rows} == {"run"}
    assert Counter(step for _, step, text in rows if "step/loss" in json.loads(text)) == points
    with sqlite3.connect(run / "mlflow.db") as base:
        assert base.execute("select count(*) from runs").fetchall() == [(1,)]
        assert Counter(step for (step,) in base.execute("select step from metrics where key = 'step/loss'")) == points
    ids, rows = offline(run)
    assert len(ids) == len(list(run.glob("wandb/offline-run-*"))) == 1
    assert Counter(row["_step"] for row in rows if "step/loss" in row) == points
    alone = ceph.train(tiny(), out=tmp_path / "alone").folder
    assert curve(run, "loss") == pytest.approx(curve(alone, "loss"), rel=1e-3)


@pytest.mark.slow
def test_norms_of_each_process_alone_train_too_and_are_the_first_one_s(tiny, tmp_path):
    config = tiny(train={"sync_batchnorm": False}, plugins={"ema": {}})
    weights = []
    for name in ("a", "b"):
        code, _, err = launch(2, "run", written(config, tmp_path / "c.json"), "--out", tmp_path / name)
        assert code == 0, err
        weights.append(last_weights(tmp_path / name))
    assert same_weights(*weights)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_checkpoint_goes_on_with_another_number_of_processes(tiny, tmp_path, before, after):
    run, whole = tmp_path / "run", tmp_path / "whole"
    four = tiny(plugins=ALL, train={"epochs": 4})
    assert launch(before, "run", written(four, tmp_path / "c.json"), "--out", whole)[0] == 0
    half = tiny(plugins=ALL, train={"epochs": 4, "stop_after": 2})
    assert launch(before, "run", written(half, tmp_path / "c.json"), "--out", run)[0] == 0
    config = run / "config.yaml"
    config.write_text(
        "".join(line for line in config.read_text().splitlines(keepends=True) if "stop_after" not in line)
    )
    code, _, err = launch(after, "run", "--resume", run)
    assert code == 0, err
    assert [line["epoch"] for line in records(run)] == [0, 1, 2, 3]
    assert curve(run, "loss") == pytest.approx(curve(whole, "loss"), rel=1e-3)
    assert curve(run, "loss")[:2] == curve(whole, "loss")[:2]


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endless(tiny_set, tmp_path_factory):
    """A config of twelve epochs, and the weights in which it ends when nothing disturbs it."""
    folder = tmp_path_factory.mktemp("whole")
    config = {
        "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": 12, "batch_size": 4, "precision": "fp32", "device": "cpu"},
        "plugins": ALL,
    }
    path = written(config, folder / "c.json")
    code, _, err = launch(2, "run", path, "--out", folder / "run")
    assert code == 0, err
    return path, last_weights(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(10))
def test_a_killed_process_ends_the_job_within_a_minute_and_the_run_goes_on_exactly(endless, tmp_path, attempt):
    config, whole = endless
    chance, run = random.Random(attempt), tmp_path / "run"
    job = start(2, "run", config, "--out", run)
    until(run, chance.randint(0, 9))
    time.sleep(chance.random())
    victim = ranks_of(job)[attempt % 2]
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    _, err = job.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert job.returncode != 0
    assert "SIGKILL" in err
    code, _, err = launch(2, "run", "--resume", run)
    assert code == 0, err
    assert same_weights(last_weights(run), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whom"),
    [(signal.SIGTERM, "second"), (signal.SIGINT, "first"), (signal.SIGTERM, "all"), (signal.SIGINT, "torchrun")],
)
def test_a_signal_to_any_process_writes_one_checkpoint_and_all_leave(endless, tmp_path, number, whom):
    config, whole = endless
    run = tmp_path / "run"
    job = start(2, "run", config, "--out", run)
    until(run, 1)
    ranks = ranks_of(job)
    chosen = {"second": [ranks[1]], "first": [ranks[0]], "all": [*ranks.values(), job.pid], "torchrun": [job.pid]}
    for process in chosen[whom]:
        os.kill(process, number)
    _, err = job.communicate(timeout=60)
    assert err.count("error: stopped by a signal") == 1
    assert err.count(f"ceph run --resume {run}") == 1
    if whom in ("first", "second"):  # else torchrun tells of its own end
        assert err.count(f"exitcode  : {128 + number} ") == 2
    code, _, err = launch(2, "run", "--resume", run)
    assert code == 0, err
    assert same_weights(last_weights(run), whole)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_plugin_that_fails_in_one_process_is_named_once_and_leaves_a_checkpoint(tiny, tmp_path, rank):
    body = (
        "    def landmark_weights(self, batch, loss):\n"
        f"        if batch.step == 4 and os.environ['RANK'] == '{rank}': raise KeyError('oops')\n"
    )
    config = written(tiny(plugins=plugin(tmp_path, "bad", body)), tmp_path / "c.json")
    code, _, err = launch(2, "run", config, "--out", tmp_path / "run")
    assert code != 0
    assert err.count("error: ") == 1
    assert "error: plugin 'bad'" in err
    assert "KeyError: 'oops'" in err
    assert last(tmp_path / "run")["progress"]["step"] == 4


@pytest.mark.slow
def test_a_nan_weight_of_a_plugin_in_one_process_is_told_by_its_name_and_not_by_films(tiny, tmp_path):
    body = (
        "    def pixel_weights(self, batch, pred):\n"
        "        return pred * 0 + (float('nan') if os.environ['RANK'] == '1' else 1.0)\n"
    )
    config = written(tiny(plugins=plugin(tmp_path, "bad", body)), tmp_path / "c.json")
    code, _, err = launch(2, "run", config, "--out", tmp_path / "run")
    assert code != 0
    assert err.count("error: ") == 1
    assert "error: plugin 'bad'" in err
    assert all(torch.isfinite(part).all() for part in last_weights(tmp_path / "run").values())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stop", "skip"])
def test_a_loss_that_is_not_finite_in_one_process_stops_or_skips_in_all(tiny, tmp_path, mode):
    body = (
        "    def build_criterion(self, run, default):\n        plain, calls = default(), []\n\n"
        "        def criterion(pred, target, weights):\n            calls.append(1)\n"
        "            bad = os.environ['RANK'] == '1' and len(calls) == 2\n"
        "            return plain(pred, target, weights) + torch.tensor(float('nan') if bad else 0.0)\n\n"
        "        return criterion\n"
    )
    config = tiny(plugins=plugin(tmp_path, "bad", body), train={"non_finite": mode})
    code, _, err = launch(2, "run", written(config, tmp_path / "c.json"), "--out", tmp_path / "run")
    assert all(torch.isfinite(part).all() for part in last_weights(tmp_path / "run").values())
    if mode == "skip":
        assert code == 0, err
        assert [line["skipped_steps"] for line in records(tmp_path / "run")] == [1, 0]
        assert all(math.isfinite(loss) for loss in curve(tmp_path / "run"))
    else:
        assert code != 0
        assert err.count("error: the loss is not finite at step 1") == 1
        assert err.count("synthetic-") == 4


@pytest.mark.slow
def test_a_wrong_call_is_told_once_and_a_folder_in_use_is_refused(tiny, tmp_path):
    config = written(tiny(train={"epochs": 1}), tmp_path / "c.json")
    code, _, err = launch(2, "run", config, "--set", "train.epoch=3")
    assert code != 0
    assert err.count("error: ") == 1
    assert launch(2, "run", config, "--out", tmp_path / "run")[0] == 0
    before = json.loads((tmp_path / "run" / "metrics.json").read_text())
    code, _, err = launch(2, "run", config, "--out", tmp_path / "run")
    assert code != 0
    assert err.count("error: ") == 1
    assert "already holds a run" in err
    code, out, err = launch(2, "run", "--resume", tmp_path / "run")
    assert code == 0, err
    assert out.count("run: ") == 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == before
