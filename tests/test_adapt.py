"""`ceph adapt`: a run that speaks as the marked films of another place do, or a word why not."""

from __future__ import annotations

import csv
import json
import re
import shutil

import cv2
import numpy as np
import pytest

import ceph
from ceph.cli.app import main
from ceph.data.formats.find import read
from ceph.errors import ConfigError, DataError
from ceph.runfolder import is_adapted, read_adapted, read_fingerprint, read_held_out, read_state

HABIT = {"Go": (0.06, -0.04), "Po": (-0.04, 0.03)}  # of the way from S to N
STANDING = '''
import torch
from ceph.plugin import Plugin, PluginConfig, hookimpl

class StandingConfig(PluginConfig):
    head: list[tuple[float, float]]

class Standing(Plugin[StandingConfig]):
    """A head that stands where heads do, whatever the network sees: a little of that is left."""

    @hookimpl
    def build_constraint(self, run):
        head = torch.tensor(self.config.head)

        class Station:
            def constrain(self, points, scores, maps, decode, image_size, look):
                middle = points.mean(dim=1, keepdim=True)
                return head.to(points) + 0.05 * (points - middle), scores

        return Station()
'''


@pytest.fixture(scope="module")
def run(tiny_set, tmp_path_factory):
    """A run that finds a head on each film, however little its network has learned."""
    where = tmp_path_factory.mktemp("adapt")
    (where / "standing.py").write_text(STANDING)
    samples = read(tiny_set).samples
    head = np.mean([s.points.mean(axis=0) / max(s.size) * 64 for s in samples if s.valid.all()], axis=0)
    config = {
        "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": 1, "batch_size": 4, "precision": "fp32", "device": "cpu", "warmup_epochs": 0.5},
        "plugins": {"standing": {"from": str(where / "standing.py"), "head": np.round(head, 3).tolist()}},
    }
    return ceph.train(config, out=where / "run").folder


@pytest.fixture(scope="module")
def clinic(run, tiny_set, tmp_path_factory):
    """Another place: the points that the run finds, but for a habit, marked by hand."""
    samples, trained = read(tiny_set).samples[:8], ceph.load(run)
    found, _ = trained.predict([sample.path for sample in samples])
    s, n = (found[:, trained.landmarks.index(symbol)] for symbol in ("S", "N"))
    size = np.linalg.norm(n - s, axis=-1)[:, None]
    marked = found + np.random.default_rng(0).normal(0, 0.005, found.shape) * size[:, None]
    for symbol, by in HABIT.items():
        marked[:, trained.landmarks.index(symbol)] += by * size

    def write(name, points=marked, count=8, landmarks=trained.landmarks, spacing=1.0, mirror=()):
        folder = tmp_path_factory.mktemp("clinic") / name
        folder.mkdir()
        images, annotations = [], []
        for n, sample in enumerate(samples[:count]):
            film = cv2.imread(str(sample.path), 0)
            there = np.array(
                [points[n, trained.landmarks.index(s)] if s in trained.landmarks else (9, 9) for s in landmarks]
            )
            if n in mirror:
                film, there = film[:, ::-1], there * [-1, 1] + [film.shape[1] - 1, 0]
            cv2.imwrite(str(folder / f"f{n}.png"), film)
            size = {"width": film.shape[1], "height": film.shape[0]}
            known = {"spacing": sample.mm_per_px * spacing} if spacing else {}
            images.append({"id": n, "file_name": f"f{n}.png", **size, **known})
            keypoints = np.concatenate([there, np.full((len(there), 1), 2)], axis=1).ravel().tolist()
            annotations.append({"id": n, "image_id": n, "category_id": 1, "keypoints": keypoints})
        content = {"images": images, "annotations": annotations}
        content["categories"] = [{"id": 1, "name": "head", "keypoints": list(landmarks)}]
        (folder / "train.json").write_text(json.dumps(content))
        return folder

    write.marked, write.size = marked, size
    return write


@pytest.fixture(scope="module")
def adapted(run, clinic, tmp_path_factory):
    made = ceph.adapt(run, clinic("plain"), out=tmp_path_factory.mktemp("adapted") / "ours")
    assert made.folder
    return made


def test_a_habit_is_learned_kept_as_data_and_spoken(run, clinic, adapted, tmp_path):
    told = read_adapted(adapted.folder)
    assert told["from"] == str(run.resolve())
    assert told["expected"]["before_mm"] > told["expected"]["after_mm"]
    for symbol, (x, y) in HABIT.items():
        offset = told["landmarks"][symbol]
        assert offset["x_mm"] / offset["y_mm"] == pytest.approx(x / y, rel=0.15)
        assert offset["x_mm"] * x > 0
    before, _ = ceph.load(run).evaluate(data=clinic("again"))
    after, _ = ceph.load(adapted.folder).evaluate(data=clinic("again"))
    assert after["mre_mm"] < 0.6 * before["mre_mm"]
    assert abs(after["mre_mm"] - told["expected"]["after_mm"]) < 0.1


def test_an_adapted_run_is_a_run_like_any_other(run, adapted, clinic, capsys, tmp_path):
    where = adapted.folder
    assert read_state(where).state == "finished"
    assert json.loads((where / "state.json").read_text())["format"] == 2
    assert main(["evaluate", str(where)]) == 0  # of its own set, which is the new place's
    with (where / "stages-validation.csv").open() as file:
        moved = {row["symbol"] for row in csv.DictReader(file) if row["stage"] == "adapt"}
    assert set(HABIT) <= moved
    assert main(["report", str(where)]) == 0
    assert main(["predict", str(where), str(clinic("films") / "f0.png"), "--out", str(tmp_path / "p.csv")]) == 0
    capsys.readouterr()
    assert main(["runs", str(where)]) == 0
    assert f"adapted from {run.resolve()}" in re.sub(r"\s", "", capsys.readouterr().out).replace(
        "adaptedfrom", "adapted from "
    )
    assert main(["run", "--resume", str(where)]) == 2
    assert "made by `ceph adapt`" in capsys.readouterr().err
    assert main(["adapt", str(where), "--data", str(clinic("more")), "--out", str(tmp_path / "twice")]) == 2
    assert "is adapted itself" in capsys.readouterr().err


def test_several_runs_that_predict_as_one_are_adapted_as_one(run, adapted, clinic, tmp_path):
    one = shutil.copytree(run, tmp_path / "one")
    (one / "held-out.json").write_text('{"format": 0}')
    both = ceph.ensemble([one, run], out=tmp_path / "both").folder
    assert list(both.rglob("held-out.json"))
    made = ceph.adapt(both, clinic("both"), out=tmp_path / "ours")
    assert list(made.folder.rglob("held-out.json")) == [made.folder / "held-out.json"]  # that of the old place is gone
    film = clinic("films") / "f0.png"
    alone, _ = ceph.load(adapted.folder).predict([film])
    several = ceph.load(made.folder)
    assert len(several.members) == 2
    for trained in (several, *several.members):
        np.testing.assert_allclose(trained.predict([film])[0], alone, atol=1e-3)
    assert several.evaluate(data=clinic("again"))[0]["mre_mm"] == pytest.approx(made.gain.after_mm, abs=0.1)


def test_a_folder_of_adapted_runs_knows_which_films_taught_them(adapted, tmp_path):
    both = ceph.ensemble([adapted.folder, adapted.folder], out=tmp_path / "both").folder
    assert len(read_fingerprint(both)["films"]["adapt"]) == 8


def test_its_radii_are_taught_by_the_films_and_offsets_are_no_doubt(run, adapted, clinic):
    ours, theirs, films = ceph.load(adapted.folder), ceph.load(run), [clinic("films") / f"f{n}.png" for n in range(4)]
    found, before = ours.found_on(films), theirs.found_on(films)
    np.testing.assert_allclose(found.spread_px, before.spread_px, rtol=1e-4)
    assert np.isfinite(ours.known.radii_px(found)).all()
    assert ours.known.usual is None  # the run it came from has no word on which films are none
    for settled in (ours.evaluate()[0], ours.evaluate(data=clinic("again"))[0]):  # its own films taught: no better ones
        assert settled["radius"]["covered_percent"] == pytest.approx(90, abs=9)
    assert read_held_out(adapted.folder).split == "adapt"


def test_films_that_taught_are_told_when_they_are_scored(adapted, clinic, caplog):
    ceph.load(adapted.folder).evaluate(data=clinic("again"))
    assert "byte for byte in adapt of this run" in caplog.text


def test_where_nothing_is_gained_nothing_is_written(run, clinic, tmp_path, capsys):
    out = tmp_path / "no"
    habits = np.random.default_rng(1).normal(0, 0.01, clinic.marked.shape) * clinic.size[:, None]
    found, _ = ceph.load(run).predict([clinic("films") / f"f{n}.png" for n in range(8)])
    assert main(["adapt", str(run), "--data", str(clinic("same", points=found + habits)), "--out", str(out)]) == 0
    assert f"not worth it: keep {run}" in capsys.readouterr().out
    assert not out.exists()


def test_a_film_that_is_mislabelled_is_named_and_left_out(run, clinic, tmp_path, caplog):
    marked = clinic.marked.copy()
    marked[1, :, 1] += 0.3 * clinic.size[1]
    made = ceph.adapt(run, clinic("one", points=marked, count=5), out=tmp_path / "ours")
    assert made.strange == ("f1",)
    assert "f1.png: left out" in caplog.text


def test_few_films_are_a_warning_and_fewer_an_error(run, clinic, tmp_path, caplog):
    made = ceph.adapt(run, clinic("few"), films=3, out=tmp_path / "three")
    assert made.films == ("f0", "f1", "f2")
    assert "only 3 films" in caplog.text
    with pytest.raises(DataError, match="2 marked films to learn from"):
        ceph.adapt(run, clinic("few"), films=2, out=tmp_path / "two")
    made = ceph.adapt(run, clinic("few"), ids=["f7", "f2", "f4", "f1", "f0"], out=tmp_path / "named")
    assert made.films == ("f7", "f2", "f4", "f1", "f0")


def test_landmarks_that_both_know_are_learned_and_the_others_named(run, clinic, tmp_path, caplog):
    made = ceph.adapt(run, clinic("other", landmarks=("Go", "Po", "S", "N", "Xy")), out=tmp_path / "ours")
    told = read_adapted(made.folder)["landmarks"]
    assert (told["Go"]["films"], told["A"]["films"], told["A"]["x_mm"]) == (8, 0, 0)
    assert "Xy" in caplog.text


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"mirror": (2,)}, DataError, "f2.png: its points show a head that faces the other way"),
        ({"spacing": None}, ConfigError, "mm_per_px"),
    ],
)
def test_films_that_cannot_teach_are_named(run, clinic, tmp_path, how, error, says):
    with pytest.raises(error, match=says):
        ceph.adapt(run, clinic("wrong", **how), out=tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_spacing_that_cannot_be_is_doubted(run, clinic, tmp_path, caplog):
    ceph.adapt(run, clinic("far", spacing=0.5), out=tmp_path / "ours")
    assert "f0.png: its head is" in caplog.text


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--films", "3", "--ids", "ids.txt"], "do not go together"),
        (["--ids", "ids.txt"], "cannot read ids.txt"),
        (["--out", "."], "is there already"),
    ],
)
def test_wrong_calls(run, clinic, tmp_path, capsys, monkeypatch, more, says):
    monkeypatch.chdir(tmp_path)
    shutil.copy(run / "config.yaml", tmp_path)
    out = [] if "--out" in more else ["--out", "ours"]
    assert main(["adapt", str(run), "--data", str(clinic("calls")), *out, *more]) == 2
    assert says in capsys.readouterr().err
    assert not is_adapted(tmp_path / "ours")
