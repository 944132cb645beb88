"""`ceph suggest` as a person calls it: a file, its reasons, and the command that starts it."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from ceph.cli.app import main
from ceph.tools.suggest import suggest


@pytest.fixture
def run(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(tiny_run, "first run"))


def test_it_writes_a_config_and_prints_the_command_that_starts_it(run, tmp_path, capsys):
    assert main(["suggest", str(run)]) == 0
    out = capsys.readouterr().out
    assert "a tenth of the run's 0.001" in out
    assert "wrote next.yaml" in out
    command = shlex.split(out.splitlines()[-1].removeprefix("next: "))
    assert command == ["ceph", "run", "next.yaml", "--init-from", "first run"]
    assert (tmp_path / "next.yaml").read_text() == suggest(run).text
    assert main(["config", "show", "next.yaml"]) == 0
    assert main([*command[1:], "--dry-run"]) == 0
    assert main([*command[1:], "--set", "train.stop_after=1", "--out", "second"]) == 0
    assert (tmp_path / "second" / "metrics.json").is_file()


def test_a_file_that_is_there_is_left_as_it_is(run, tmp_path, capsys):
    (tmp_path / "next.yaml").write_text("mine\n")
    assert main(["suggest", str(run)]) == 2
    assert "next.yaml is there already" in capsys.readouterr().err
    assert (tmp_path / "next.yaml").read_text() == "mine\n"
    assert main(["suggest", str(run), "--out", "nowhere/next.yaml"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
    assert main(["suggest", "no run", "--films", ".", "--out", "next.yaml"]) == 2  # before anything is looked at
    assert "next.yaml is there already" in capsys.readouterr().err
    assert main(["suggest", str(run), "--out", "other.yaml"]) == 0


def test_a_test_split_and_a_folder_without_a_run_are_wrong_calls_that_write_nothing(run, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    assert main(["evaluate", str(run), "--split", "test"]) == 0
    for words, what in ((["first run", "--split", "test"], "makes its figures worthless"), (["."], "is no run folder")):
        assert main(["suggest", *words]) == 2
        err = capsys.readouterr().err
        assert err.count("error:") == 1
        assert what in err
    assert sorted(tmp_path.iterdir()) == before
