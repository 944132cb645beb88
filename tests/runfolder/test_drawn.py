"""`drawn`, the run that ships: found by its name, small, as its card says, a start for trainings, and not blind."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest
import torch

from ceph import analyse, ensemble, load, runfolder
from ceph.cli.app import main
from ceph.config.load import resolve
from ceph.data.synthetic.sets import LANDMARKS, draw
from ceph.errors import CheckpointError, ConfigError
from ceph.exporting.card import manifest
from ceph.model.network import LandmarkNetwork
from ceph.run.ensemble import describe_in
from ceph.run.gate import Gate
from ceph.run.predictions import find_films, predict_films
from ceph.run.train import Run, check, transfer_from
from ceph.run.trained import Trained
from ceph.training import checkpoint

SHIPPED = runfolder.SHIPPED[runfolder.DRAWN]
WEIGHTS = SHIPPED / runfolder.CHECKPOINTS / checkpoint.BEST


@pytest.fixture(scope="module")
def drawn() -> Trained:
    return load("drawn")


def test_its_weights_are_small_and_those_of_its_card():
    assert WEIGHTS.stat().st_size <= 8e6
    sha256, card = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(), (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert sha256 in card.split("`")


def test_its_licence_goes_along_into_what_is_exported(drawn):
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    assert [manifest(drawn, said, None, {})["licence"] for said in (None, "CC0")] == ["MIT", "CC0"]


def test_a_folder_of_runs_keeps_the_licence_that_all_of_them_state(drawn, tmp_path):
    describe_in(tmp_path, [drawn, drawn], ["a", "b"])
    assert runfolder.read_environment(tmp_path)["licence"] == "MIT"


def test_it_reads_films_that_it_has_not_seen(drawn):
    films = [draw(index, seed=977, height=400, varied=True) for index in range(4)]
    points, _ = drawn.predict([film.image for film in films], [film.mm_per_px for film in films])
    assert drawn.landmarks == LANDMARKS
    apart = [np.linalg.norm(p - f.truth_px, axis=-1) * f.mm_per_px for p, f in zip(points, films, strict=True)]
    assert np.median(apart) < 2.0


def test_a_run_of_that_name_that_lies_here_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn").mkdir()
    assert runfolder.located("drawn") == runfolder.located("./drawn") == SHIPPED
    (tmp_path / "drawn" / runfolder.CONFIG).write_text("", encoding="utf-8")
    assert runfolder.located("drawn") != SHIPPED


def test_a_training_starts_from_it_landmarks_by_symbol():
    config = resolve(preset="quick", settings=["model.weights=drawn"]).config
    ours = ("Sn", "new", "S")
    network = LandmarkNetwork(config.model.backbone, len(ours), width=config.model.width)
    fresh = network.head.weight.detach().clone()
    run = Run(ours, config.data.size, 1, 1, 0, (), torch.device("cpu"), config)
    told, origin = transfer_from(network, runfolder.located("drawn"), run)
    assert "2 of 3 landmarks" in told
    assert origin.landmarks == LANDMARKS
    theirs = checkpoint.load(WEIGHTS.parent, WEIGHTS.name)["model"]
    for here, symbol in ((0, "Sn"), (2, "S")):
        assert torch.equal(network.head.weight[here], theirs["head.weight"][LANDMARKS.index(symbol)].float())
    assert torch.equal(network.head.weight[1], fresh[1])
    assert torch.equal(network.backbone.conv_stem.weight, theirs["backbone.conv_stem.weight"].float())


def test_a_training_that_cannot_start_from_weights_is_told_before_it_is_begun(tiny):
    with pytest.raises(CheckpointError, match="do not fit this network"):
        check(tiny(model={"weights": "drawn"}))
    with pytest.raises(ConfigError, match="there is no file drwan"):
        check(tiny(), "drwan")


def test_its_films_are_not_taken_to_be_others(drawn, tmp_path, caplog):
    with pytest.raises(ConfigError, match="its-films-do-not-ship"):
        drawn.evaluate()
    both = ensemble(["drawn", "drawn"], out=tmp_path / "both").folder
    assert [runfolder.version(each) for each in runfolder.read_members(both)] == [runfolder.version(SHIPPED)] * 2
    assert "its-films-do-not-ship" in caplog.text


def test_films_are_measured_by_it_without_intervals_and_none_is_said_to_be_refused(drawn, tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "film.png"), draw(0, seed=977, height=330, varied=True).image)
    found = analyse("drawn", [tmp_path / "film.png"])
    assert np.isfinite(found.values).any()
    assert np.isnan(found.low).all()
    predict_films(drawn, find_films([tmp_path]), gate=Gate("refuse"))
    assert "too few films by which to refuse others" in caplog.text


@pytest.mark.parametrize(
    "words", [["predict", "drwan", "film.png"], ["run", "--resume", "drawn"]], ids=["misspelt", "no run to go on with"]
)
def test_a_wrong_name_is_told(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.png").touch()
    assert main(words) == 2
    assert "drawn, the run that ships, is there to predict" in capsys.readouterr().err
