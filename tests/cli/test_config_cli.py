"""`ceph config`: a starter that is never overwritten, the config as resolved, and its schema."""

from __future__ import annotations

import json

import pytest

from ceph.cli.app import main
from ceph.config.load import resolve


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_file_that_resolves_and_leaves_one_that_is_there(here, capsys):
    assert main(["config", "init"]) == 0
    assert "wrote ceph.yaml" in capsys.readouterr().out
    assert resolve().provenance["data.size"] == "preset quick"
    (here / "ceph.yaml").write_text("mine")
    assert main(["config", "init"]) == 2
    assert (
        capsys.readouterr().err == "error: ceph.yaml is there already\n  hint: name another file, or remove it first\n"
    )
    assert (here / "ceph.yaml").read_text() == "mine"
    assert main(["config", "init", "none/x.yaml"]) == 2
    assert capsys.readouterr().err == "error: cannot write none/x.yaml: no such file or directory\n"


def test_show_prints_what_a_run_would_use_and_where_it_comes_from(here, capsys):
    (here / "c.yaml").write_text("train:\n  epochs: 7\n")
    call = ["config", "show", "c.yaml", "--preset", "quick", "--set", "train.lr=1e-4", "--seed", "3", "--data", "films"]
    assert main(call) == 0
    text = capsys.readouterr().out
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert {
        "lr: 0.0001 # --set",
        "seed: 3 # --seed",
        f"path: {here}/films # --data",
        "weights: offline # preset quick",
    } <= lines
    (here / "again.yaml").write_text(text)
    assert main(["config", "show", "again.yaml"]) == 0


def test_show_tells_every_fault_and_exits_with_2(here, capsys):
    (here / "ceph.yaml").write_text("train:\n  epoch: 7\n")
    assert main(["config", "show", "--plugin", "hard-minin", "--set", "data.size=[1, 2]"]) == 2
    text = capsys.readouterr()
    assert text.out == ""
    assert [line.split(": ")[1:3] for line in text.err.splitlines() if line.startswith("error: ")] == [
        ["--plugin:1:1", "plugins.hard-minin"],
        ["--set:1:12", "data.size[0]"],
        ["--set:1:15", "data.size[1]"],
        ["ceph.yaml:2:3", "train.epoch"],
    ]


def test_schema_is_json_on_stdout_or_in_a_file(here, capsys):
    assert main(["config", "schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["config", "schema", "--out", "s.json"]) == 0
    assert json.loads((here / "s.json").read_text()) == printed
    assert {"extends", "data", "plugins"} <= set(printed["properties"])
    assert main(["config", "schema", "--out", "none/s.json"]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write none/s.json")
