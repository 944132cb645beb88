"""Code of a stranger's run folder runs only where the user agreed to run that very file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.config.fakes import install

import ceph
from ceph.cli.app import main
from ceph.hooks import trust

PLUGIN = """
from pathlib import Path
from ceph.plugin import Plugin, hookimpl

Path({marker!r}).touch()

class Mine(Plugin):
    @hookimpl
    def landmark_weights(self, batch, loss):
        return None
"""


@pytest.fixture(scope="module")
def made(tiny_set, tmp_path_factory):
    """A run with a plugin in a file, of a user whom nobody here knows."""
    base = tmp_path_factory.mktemp("stranger")
    (base / "mine.py").write_text(PLUGIN.format(marker=str(base / "imported")))
    config = {
        "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": 1, "batch_size": 4, "precision": "fp32", "device": "cpu"},
        "plugins": {"mine": {"from": str(base / "mine.py")}},
    }
    return ceph.train(config, out=base / "run").folder


@pytest.fixture
def stranger(made, tmp_path, monkeypatch):
    """That run, its plugin changed, as another user has it; and the file that importing the plugin makes."""
    run, marker = shutil.copytree(made, tmp_path / "run"), tmp_path / "imported"
    (run / "plugins/mine/mine.py").write_text(PLUGIN.format(marker=str(marker)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(trust, "_agreed", set())
    return run, marker


def test_what_needs_no_plugin_imports_none(stranger, capsys):
    run, marker = stranger
    for words in (["report", "run"], ["runs", "."], ["config", "show", "run/config.yaml"], ["compare", "run", "run"]):
        main(words)
    shutil.copy(run / "config.yaml", "ceph.yaml")
    shutil.copytree(run / "plugins", "plugins")
    assert main(["data", "check"]) == 0
    assert main(["config", "show"]) == 0
    assert not marker.exists()
    assert "Traceback" not in capsys.readouterr().err


ASKING = {
    "evaluate": ["evaluate", "run"],
    "suggest": ["suggest", "run", "--out", "new.yaml"],
    "resume": ["run", "--resume", "run"],
    "plan": ["plan", "run/config.yaml"],
    "run": ["run", "run/config.yaml", "--dry-run"],
    "extends": ["plan", "next.yaml"],
    "silent": ["plan"],
}


@pytest.mark.parametrize("words", ASKING.values(), ids=ASKING)
def test_what_needs_a_strangers_plugin_names_the_file_and_its_hash_and_runs_nothing(stranger, capsys, words):
    run, marker = stranger
    Path("next.yaml").write_text("extends: ./run/config.yaml\n")
    Path("ceph.yaml").write_text("plugins: {mine: {from: ./run/plugins/mine/mine.py}}\n")
    assert main(words) == 2
    err = capsys.readouterr().err
    assert f"you have not agreed to run the file {run}/plugins/mine/mine.py (sha256 " in err
    assert "--trust" in err
    assert "Traceback" not in err
    assert not marker.exists()


def test_trust_is_asked_once_and_is_of_what_the_file_holds(stranger, capsys, caplog):
    run, marker = stranger
    assert main(["evaluate", "run", "--trust"]) == 0
    assert marker.exists()
    assert main(["evaluate", "run"]) == 0
    assert "is not the one that the run began with" in caplog.text
    with (run / "plugins/mine/mine.py").open("a") as file:
        file.write("\n")
    assert main(["evaluate", "run"]) == 2
    assert "it has changed since the run began" in capsys.readouterr().err
    ceph.trust("run")
    assert main(["evaluate", "run"]) == 0


def test_whoever_trained_a_run_and_whoever_names_a_file_or_a_config_is_not_asked(stranger, tiny, tmp_path, capsys):
    _, marker = stranger
    own = tmp_path / "own.py"
    own.write_text(PLUGIN.format(marker=str(marker)) + "# of my own\n")
    assert main(["plan", "--plugin", str(own)]) == 0
    (tmp_path / "my.yaml").write_text("plugins: {own: {from: ./own.py}}\n")
    assert main(["plan", "my.yaml"]) == 0
    assert not trust._agreed
    ceph.train(tiny(plugins={"own": {"from": str(own)}}, train={"epochs": 1}), out=tmp_path / "trained")
    trust._agreed.clear()  # another process
    assert main(["evaluate", "trained"]) == 0


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 2), (b"\x04", 2)])
def test_a_person_at_a_terminal_is_asked(stranger, monkeypatch, capsys, answer, code):
    _, marker = stranger
    ours, theirs = pytest.importorskip("pty", reason="needs a terminal of POSIX").openpty()
    with os.fdopen(theirs) as terminal:
        os.write(ours, answer)
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr("sys.stderr.isatty", terminal.isatty)
        assert main(["plan", "run/config.yaml"]) == code
    os.close(ours)
    assert marker.exists() == (code == 0)
    assert capsys.readouterr().err.count("you have not agreed") == 1


def test_a_run_outlives_a_plugin_that_only_changed_training(tiny, tmp_path, monkeypatch, capsys):
    install(tmp_path / "site", monkeypatch, name="ohkm", distribution="clinic-plugins", version="1.2")
    run = ceph.train(tiny(plugins={"ohkm": {}}, train={"epochs": 1}), out=tmp_path / "run").folder
    figures = json.loads((run / "metrics.json").read_text())
    monkeypatch.undo()
    assert main(["evaluate", str(run)]) == 2
    assert (
        "install clinic-plugins 1.2, which gave it to this run, or do without: --without ohkm"
        in capsys.readouterr().err
    )
    assert main(["evaluate", str(run), "--without", "ohkm"]) == 0
    assert json.loads((run / "metrics.json").read_text())["validation"]["mre_mm"] == figures["validation"]["mre_mm"]
    environment = json.loads((run / "environment.json").read_text())
    environment["plugins"]["ohkm"]["hooks"] += ["views"]
    (run / "environment.json").write_text(json.dumps(environment))
    assert main(["evaluate", str(run), "--without", "ohkm"]) == 2
    assert "this run's predictions need it: it answers views" in capsys.readouterr().err
