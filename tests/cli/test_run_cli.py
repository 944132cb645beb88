"""`ceph run`, `evaluate` and `data` as a person calls them: output, exit codes, one clear message for each mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from tests.training.runs import last_weights, same_weights

from ceph.cli.app import main

TINY = (
    "data.size=[64,64]",
    "data.workers=0",
    "model.backbone=test_resnet",
    "model.weights=none",
    "model.width=8",
    "train.epochs=2",
    "train.batch_size=4",
    "train.precision=fp32",
    "train.device=cpu",
)


def tiny_call(tiny_set, *more):
    return ["run", "--data", str(tiny_set), *(w for s in TINY for w in ("--set", s)), *more]


def test_the_main_job_ends_with_a_table_and_the_run_s_path(tiny_set, tmp_path, capsys):
    run = tmp_path / "run"
    call = tiny_call(tiny_set, "--plugin", "weighted-loss", "--plugin", "hard-mining", "--out", str(run))
    assert main(call) == 0
    out = capsys.readouterr().out
    assert "epoch   2/2" in out
    assert "UMT" in out
    assert f"run: {run}" in out
    assert main(["evaluate", str(run), "--split", "test", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["test"]
    assert figures == json.loads((run / "metrics.json").read_text())["test"]
    assert (run / "predictions-test.csv").is_file()
    opened = json.loads((run / "environment.json").read_text())["opened_test_splits"]
    assert [entry["split"] for entry in opened] == ["test"]


def test_another_clinic_s_films_are_scored_without_touching_the_run(tiny_run, tmp_path, capsys):
    run, other = shutil.copytree(tiny_run, tmp_path / "run"), tmp_path / "other"
    assert main(["data", "synth", str(other), "--films", "4", "--seed", "9", "--height", "400"]) == 0
    for split in ("train", "valid"):
        shutil.rmtree(other / split)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert main(["evaluate", str(run), "--data", str(other), "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert list(figures) == ["test"]
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("mm_per_px: null", "mm_per_px: 0.9"))  # of the run's own films
    before[file] = file.read_bytes()
    assert main(["evaluate", str(run), "--data", str(other), "--json", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["test"]["mre_mm"] == figures["test"]["mre_mm"]
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(tiny_set, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(tiny_call(tiny_set, "--dry-run", "--plugin", "multi-scale")) == 0
    out = capsys.readouterr().out
    for part in ("12 train", "29: A ANS B", "test_resnet", "2 epochs of 3 steps", "multi-scale"):
        assert part in out
    assert list(tmp_path.iterdir()) == []


MISTAKES = {
    "misspelt key": (["--set", "train.epoch=3"], "--set:1:1: train.epoch: unknown key", "did you mean 'epochs'?"),
    "misspelt plugin": (
        ["--plugin", "hard-minning"],
        "there is no plugin 'hard-minning'",
        "did you mean 'hard-mining'?",
    ),
    "unknown landmark": (
        ["--set", "data.landmarks=[Go, Xy]"],
        "data.landmarks: this set has no landmark 'Xy'",
        "valid: A, ANS",
    ),
    "weight of an unknown landmark": (
        ["--plugin", "weighted-loss", "--set", "plugins.weighted-loss.weights={UMTT: 2}"],
        "plugins.weighted-loss.weights",
        "did you mean 'UMT'?",
    ),
    "unknown backbone": (
        ["--set", "model.backbone=resnet5O"],
        "model.backbone: timm has no model 'resnet5O'",
        "resnet50",
    ),
    "no weights file": (["--init-from", "./nowhere.pt"], "--init-from: there is no file nowhere.pt", ""),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_message_and_exit_code_2(tiny_set, tmp_path, capsys, mistake):
    words, what, hint = MISTAKES[mistake]
    assert main(tiny_call(tiny_set, *words, "--out", str(tmp_path / "run"))) == 2
    err = capsys.readouterr().err
    assert err.count("error:") == 1
    assert what in err
    assert hint in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_folder_that_is_no_data_set_is_one_clear_message(tmp_path, capsys):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    assert main(["run", "--data", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("error:") == 1
    assert "no data set of a known format" in err
    assert "aariz" in err


def test_resume_takes_nothing_but_without(tmp_path, capsys):
    assert main(["run", "--resume", str(tmp_path), "--set", "train.lr=1", "--seed", "3"]) == 2
    err = capsys.readouterr().err
    assert "--resume takes only --without and, for a finished run, --set train.epochs=N, not --set, --seed" in err
    assert "--init-from" in err


def test_an_unknown_split_names_the_ones_there_are(tiny_run, capsys):
    assert main(["evaluate", str(tiny_run), "--split", "test1"]) == 2
    assert "did you mean 'test'?" in capsys.readouterr().err


@pytest.mark.slow  # the short form: test_kills.py, rows 3 and 4
@pytest.mark.skipif(os.name == "nt", reason="needs the signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_says_how_to_go_on_and_the_end_is_the_same(tiny_set, tmp_path, name, capsys):
    number = getattr(signal, name)
    longer = ("--set", "train.epochs=6", "--set", "train.warmup_epochs=9", "--plugin", "hard-mining")
    assert main(tiny_call(tiny_set, *longer, "--out", str(tmp_path / "whole"))) == 0
    run = tmp_path / "cut"
    command = [sys.executable, "-m", "ceph.cli.app", *tiny_call(tiny_set, *longer, "--out", str(run))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        process.stdout.readline()  # the first epoch's line
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert f"go on with: ceph run --resume {run}" in err
    assert err.count("the warm-up of 9 epochs is cut to the run's 6") == 1  # a warning reaches the person
    assert "Traceback" not in err
    assert main(["run", "--resume", str(run)]) == 0
    assert same_weights(last_weights(tmp_path / "whole"), last_weights(run))


@pytest.mark.slow  # the short form: SIGHUP to all processes, row 4 of test_kills.py
def test_a_terminal_that_is_closed_leaves_a_checkpoint(tiny_set, tmp_path):
    run = tmp_path / "run"
    words = tiny_call(tiny_set, "--set", "train.epochs=500", "--set", "data.workers=1", "--out", str(run))
    take = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from ceph.__main__ import main; exit(main())"
    ours, theirs = pytest.importorskip("pty", reason="needs a terminal of POSIX").openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen([sys.executable, "-c", take, *words], start_new_session=True, **streams) as process:
        os.close(theirs)
        while not (run / "metrics.jsonl").exists():
            os.read(ours, 4096)
        os.close(ours)
        assert process.wait(60) == 128 + signal.SIGHUP
    assert "stopped by a signal at epoch" in (run / "log.txt").read_text()


@pytest.mark.slow
def test_a_run_under_nohup_does_not_mind(tiny_set, tmp_path):
    words = ["nohup", sys.executable, "-m", "ceph", *tiny_call(tiny_set, "--out", str(tmp_path / "run"))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
