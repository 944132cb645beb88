"""`ceph ablate` as a person calls it: it trains what is missing, goes on after Ctrl-C, and tells what failed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from importlib.util import find_spec

import pytest
from tests.cli.test_run_cli import TINY, tiny_call
from tests.training.runs import last_weights, same_weights

from ceph.cli.app import main


def call(tiny_set, out, *more):
    settings = [word for setting in TINY for word in ("--set", setting)]
    return ["ablate", "--data", str(tiny_set), *settings, "--out", str(out), *more]


def command(*words):
    return [sys.executable, "-m", "ceph.cli.app", *words]


@pytest.fixture(scope="module")
def done(once, tiny_set):
    """Two cells with two seeds, as written and printed; three of the runs were there."""

    def make(folder):
        out = folder / "out"
        for run, plugins in (("none/s0", ()), ("none/s1", ()), ("hard-mining/s1", ("--plugin", "hard-mining"))):
            words = tiny_call(tiny_set, *plugins, "--set", f"train.seed={run[-1]}", "--out", str(out / run))
            assert main(words) == 0
        more = ("--plugin", "hard-mining", "--seeds", "2", "--json", f"{out}.json", "--markdown", f"{out}.md")
        with (folder / "said").open("w") as said, redirect_stdout(said):
            assert main(call(tiny_set, out, *more)) == 0

    folder = once("ablation", make)
    return folder / "out", (folder / "said").read_text()


def test_two_cells_and_two_seeds_end_in_an_effect(done):
    out, text = done
    assert "4 runs (2 cells, seeds 0, 1), 3 done" in text
    assert text.count("validation MRE") == 1
    assert (out / "hard-mining" / "s0.log").read_text().startswith("$ ceph run ")
    assert "95 % interval" in text
    for cell, plugins in (("none", []), ("hard-mining", ["hard-mining"])):
        for seed in (0, 1):
            run = out / cell / f"s{seed}"
            assert f"seed: {seed} " in (run / "config.yaml").read_text()
            assert list(json.loads((run / "environment.json").read_text())["plugins"]) == plugins
    report = json.loads((out.parent / "out.json").read_text())["validation"]
    row = report["effects"][0]["rows"][0]
    assert row["label"] == "hard-mining"
    assert (row["low"], row["high"]) == (None, None)  # of two validation films there is no interval
    cells = {cell["cell"]: cell for cell in report["cells"]}
    assert cells["hard-mining"]["mre_mm"] - cells["none"]["mre_mm"] == pytest.approx(row["value"])
    assert cells["hard-mining"]["minutes"] > 0
    page = (out.parent / "out.md").read_text()
    assert "--plugin hard-mining" in page
    assert "train.epochs: 2" in page


def test_another_config_in_the_same_folder_is_refused(done, tiny_set, capsys):
    out, _ = done
    assert main(call(tiny_set, out, "--plugin", "hard-mining", "--set", "train.epochs=3")) == 2
    err = capsys.readouterr().err
    assert f"--out: {out} holds another config: train.epochs is 2 there and 3 here" in err


def test_a_wrong_split_landmark_or_plugin_is_told_before_training(tiny_set, tmp_path, capsys):
    for words, what in (
        (["--plugin", "hard-mining", "--split", "tests"], "--split: the set has no split 'tests'"),
        (["--plugin", "hard-mining", "--landmarks", "Go,UMX"], "--landmarks: the set has no landmark 'UMX'"),
        (["--plugin", "hard-minning"], "there is no plugin 'hard-minning'"),
        ([], "--plugin: name the plugins"),
    ):
        assert main(call(tiny_set, tmp_path / "out", *words)) == 2
        assert what in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


BROKEN = """
from ceph.plugin import Plugin, PluginConfig, hookimpl
class BrokenConfig(PluginConfig):
    pass
class Broken(Plugin[BrokenConfig]):
    "Fails."
    @hookimpl
    def landmark_weights(self, batch, loss):
        raise RuntimeError("on purpose")
"""


def test_a_cell_that_fails_is_named_with_its_log_and_what_is_trained_is_only_scored(done, tiny_set, tmp_path, capfd):
    out = tmp_path / "out"
    shutil.copytree(done[0], out)
    (tmp_path / "broken.py").write_text(BROKEN)
    assert main(["evaluate", str(out / "none" / "s0"), "--split", "test"]) == 0
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    assert before
    scored = ("--plugin", "hard-mining", "--seeds", "1", "--split", "test")
    assert main(call(tiny_set, out, "--plugin", f"{tmp_path}/broken.py", "--design", "add-one", *scored)) == 1
    text, err = capfd.readouterr()
    assert "3 runs (3 cells, seeds 0), 1 done" in text
    assert err.count("error:") == 1
    assert f"broken/s0 failed: see {out}/broken/s0.log" in err
    assert "broken/s0: failed, see" in text
    assert "on purpose" in (out / "broken" / "s0.log").read_text()
    assert (out / "hard-mining" / "s0" / "predictions-test.csv").is_file()  # a failure does not stop the others
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert main(call(tiny_set, out, *scored)) == 0
    text = capfd.readouterr().out
    assert "2 runs (2 cells, seeds 0), 2 done" in text
    assert "\ntest: 2 films" in text
    assert "one seed (0)" in text
    assert (out / "hard-mining" / "s0.log").read_text().count("$ ceph") == 2


def interrupted(words, log):
    """Call, wait for the first epoch in `log`, send SIGINT: (exit code, stdout, stderr)."""
    with subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (log.exists() and "epoch   1/" in log.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        text, err = process.communicate(timeout=120)
    return process.returncode, text, err


@pytest.mark.slow
def test_after_ctrl_c_the_same_command_goes_on_where_the_runs_were(tiny_set, tmp_path):
    out, log = tmp_path / "out", tmp_path / "out" / "none" / "s0.log"
    words = call(tiny_set, out, "--plugin", "hard-mining", "--seeds", "1", "--jobs", "2", "--set", "train.epochs=12")
    code, text, err = interrupted(words, log)
    assert code == 130
    assert "the same command goes on" in err
    assert "failed" not in text
    assert "go on with: ceph run --resume" in log.read_text()
    assert not (out / "none" / "s0" / "metrics.json").exists()
    assert main(words) == 0
    assert [line for line in log.read_text().splitlines() if line.startswith("$")][1:] == [
        f"$ ceph run --resume {out}/none/s0"
    ]
    for cell in ("none", "hard-mining"):
        assert len((out / cell / "s0" / "metrics.jsonl").read_text().splitlines()) == 12
    assert json.loads((out / "ablation.json").read_text())["minutes"].keys() == {"none/s0", "hard-mining/s0"}


def test_without_ray_the_line_that_installs_it_is_told(done, tiny_set, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(done[0], out)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(call(tiny_set, out, "--plugin", "hard-mining", "--seeds", "2", "--split", "test", "--on", "ray")) == 2
    assert "--on: ray is not installed\n  hint: pip install 'ceph-trainer[ray]'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'ceph-trainer[ray]'")
def test_ray_tasks_do_what_processes_do(done, tiny_set, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(done[0], out)
    shutil.rmtree(out / "none" / "s0")
    words = ("--plugin", "hard-mining", "--seeds", "1", "--split", "test", "--on", "ray")
    ran = subprocess.run(command(*call(tiny_set, out, *words)), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("validation MRE") == 2
    assert (out / "hard-mining" / "s0" / "predictions-test.csv").is_file()
    assert same_weights(last_weights(done[0] / "none" / "s0"), last_weights(out / "none" / "s0"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'ceph-trainer[ray]'")
def test_ctrl_c_reaches_what_ray_runs(tiny_set, tmp_path):
    out, log = tmp_path / "out", tmp_path / "out" / "none" / "s0.log"
    words = call(tiny_set, out, "--plugin", "hard-mining", "--seeds", "1", "--jobs", "1", "--set", "train.epochs=300")
    code, _, err = interrupted([*words, "--on", "ray"], log)
    assert code == 130
    assert "the same command goes on" in err
    assert "go on with: ceph run --resume" in log.read_text()
