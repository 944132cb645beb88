"""The list of runs: how each stands, what it reached, and that a broken one is a line and no error."""

from __future__ import annotations

import json
import os

import pytest
from filelock import FileLock
from tests.report.folders import write_run

from ceph.report.record import read_record
from ceph.report.runs import find_runs, is_locked, run_rows, state

DONE = "INFO done: validation MRE 1.0 mm, best epoch 2"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (("INFO initial weights: none", DONE), "finished"),
        (("INFO initial weights: none", "INFO stopped: stopped by a signal"), "interrupted"),
        (("INFO initial weights: none", "ERROR stopped: the loss is not finite"), "failed"),
        (("ERROR stopped: the loss is not finite", "INFO going on at epoch 2, batch 0"), "interrupted"),
        (("INFO stopped: by a signal", "INFO going on at epoch 2, batch 0", DONE), "finished"),
        ((DONE, "WARNING report.html was not written (OSError: full)"), "finished"),
        ((), "interrupted"),
    ],
)
def test_the_log_says_how_a_run_ended(tmp_path, log, expected):
    assert state(read_record(write_run(tmp_path / "r", log=log))) == expected


def test_a_run_is_running_while_a_process_holds_its_folder(tmp_path):
    run = write_run(tmp_path / "r", log=())
    with FileLock(run / ".lock"):
        assert state(read_record(run)) == "running"
    assert state(read_record(run)) == "interrupted"


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
    write_run(tmp_path / "r", splits=(), epochs=2, planned=5, log=())
    (run,) = find_runs(tmp_path)
    assert (run.validation_mm, run.epochs, run.planned, run.tests_mm) == (2.0, 2, 5, {})


def test_broken_runs_are_listed_with_what_is_wrong(tmp_path):
    for name, file, content in (
        ("a", "metrics.json", "{"),
        ("b", "metrics.jsonl", "\0\0\0"),
        ("c", "config.yaml", "- no\n"),
        ("d", "environment.json", "[]"),
        ("e", "log.txt", "\udcff"),
    ):
        run = write_run(tmp_path / name)
        (run / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    (tmp_path / "f" / "checkpoints").mkdir(parents=True)
    (tmp_path / "f" / "config.yaml").write_text("")
    runs = {run.name: run for run in find_runs(tmp_path)}
    assert sorted(runs) == list("abcdef")
    assert "metrics.json" in runs["a"].note
    assert "metrics.jsonl" in runs["b"].note
    assert "config.yaml" in runs["c"].note
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
