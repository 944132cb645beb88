"""What plugins cost is counted in every run, a trace shows their calls, and neither changes a result."""

from __future__ import annotations

import json
import logging
import pickle
import re
import time

import numpy as np
import pytest
import torch
from tests.hooks.test_verbs import plugin
from tests.training.runs import ALL, last_weights, same_weights

import ceph
from ceph.cli.app import main
from ceph.hooks.base import Plugin, hookimpl
from ceph.hooks.trace import IN_STEP, NOTE, Spent, given, log, share_line, summary, traced
from ceph.hooks.verbs import Hooks
from ceph.runfolder.place import COST as FILE
from ceph.training import checkpoint

READER = """\
from ceph.plugin import Plugin, hookimpl


class Reader(Plugin):
    @hookimpl
    def truth(self, sample):
        return sample.points[0], sample.valid[0]
"""


def lines_of(text):
    """The lines of a trace: (place, hook, plugin, milliseconds, answer)."""
    pattern = r"(setup|epoch \d+(?: step \d+)?) +(\w+) +([\w-]+) +([\d.]+) ms  (.*)"
    return [re.fullmatch(pattern, line).groups() for line in text.splitlines()]


@pytest.fixture
def reader(tmp_path):
    (tmp_path / "reader.py").write_text(READER)
    return {"reader": {"from": str(tmp_path / "reader.py")}}


def test_each_call_is_counted_and_timed():
    def step_end(self):
        time.sleep(0.002)

    hooks = Hooks({"slow": plugin(step_end=step_end), "quick": plugin(step_end=lambda self: None)})
    for step in range(3):
        hooks.tell("step_end", step=step, model=None, loss=None)
    slow, quick = hooks.spent["slow"]["step_end"], hooks.spent["quick"]["step_end"]
    assert (slow.calls, quick.calls) == (3, 3)
    assert slow.seconds >= 0.006
    assert quick.seconds < slow.seconds


def test_an_observer_that_is_switched_off_keeps_what_it_took():
    def step_end(self, step):
        if step == 2:
            raise ValueError("boom")

    hooks = Hooks({"sink": plugin(step_end=step_end)})
    for step in range(5):
        hooks.tell("step_end", step=step, model=None, loss=None)
    assert hooks.spent["sink"]["step_end"].calls == 2


def test_the_shares_of_a_step_are_those_of_the_hooks_that_fire_in_it():
    spent = {
        "a": {"landmark_weights": Spent(4, 0.1), "step_end": Spent(4, 0.1), "epoch_end": Spent(1, 9.0)},
        "b": {"truth": Spent(8, 0.6), "run_start": Spent()},
        "c": {"loss_terms": Spent(4, 1e-5)},
    }
    found = summary(spent, steps=4, seconds=2.0)
    assert found["plugins"]["a"]["step_percent"] == pytest.approx(10)
    assert found["plugins"]["b"]["step_percent"] == pytest.approx(30)
    assert found["plugins"]["a"]["hooks"]["epoch_end"] == {"calls": 1, "seconds": 9.0}
    assert "run_start" not in found["plugins"]["b"]["hooks"]
    assert share_line(found) == "plugins: 40.0 % of a training step of 500 ms (b 30.0 %, a 10.0 %, c <0.1 %)"
    assert "a training step of 1315 ms (" in share_line(summary(spent, steps=4, seconds=5.26))
    assert "a training step of 1.33 ms (" in share_line(summary(spent, steps=4, seconds=0.00532))
    assert json.loads(json.dumps(found)) == found


ANSWERS = [
    (None, "-"),
    (torch.ones(4, 29, requires_grad=True), "float32 [4, 29]"),
    (torch.ones((), dtype=torch.bfloat16), "bfloat16 []"),
    (np.zeros(12), "float64 [12]"),
    ((512, 416), "tuple [512, 416]"),
    ({"shape": torch.ones(())}, "dict {shape: float32 []}"),
    ([1, 2, 3, 4, 5, 6], "list [1, 2, 3, 4, ... 6 in all]"),
    (torch.nn.Linear(1, 1), "Linear"),
]


@pytest.mark.parametrize(("answer", "text"), ANSWERS, ids=[text for _, text in ANSWERS])
def test_an_answer_is_told_in_a_few_words(answer, text):
    assert given(answer) == text


def test_telling_an_answer_reads_no_value_from_the_device():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():  # reading a value raises here
        assert given({"a": torch.ones(2, 3)}) == "dict {a: float32 [2, 3]}"


def test_without_a_trace_nothing_is_logged_and_a_trace_ends_with_its_block(capsys, caplog):
    made = {"a": plugin(warps=lambda self: [])}
    with caplog.at_level(logging.DEBUG, logger="ceph"), traced():
        Hooks(made).each("warps")
        printed = capsys.readouterr().err
    assert [line[1:3] for line in lines_of(printed)] == [("warps", "a")]
    assert [record.getMessage() for record in caplog.records] == printed.splitlines()
    Hooks(made).each("warps")
    assert capsys.readouterr().err == ""
    assert log.handlers == []


def test_the_trace_shows_each_call_and_after_an_epoch_the_means(capsys):
    steps = {
        "landmark_weights": lambda self: torch.ones(3),
        "step_end": lambda self: None,
        "batch_shape": lambda self: (64, 64),
        "epoch_end": lambda self: None,
        "run_start": lambda self: None,
    }
    with traced():
        hooks = Hooks({"mine": plugin(**steps)})
        hooks.tell("run_start", run=None)
        for epoch in (4, 5):
            hooks.tell("epoch_start", epoch=epoch, model=None)
            for index in range(6):
                hooks.one("batch_shape", lambda: None, epoch=epoch, index=index, size=(64, 64), seed=0)
            for step in range(3):
                for _ in range(2):  # two micro-batches a step
                    hooks.product("landmark_weights", (2, 3), batch=None, loss=torch.zeros(2, 3))
                hooks.tell("step_end", step=step, model=None, loss=None)
            hooks.tell("epoch_end", epoch=epoch, samples=(), loss=None, errors_mm=None, metrics={})
        hooks.tell("run_end", run=None, result=None)
    found = [(place, hook, what) for place, hook, _, _, what in lines_of(capsys.readouterr().err)]

    def step(place):
        return [(place, "landmark_weights", "float32 [3]")] * 2 + [(place, "step_end", "-")]

    def epoch(name):
        return [
            *[(name, "batch_shape", "tuple [64, 64]")] * 6,
            *(line for number in (1, 2, 3) for line in step(f"{name} step {number}")),
            (name, "epoch_end", "-"),
            (name, "batch_shape", "mean of 6 calls"),
            (name, "landmark_weights", "mean of 6 calls"),
            (name, "step_end", "mean of 3 calls"),
        ]

    assert found == [("setup", "run_start", "-"), *epoch("epoch 5"), *epoch("epoch 6")]


def test_a_copy_in_a_loader_worker_does_not_trace(capsys):
    with traced():
        copy = pickle.dumps(Hooks({"mine": Sampled()}))
        pickle.loads(copy).each("warps")
    assert capsys.readouterr().err.count("warps") == 1  # in the block a copy traces
    pickle.loads(copy).each("warps")
    assert capsys.readouterr().err == ""


class Sampled(Plugin):
    @hookimpl
    def warps(self):
        return []


def test_a_trace_and_the_times_change_no_result_and_are_in_no_checkpoint(tiny, tmp_path, capsys):
    config = tiny(plugins=ALL)
    plain = ceph.train(config, out=tmp_path / "plain")
    capsys.readouterr()
    with traced():
        shown = ceph.train(config, out=tmp_path / "shown")
    places = {line[0] for line in lines_of(capsys.readouterr().err)}
    assert {"setup", "epoch 1", *(f"epoch {epoch} step {step}" for epoch in (1, 2) for step in (1, 2, 3))} <= places
    assert same_weights(last_weights(plain.folder), last_weights(shown.folder))
    one, other = (checkpoint.load(run.folder / "checkpoints", checkpoint.LAST) for run in (plain, shown))
    assert one["progress"].keys() == other["progress"].keys()
    assert "timed" not in one["progress"]
    assert one["progress"]["records"] == other["progress"]["records"]


def test_a_run_ends_with_the_share_of_each_plugin(tiny, tmp_path):
    result = ceph.train(tiny(plugins=ALL), out=tmp_path / "run")
    found = json.loads((result.folder / FILE).read_text())
    assert (found["steps"], found["measured"]) == (6, NOTE)
    assert set(found["plugins"]) == set(ALL)
    for name, cost in found["plugins"].items():
        inside = sum(cost["hooks"][hook]["seconds"] for hook in IN_STEP if hook in cost["hooks"])
        assert cost["step_percent"] == pytest.approx(100 * inside / found["seconds"]), name
    assert found["plugins"]["weighted-loss"]["hooks"]["landmark_weights"]["calls"] == 6
    assert found["plugins"]["heavy-augmentation"]["step_percent"] == 0
    assert 0 < sum(cost["step_percent"] for cost in found["plugins"].values()) < 100
    assert share_line(found) in (result.folder / "log.txt").read_text()


def test_a_run_without_plugins_has_no_shares(tiny_run):
    assert not (tiny_run / FILE).exists()


@pytest.mark.parametrize(("workers", "films"), [(0, 12), (2, 0)])
def test_truth_is_seen_only_where_films_are_loaded_in_the_process_that_trains(
    tiny, tmp_path, reader, workers, films, capfd
):
    with traced():
        config = tiny(plugins=reader, train={"epochs": 1}, data={"workers": workers})
        result = ceph.train(config, out=tmp_path / "run")
    hooks = json.loads((result.folder / FILE).read_text())["plugins"]["reader"]["hooks"]
    assert hooks.get("truth", {"calls": 0})["calls"] == films
    assert [line for line in lines_of(capfd.readouterr().err) if line[1] == "truth"] == [] or films


def test_the_flag_prints_the_trace_to_stderr_and_the_shares_at_the_end(tiny_set, tmp_path, capsys):
    settings = ("data.size=[64,64]", "model.backbone=test_resnet", "model.weights=none", "train.epochs=1")
    call = ["run", "--data", str(tiny_set), *(w for s in (*settings, "train.device=cpu") for w in ("--set", s))]
    call += ["--plugin", "weighted-loss"]
    assert main([*call, "--trace-hooks", "--dry-run"]) == 0
    assert [line[:3] for line in lines_of(capsys.readouterr().err)] == [("setup", "check_run", "weighted-loss")]
    assert main([*call, "--trace-hooks", "--out", str(tmp_path / "run")]) == 0
    text = capsys.readouterr()
    assert ("epoch 1 step 1", "landmark_weights") in {line[:2] for line in lines_of(text.err)}
    assert re.search(
        r"^plugins: (<0\.1|\d+\.\d) % of a training step of \S+ ms \(weighted-loss ", text.out, re.MULTILINE
    )
    assert "DEBUG epoch 1 step 1" in (tmp_path / "run" / "log.txt").read_text()
    assert main(["run", "--resume", str(tmp_path / "run"), "--trace-hooks"]) == 2
    assert "not --trace-hooks" in capsys.readouterr().err
