"""`ceph bench` runs the engine's own loop, puts all of a step's time into stages, and keeps nothing."""

from __future__ import annotations

import json
import time

import pytest
import torch

from ceph.cli.app import main
from ceph.config.load import from_values
from ceph.run.prepare import prepare
from ceph.run.train import build, make_model
from ceph.tools.bench import STAGES, Clock, bench, few, staged, timed


@pytest.fixture
def job(tiny, tmp_path):
    prepared = few(prepare(from_values(tiny())), 2)
    torch.manual_seed(0)
    return build(prepared, make_model(prepared.config, prepared.hooks, prepared.run), tmp_path), prepared


def test_every_stage_of_a_step_is_measured_and_each_plugin_has_its_share(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = bench(from_values(tiny(plugins={"weighted-loss": {}, "hard-mining": {}})), steps=1, rounds=1)
    assert list(found["stages_ms"]) == list(STAGES)
    assert all(milliseconds > 0 for milliseconds in found["stages_ms"].values())
    assert found["step_ms"] == pytest.approx(sum(found["stages_ms"].values()))
    assert set(found["plugins_percent"]) == {"weighted-loss", "hard-mining"}
    assert 0 < sum(found["plugins_percent"].values()) < 100
    assert not list(tmp_path.iterdir())


def test_the_stages_are_the_whole_step(job):
    own, prepared = job
    clock = Clock(torch.device("cpu"))
    timed(own)
    epoch = timed(staged(own, prepared.train, clock))
    clock.enter("")
    assert sum(clock.seconds.values()) == pytest.approx(epoch.seconds, rel=0.1)


def test_a_slow_part_shows_in_its_own_stage(job):
    own, prepared = job

    def slow(image):
        time.sleep(0.1)
        return own.model(image)

    clock = Clock(torch.device("cpu"))
    epoch = timed(staged(own.__class__(**{**vars(own), "forward": slow}), prepared.train, clock))
    assert clock.seconds["forward"] > 0.1 * epoch.steps
    assert max(clock.seconds, key=clock.seconds.get) == "forward"


def test_a_staged_job_trains_the_same_weights(tiny, tmp_path):
    def weights(in_stages):
        prepared = few(prepare(from_values(tiny())), 2)
        torch.manual_seed(0)
        own = build(prepared, make_model(prepared.config, prepared.hooks, prepared.run), tmp_path)
        timed(staged(own, prepared.train, Clock(torch.device("cpu"))) if in_stages else own)
        return own.model.state_dict()

    one, other = weights(in_stages=True), weights(in_stages=False)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_command_prints_tables_and_writes_json(tiny_set, tmp_path, capsys):
    file = tmp_path / "bench.json"
    settings = ["data.size=[64,64]", "model.backbone=test_resnet", "model.width=8", "train.batch_size=4"]
    arguments = ["bench", "--data", str(tiny_set), "--steps", "1", "--rounds", "1", "--json", str(file)]
    assert main([*arguments, "--plugin", "weighted-loss", *(f for s in settings for f in ("--set", s))]) == 0
    printed = capsys.readouterr().out
    assert all(stage in printed for stage in STAGES)
    assert "weighted-loss" in printed
    assert json.loads(file.read_text())["films_per_second"]["loading"] > 0


def test_a_json_file_that_cannot_be_written_is_said(tiny_set, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ceph.tools.bench.bench", lambda *_args, **_settings: {})
    assert main(["bench", "--data", str(tiny_set), "--json", str(tmp_path / "none" / "x.json")]) == 2
    assert "cannot write" in capsys.readouterr().err
