"""A stranger's run folder: its links lead nowhere, and its pipes hang nothing."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import contextmanager

import pytest

import ceph
from ceph.cli.app import main

SECONDS = 60


@pytest.fixture(scope="module")
def trained(tiny_set, tmp_path_factory):
    config = {
        "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": 1, "batch_size": 4, "precision": "fp32", "device": "cpu"},
        "plugins": {"hard-mining": {"warmup_epochs": 0}},
    }
    return ceph.train(config, out=tmp_path_factory.mktemp("stranger") / "run").folder


@contextmanager
def in_time():
    """Fail where the block hangs."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_no_link_of_a_run_folder_lets_a_command_write_elsewhere(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    victims = {}
    for path in [*run.rglob("*")]:
        if path.is_file():  # each is a link to the user's file of the same content
            victims[tmp_path / f"mine-{len(victims)}"] = path.read_bytes()
            mine = list(victims)[-1]
            shutil.move(path, mine)
            path.symlink_to(mine)
    for old in (".report.html.new", ".metrics.json.new", "checkpoints/.last.safetensors.new", "hooks.json"):
        (run / old).unlink(missing_ok=True)
        (run / old).symlink_to(tmp_path / "mine-0")
    for words in (
        ["report", str(run)],
        ["evaluate", str(run), "--split", "test"],
        ["run", "--resume", str(run), "--set", "train.epochs=2"],
    ):
        assert main(words) == 0
    assert {path: path.read_bytes() for path in victims} == victims


FILES = ("config.yaml", "state.json", "metrics.jsonl", "metrics.json", "environment.json", "log.txt", ".lock")
PIPES = (*FILES, "hooks.json", "predictions-validation.csv", "hard-films.csv", "checkpoints/best.safetensors")


@pytest.mark.parametrize("pipe", PIPES)
def test_a_pipe_in_a_run_folder_hangs_no_command(trained, tmp_path, pipe, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(trained, tmp_path / "run")
    (run / pipe).unlink(missing_ok=True)
    os.mkfifo(run / pipe)
    with in_time():
        for words in (["runs", str(tmp_path)], ["report", str(run)], ["suggest", str(run)], ["evaluate", str(run)]):
            assert main(words) in (0, 1, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_a_config_that_never_ends_is_refused(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.yaml")
    with in_time():
        for path in (tmp_path / "pipe.yaml", "/dev/zero"):
            assert main(["config", "show", str(path)]) == 2
            assert "is no regular file" in capsys.readouterr().err
