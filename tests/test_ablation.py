"""An ablation finds effects that were planted, trains only what is missing, and keeps a folder to one config."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.ablation_runs import HARD, write_cells

from ceph.ablation import design, effects
from ceph.ablation.cells import RECORD, RunCall, plan, resolve_all
from ceph.ablation.costs import cost_of, how_made
from ceph.errors import ConfigError
from ceph.fanout import workers
from ceph.fanout.record import describe, open_record
from ceph.fanout.train import Workforce
from ceph.runfolder import State, write_state
from ceph.stop import StopRequest

EVIDENCE = Path(__file__).resolve().parent.parent / "benchmarks" / "evidence.py"


# --- designs ----------------------------------------------------------------------------------------------------------


def test_a_cell_is_named_by_its_plugins_in_any_order_and_read_back():
    assert design.cell_name(["weighted-loss", "hard-mining"]) == "hard-mining+weighted-loss"
    assert design.cell_name([]) == "none"
    for plugins in (set(), {"a"}, {"a-b", "c"}):
        assert design.cell_plugins(design.cell_name(plugins)) == plugins


def test_the_cells_of_each_design():
    assert design.cells("add-one", ["b", "a"]) == ("none", "a", "b")
    assert design.cells("leave-one-out", ["a", "b", "c"]) == ("a+b", "a+c", "b+c", "a+b+c")
    assert design.cells("full", ["a", "b"]) == ("none", "a", "b", "a+b")
    assert design.cells("leave-one-out", ["a"]) == design.cells("add-one", ["a"]) == ("none", "a")


@pytest.mark.parametrize("name", design.DESIGNS)
def test_every_contrast_is_between_cells_of_its_design_and_cancels_what_they_share(name):
    for plugins in (["a"], ["a", "b"], ["a", "b", "c"]):
        for family in design.families(name, plugins):
            assert family.contrasts
            for contrast in family.contrasts:
                assert set(contrast.cells) <= set(design.cells(name, plugins))
                assert sum(contrast.cells.values()) == pytest.approx(0)


# --- effects that were planted ----------------------------------------------------------------------------------------


def tables(out, name, plugins, *, split="test1", seeds=(0, 1, 2), hardest=("UMT", "Go")):
    report = effects.split_report(
        out, split, design.cells(name, plugins), seeds, design.families(name, plugins), hardest, {}
    )
    return report, {(t.family, t.measure, row.label): (t, row) for t in report.effects for row in t.rows}


def test_an_effect_that_is_there_is_found_with_its_sign_and_one_that_is_not_is_not(tmp_path):
    write_cells(tmp_path, {"none": 0.0, "good": -0.1, "idle": 0.0, "bad": 0.15})
    report, found = tables(tmp_path, "add-one", ["good", "idle", "bad"])
    for plugin, size, verdict in (("good", -0.1, "better"), ("bad", 0.15, "worse"), ("idle", 0.0, "no effect shown")):
        table, row = found["alone against none", "MRE", plugin]
        assert row.value == pytest.approx(size, abs=0.02)
        assert table.verdict(row) == verdict
    _, row = found["alone against none", "MRE", "good"]
    assert row.low < row.value < row.high < 0
    assert row.percent == pytest.approx(100 * -0.1 / HARD.mean(), abs=1.0)
    table, row = found["alone against none", "SDR 2 mm", "bad"]
    assert row.value < 0
    assert table.verdict(row) == "worse"
    assert report.cells[0].mre_mm == pytest.approx(np.nanmean(errors_of(tmp_path / "none", "test1")), abs=1e-4)


def errors_of(cell, split):
    lines = [(run / f"predictions-{split}.csv").read_text().splitlines()[1:] for run in sorted(cell.glob("s*"))]
    return [float(line.rpartition(",")[2] or "nan") for run in lines for line in run]


def test_what_helps_only_the_hardest_landmarks_shows_there(tmp_path):
    only_hard = np.where(HARD > 1.95, -0.2, 0.0)
    write_cells(tmp_path, {"none": 0.0, "mining": only_hard})
    _, found = tables(tmp_path, "add-one", ["mining"])
    _, overall = found["alone against none", "MRE", "mining"]
    _, hardest = found["alone against none", "mean error of the 2 hardest", "mining"]
    assert hardest.value == pytest.approx(-0.2, abs=0.02)
    assert overall.value == pytest.approx(-0.2 * 2 / 6, abs=0.02)


def test_leaving_one_out_of_all_gives_its_effect_beside_the_others(tmp_path):
    write_cells(tmp_path, {"a+b": -0.3, "a": -0.1, "b": -0.3})
    _, found = tables(tmp_path, "leave-one-out", ["a", "b"])
    assert found["beside all the others", "MRE", "a"][1].value == pytest.approx(0.0, abs=0.02)
    assert found["beside all the others", "MRE", "b"][1].value == pytest.approx(-0.2, abs=0.02)


def test_a_full_design_separates_main_effects_and_interactions(tmp_path):
    main, both = {"a": -0.1, "b": 0.2, "c": 0.0}, -0.12  # a and b together do a little more than the two alone
    planted = {
        cell: sum(main[p] for p in design.cell_plugins(cell)) + (both if {"a", "b"} <= design.cell_plugins(cell) else 0)
        for cell in design.cells("full", main)
    }
    write_cells(tmp_path, planted)
    _, found = tables(tmp_path, "full", list(main))
    over, together = "over all settings of the others", "as an interaction"
    for plugin, size in {"a": -0.1 + both / 2, "b": 0.2 + both / 2, "c": 0.0}.items():
        assert found[over, "MRE", plugin][1].value == pytest.approx(size, abs=0.02)
    for pair, size, shown in (("a x b", both, True), ("a x c", 0.0, False), ("b x c", 0.0, False)):
        _, row = found[together, "MRE", pair]
        assert row.value == pytest.approx(size, abs=0.03)
        assert row.shown == shown


def test_p_values_are_adjusted_for_the_number_of_plugins(tmp_path):
    write_cells(tmp_path, {"none": 0.0, "a": -0.006, "b": 0.0})
    _, both = tables(tmp_path, "add-one", ["a", "b"])
    _, alone = tables(tmp_path, "add-one", ["a"])
    key = ("alone against none", "MRE", "a")
    assert both[key][1].p == pytest.approx(min(1.0, 2 * alone[key][1].p))


def test_the_hardest_landmarks_come_from_validation_and_never_from_test(tmp_path):
    write_cells(tmp_path, {"none": 0.0, "a": 0.0}, splits=("validation",))
    write_cells(tmp_path, {"none": [9.0, 0, 0, 0, 0, 0], "a": 0.0}, splits=("test1",))
    assert effects.hardest_landmarks(tmp_path, ["a", "none"], (0, 1, 2), 3) == ("UMT", "Go", "Ar")
    assert effects.hardest_landmarks(tmp_path, ["a"], (0,), 1, ("S", "N")) == ("S", "N")
    with pytest.raises(ConfigError, match=r"no landmark 'UMX'(.|\n)*did you mean 'UMT'"):
        effects.hardest_landmarks(tmp_path, ["a"], (0,), 1, ("UMX",))


def test_without_the_cell_none_the_one_with_the_fewest_plugins_says_what_is_hard(tmp_path):
    write_cells(tmp_path, {"a+b": 0.0, "b": [4.0, 0, 0, 0, 0, 0], "a+c": 0.0})
    assert effects.hardest_landmarks(tmp_path, ["a+b", "b", "a+c"], (0, 1, 2), 1) == ("S",)


def test_the_cells_table_tells_what_each_was_trained_on(tmp_path):
    write_cells(tmp_path, {"none": 0.0}, megapixels=2.0)
    write_cells(tmp_path, {"a": 0.0}, megapixels=2.5)
    minutes = {f"{cell}/s{seed}": 4.0 + seed for cell in ("none", "a") for seed in (0, 1, 2)}
    report = effects.split_report(tmp_path, "test1", ("none", "a"), (0, 1, 2), (), ("Go",), minutes)
    assert [(row.cell, row.films, row.megapixels, row.minutes) for row in report.cells] == [
        ("none", 30, 6.0, 5.0),
        ("a", 30, 7.5, 5.0),
    ]


def test_minutes_are_those_that_a_finished_run_has_counted(tmp_path):
    write_cells(tmp_path, {"none": 0.0}, seeds=(0,))
    run = tmp_path / "none" / "s0"
    for state, minutes in ((State("finished", seconds=150), 2.5), (State("finished"), None), (State("failed"), None)):
        write_state(run, state)
        assert cost_of(run).minutes == minutes


def test_how_cells_were_made_names_no_folder_of_the_machine(tmp_path):
    write_cells(tmp_path, {"none": 0.0}, seeds=(0,))
    record = {"config": {"data": {"path": "/films/aariz", "size": [64, 64]}, "plugins": {}}, "plugins": {"a": {}}}
    text = "\n".join(how_made(tmp_path, ["none"], [0], record))
    assert "/films" not in text
    assert "ceph run --data aariz" in text
    assert "data.size: [64, 64]" in text
    assert "2026-01-02" in text


def test_the_page_of_evidence_is_made_from_folders_alone(tmp_path, monkeypatch, capsys):
    better = np.where(HARD > 1.95, -0.2, -0.05)
    write_cells(tmp_path, {"none": 0.0, "a": better, "b": 0.0, "a+b": better})
    monkeypatch.setattr(sys, "argv", ["evidence.py", str(tmp_path), "--hardest", "2"])
    runpy.run_path(str(EVIDENCE), run_name="__main__")
    page = capsys.readouterr().out
    short = page.partition("## In short")[2].partition("## How to read")[0]
    assert "a + b against none cuts the mean error of the 2 hardest on test1 by 8." in short
    assert re.search(r"\| UMT \| -0\.(19|20)", short)
    assert "b alone against none: no effect on the MRE shown on test1" in page
    for family in ("beside all the others", "together against none", "as an interaction"):
        assert family in page
    monkeypatch.setattr(sys, "argv", ["evidence.py", str(tmp_path), "--cell", "c"])
    with pytest.raises(SystemExit, match="the cell c has no finished run"):
        runpy.run_path(str(EVIDENCE), run_name="__main__")


# --- from the call to the cells ---------------------------------------------------------------------------------------

OHKM = """
from pydantic import Field
from ceph.plugin import Plugin, PluginConfig, hookimpl
class OhkmConfig(PluginConfig):
    keep: int = Field(8, gt=0, description="landmarks that count")
class Ohkm(Plugin[OhkmConfig]):
    "Hardest landmarks only."
    @hookimpl
    def landmark_weights(self, batch, loss):
        return loss
"""


def calls(common, plugins, name="full"):
    named = plan(common, plugins)
    sets = [design.cell_plugins(cell) for cell in design.cells(name, named.plugins)]
    return named, *resolve_all(named, sets)


def test_settings_of_a_plugin_that_is_off_do_not_reach_its_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ohkm.py").write_text(OHKM)
    settings = ("train.epochs=3", "plugins.ohkm.keep=5", "plugins.hard-mining.keep=4")
    named, base, found = calls(RunCall(settings=settings), ["./ohkm.py", "hard-mining"])
    assert {cell: set(resolved.plugins) for cell, resolved in found.items()} == {
        cell: design.cell_plugins(cell) for cell in design.cells("full", ["ohkm", "hard-mining"])
    }
    assert found["hard-mining+ohkm"].config.plugins["ohkm"]["keep"] == 5
    assert named.call({"ohkm"}).words() == [
        "run", "--plugin", "./ohkm.py", "--set", "train.epochs=3", "--set", "plugins.ohkm.keep=5",
    ]  # fmt: skip
    assert base.config.train.epochs == 3


def test_the_config_s_own_plugins_stay_on_and_a_named_one_is_switched_off(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ohkm.py").write_text(OHKM)
    Path("ceph.yaml").write_text("plugins:\n  multi-scale: {}\n  hard-mining: {keep: 4}\n  ohkm: {keep: 3}\n")
    named, _, found = calls(RunCall(), ["hard-mining", "./ohkm.py"])
    assert set(found["none"].plugins) == {"multi-scale"}
    assert set(found["hard-mining"].plugins) == {"multi-scale", "hard-mining"}
    assert found["hard-mining"].config.plugins["hard-mining"]["keep"] == 4
    assert found["ohkm"].config.plugins["ohkm"]["keep"] == 3
    assert named.call(()).without == ("hard-mining", "ohkm")


def test_a_wrong_call_is_told_before_anything_is_trained():
    with pytest.raises(ConfigError, match="name the plugins"):
        plan(RunCall(), [])
    with pytest.raises(ConfigError, match="hard-mining is named twice"):
        plan(RunCall(), ["hard-mining", "hard-mining"])
    with pytest.raises(ConfigError, match=r"in the cell hard-mining: must be"):
        calls(RunCall(settings=("plugins.hard-mining.keep=0",)), ["hard-mining"])
    with pytest.raises(ConfigError, match=r"--set:1:1: train.epoch: unknown key"):
        calls(RunCall(settings=("train.epoch=0",)), ["hard-mining"])


def described(plugins=("hard-mining",), **changes):
    named, base, found = calls(RunCall(**changes), list(plugins))
    return describe(base, found, named.plugins)


def test_a_folder_takes_new_seeds_and_plugins_but_no_other_config(tmp_path):
    first = open_record(tmp_path / "out" / RECORD, described())
    open_record(tmp_path / "out" / RECORD, described(settings=("train.seed=7", "data.workers=1")))
    both = open_record(tmp_path / "out" / RECORD, described(["hard-mining", "weighted-loss"]))
    assert both["config"] == first["config"]
    assert set(both["plugins"]) == {"hard-mining", "weighted-loss"}
    assert json.loads((tmp_path / "out" / "ablation.json").read_text()) == both
    for settings, what in (
        ("train.epochs=3", "config: train.epochs is 30 there and 3 here"),
        ("plugins.hard-mining.keep=3", "plugins.hard-mining.keep is"),
        ("plugins.multi-scale={}", "plugins.multi-scale is null there"),
    ):
        with pytest.raises(ConfigError, match=what):
            open_record(tmp_path / "out" / RECORD, described(settings=(settings,)))
    assert json.loads((tmp_path / "out" / "ablation.json").read_text()) == both


def test_a_file_plugin_that_was_edited_is_another_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ohkm.py").write_text(OHKM)
    open_record(tmp_path / "out" / RECORD, described(["./ohkm.py"]))
    Path("ohkm.py").write_text(OHKM.replace("return loss", "return loss * loss"))
    with pytest.raises(ConfigError, match=r"plugins.ohkm.sha256 is"):
        open_record(tmp_path / "out" / RECORD, described(["./ohkm.py"]))


# --- what is left to do -----------------------------------------------------------------------------------------------


def task(folder, splits=("validation", "test")):
    return workers.Task("none", 3, folder, ("run", "--data", "x"), splits)


def test_a_task_begins_goes_on_or_only_scores(tmp_path):
    folder = tmp_path / "none" / "s3"
    new = ["run", "--data", "x", "--seed", "3", "--out", str(folder)]
    assert next(task(folder).steps()) == new
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("")  # it died before its first checkpoint: start over
    assert next(task(folder).steps()) == new
    assert not folder.exists()
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.safetensors").write_bytes(b"")
    assert next(task(folder).steps()) == ["run", "--resume", str(folder)]
    (folder / "config.yaml").write_text("")
    write_state(folder, State("finished"))
    (folder / "predictions-validation.csv").write_text("")
    assert list(task(folder).steps()) == [["evaluate", str(folder), "--split", "test"]]
    (folder / "predictions-test.csv").write_text("")
    assert task(folder).is_done()


def test_a_pool_runs_so_many_at_a_time_and_passes_a_signal_on_once(tmp_path):
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    pool, ended = workers.Local(2), []

    class Sleeps(workers.Task):
        def steps(self):
            yield ["run"]

    def call(command, cwd, log, env):
        return real([sys.executable, "-c", code], cwd, log, env)

    real, pool._call = pool._call, call
    tasks = [Sleeps("none", n, tmp_path / f"s{n}", ()) for n in range(3)]

    def ready():
        return sum("ready" in t.log.read_text() for t in tasks if t.log.exists())

    class Stop(StopRequest):
        def __bool__(self):
            if not self.signal and ready() == 2:
                self.signal = 2
            return self.signal != 0

    began = time.monotonic()
    workers.drive(tasks, pool, 2, Stop(), lambda t, outcome: ended.append((t.seed, outcome.code)))
    pool.close()
    assert time.monotonic() - began < 50
    assert sorted(ended) == [(0, 7), (1, 7)]
    assert not tasks[2].log.exists()


def test_what_a_killed_process_began_ends_by_itself(tmp_path):
    command = [sys.executable, "-m", "ceph.cli.tied", "data", "synth", "drawn", "--films", "100000"]
    code = (
        "import os, pathlib, time; from ceph.fanout.workers import begin\n"
        f"begin({command}, pathlib.Path(), pathlib.Path('log'), os.environ); time.sleep(100)"
    )
    log = tmp_path / "log"
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)

    def wait_for(done):
        until = time.monotonic() + 60
        while not done():
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)

    try:
        wait_for(lambda: any(tmp_path.glob(".drawn.*.part")))
    finally:
        holder.kill()
        holder.wait()
    wait_for(lambda: "stopped by SIGTERM" in log.read_text())
    assert not any(tmp_path.glob(".drawn.*.part"))


def test_on_a_cpu_the_runs_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert Workforce("cpu", None).share(30) == (8, 1)
    assert Workforce("cpu", None).share(4) == (4, 2)
    assert Workforce("cpu", 2).share(30) == (2, 4)
    assert Workforce("cuda", None).share(30) == (1, None)
    assert Workforce("cuda", 2).share(30) == (2, None)
