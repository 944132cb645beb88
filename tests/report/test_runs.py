"""The list of runs: how each stands, what it reached, and that a broken one is a line and no error."""

from __future__ import annotations

import json
import os

import pytest
from filelock import FileLock
from tests.report.folders import write_run

from ceph.report.runs import find_runs, run_rows
from ceph.runfolder import is_locked, standing


@pytest.mark.parametrize("state", ["finished", "interrupted", "failed"])
def test_a_run_stands_as_its_state_says(tmp_path, state):
    write_run(tmp_path / "r", state=state, log=("INFO done: validation MRE 1.0 mm",))
    assert [run.state for run in find_runs(tmp_path)] == [state]


def test_a_run_is_running_while_a_process_holds_its_folder_and_interrupted_when_that_is_gone(tmp_path):
    run = write_run(tmp_path / "r", state="running")
    with FileLock(run / ".lock"):
        assert standing(run).state == "running"
    assert standing(run).state == "interrupted"


def test_looking_leaves_no_lock_behind_and_makes_none(tmp_path):
    run = write_run(tmp_path / "r")
    assert not is_locked(run)
    assert not (run / ".lock").exists()
    lock = FileLock(run / ".lock")
    with lock:
        pass
    assert not is_locked(run)
    lock.acquire(timeout=0)
    lock.release()


def test_runs_are_found_below_folders_and_the_latest_is_first(tmp_path):
    write_run(tmp_path / "old", started="2026-01-01T00:00:00+00:00")
    write_run(tmp_path / "cells" / "a" / "s0", started="2026-01-03T00:00:00+00:00")
    write_run(tmp_path / "mid", started="2026-01-02T00:00:00+00:00")
    (tmp_path / "notes").mkdir()
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "config.yaml").write_text("model: {}\n")
    assert [run.name for run in find_runs(tmp_path)] == ["cells/a/s0", "mid", "old"]
    assert [run.name for run in find_runs(tmp_path / "mid")] == ["mid"]


def test_a_run_says_what_it_reached(tmp_path):
    write_run(tmp_path / "r", splits=("validation", "test1"), plugins=("hard-mining", "ema"))
    (run,) = find_runs(tmp_path)
    assert (run.state, run.epochs, run.planned, run.seed, run.backbone) == ("finished", 3, 3, 7, "test_resnet")
    assert run.validation_mm == pytest.approx(2.25)
    assert run.tests_mm == {"test1": pytest.approx(2.25)}
    assert run.plugins == ("hard-mining", "ema")
    json.dumps(run.to_dict())


def test_a_run_that_is_not_scored_shows_its_best_validation_so_far(tmp_path):
    write_run(tmp_path / "r", splits=(), epochs=2, planned=5)
    (run,) = find_runs(tmp_path)
    assert (run.validation_mm, run.epochs, run.planned, run.tests_mm) == (2.0, 2, 5, {})


def test_broken_runs_are_listed_with_what_is_wrong(tmp_path):
    for name, file, content in (
        ("a", "metrics.json", "{"),
        ("b", "metrics.jsonl", "\0\0\0"),
        ("c", "config.yaml", "- no\n"),
        ("d", "environment.json", "[]"),
        ("e", "log.txt", "\udcff"),
        ("g", "config.yaml", "train:\n  epochs: \u00b2\n  seed: " + "9" * 5000 + "\n"),
        ("h", "state.json", '{"format": 1, "state": []}'),
        ("i", "state.json", '{"format": 2}'),
        ("j", "config.yaml", "\udcff\0"),
    ):
        run = write_run(tmp_path / name)
        (run / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    (tmp_path / "f" / "checkpoints").mkdir(parents=True)
    (tmp_path / "f" / "config.yaml").write_text("")
    runs = {run.name: run for run in find_runs(tmp_path)}
    assert sorted(runs) == list("abcdefghij")
    assert "metrics.json" in runs["a"].note
    assert "metrics.jsonl" in runs["b"].note
    assert "config.yaml" in runs["c"].note
    assert (runs["g"].planned, runs["g"].seed) == (None, None)
    assert [runs[name].state for name in "hi"] == ["unknown", "unknown"]
    assert "its format is 2" in runs["i"].note
    assert "config.yaml" in runs["j"].note
    header, rows = run_rows(list(runs.values()))
    assert {len(row) for row in rows} == {len(header)}


def test_a_name_cannot_steer_the_terminal(tmp_path):
    write_run(tmp_path / "a\x1b[31m", plugins=("p\nq",))
    _, ((*_, words),) = run_rows(find_runs(tmp_path))
    assert words.isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_passed_over(tmp_path):
    (tmp_path / "no").mkdir(mode=0)
    assert find_runs(tmp_path) == []
