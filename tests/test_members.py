"""Unmarked films and a folder of several runs: which to mark next, and the points on which all agree train others."""

import csv
import shutil

import numpy as np
import pytest
import torch

import ceph
from ceph import runfolder
from ceph.cli.app import main
from ceph.data.cache import digest
from ceph.data.formats.find import read
from ceph.data.synthetic.sets import write
from ceph.evaluation.stations import MeanLook
from ceph.run.members import farthest_px
from ceph.run.predictions import NamedFilm
from ceph.run.train import check
from ceph.run.trained import load
from ceph.tools.suggest_films import ranks, spread_out, thumb_of


def films_in(folder):
    return sorted(folder.rglob("*.png"))


def rows_of(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A folder of four films that no run has seen, one of them twice."""
    folder = tmp_path_factory.mktemp("archive")
    write(folder / "drawn", films=3, height=330, seed=7)
    for film in films_in(folder / "drawn"):
        shutil.copy(film, folder / f"={film.name}")
    shutil.rmtree(folder / "drawn")
    shutil.copy(films_in(folder)[0], folder / "=again.png")
    return folder


@pytest.fixture
def both(tiny, tmp_path):
    runs = [ceph.train(tiny(train={"epochs": 1, "seed": seed}), out=tmp_path / f"r{seed}").folder for seed in (0, 1)]
    ceph.ensemble(runs, out=tmp_path / "both")
    return tmp_path / "both"


def test_of_films_that_look_alike_one_is_taken_first():
    looks = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [-1.0, 0.0]])
    assert spread_out(np.array([0.9, 0.8, 0.3, 0.2]), looks, 3) == [0, 2, 3]
    assert spread_out(np.array([0.9, 0.8, 0.3, 0.2]), looks, 9)[-1] == 1
    assert ranks(np.array([3.0, 1.0, 1.0])).tolist() == [1.0, 0.25, 0.25]


class Moves:
    """A second look that moves points by what its model says, and writes into what it was given."""

    def refine(self, points, scores, look, model):
        del look
        return points.add_(model), scores.mul_(model / 4)


def test_the_second_looks_of_runs_see_the_same_points_and_their_mean_is_the_answer():
    points, scores = torch.zeros(2, 3, 2), torch.ones(2, 3)
    looks = [(Moves(), 1.0), (Moves(), 0.0), (Moves(), 3.0)]  # who moves nothing has not looked
    found, score = MeanLook(looks).refine(points, scores, None, None)
    assert found.unique().tolist() == [2.0]
    assert score.unique().tolist() == [0.5]
    assert MeanLook(looks[1:2]).refine(points, scores, None, None)[0].unique().tolist() == [0.0]


def test_all_runs_of_a_folder_look_again(tiny, tmp_path):
    plugins = {"zoom": {"px": 32, "width": 8}}
    run = ceph.train(tiny(train={"epochs": 1}, plugins=plugins), out=tmp_path / "r").folder
    shutil.copytree(run, tmp_path / "r2")
    ceph.ensemble([run, tmp_path / "r2"], out=tmp_path / "both")
    found = load(tmp_path / "both")
    looks = found.evaluator.stations.refiner.looks
    assert [model.zoom for _, model in looks] == [member.ensemble.model.zoom for member in found.members]


def test_a_broken_film_is_no_thumb(tmp_path):
    (tmp_path / "film.png").write_bytes(b"none")
    assert isinstance(thumb_of(NamedFilm(tmp_path / "film.png", tmp_path)), str)


def test_films_to_mark_and_agreed_points_by_a_folder_of_runs(
    both, archive, tiny_set, tiny, tmp_path, capsys, monkeypatch
):
    seen = films_in(tiny_set / "train" / "Cephalograms")[0]
    shutil.copy(seen, archive / "seen.png")
    unmarked = {"unmarked": {path.stem: f"{digest(path)}:" for path in films_in(archive)}}
    runfolder.add_fingerprint(both, {"films": unmarked, "groups": {}})  # as where they trained without marks
    monkeypatch.chdir(archive)
    assert main(["suggest", str(both), "--films", ".", "--next", "2", "--out", str(tmp_path / "n.csv")]) == 0
    rows = rows_of(tmp_path / "n.csv")
    assert all(row["film"].startswith("'=") for row in rows)
    assert "seen.png: the run has seen it" in capsys.readouterr().out
    assert len(rows) == 2
    assert all(float(row["members_px"]) > 0 for row in rows)
    (archive / "seen.png").unlink()
    assert main(["suggest", str(both), "--next", "2"]) == 2
    assert "--next: there are no films to name" in capsys.readouterr().err

    call = [str(archive), "--mm-per-px", "0.6", "--gate", "off", "--agree", "30"]
    assert main(["predict", str(both), *call, "--out", str(archive / "points.csv")]) == 0
    kept = len(rows_of(archive / "points.csv"))
    trained, films = load(both), films_in(archive)
    near = farthest_px(trained, films, [0.6] * 4, trained.predict(films)[0]) * 0.6 <= 30
    assert 0 < kept == near.sum() < near.size
    data = read(archive)
    assert ({s.split for s in data.samples}, data.samples[0].mm_per_px) == ({"train"}, 0.6)
    assert sum(int(sample.valid.sum()) for sample in data.samples) == kept
    sets = [{"name": "marked", "path": str(tiny_set)}, {"name": "found", "path": str(archive)}]
    assert f"{12 + len(data.samples)} train" in check(tiny(data={"path": sets}))

    assert main(["predict", str(both.parent / "r0"), *call]) == 2
    assert "which agrees with itself" in capsys.readouterr().err
    assert main(["predict", str(both), *call, "--format", "json"]) == 2
    assert "json holds no split" in capsys.readouterr().err
