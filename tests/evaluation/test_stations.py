"""The stations of decoding stand in order, what each moved is kept, and their state is one thing."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import ceph
from ceph.data.geometry import letterbox_scale
from ceph.errors import DataError, PluginError
from ceph.evaluation.stations import Stations
from ceph.hooks.base import Plugin, hookimpl
from ceph.hooks.blame import Blame
from ceph.hooks.verbs import Hooks
from ceph.model.codec import GaussianDecoder, gaussians
from ceph.report.predictions import render
from ceph.run.assembly import make_stations
from ceph.run.predictions import NamedFilm, predict_films
from ceph.run.prepare import as_resolved, prepare
from ceph.runfolder import stages_file, write_stages
from ceph.training import checkpoint

SIZE, MAP = (96, 80), (24, 20)
POINTS = torch.tensor([[[33.5, 41.5], [50.1, 60.3]]])
MAPS = gaussians(POINTS, MAP, "distribution", 1.5, 4)
CORE = GaussianDecoder("distribution", 1.5, 4, "dark")


def table(path):
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def look(centre, mm, px):
    return torch.full((*centre.shape[:-1], px, px), 0.25)


class Push:
    """Every station but the decoder: moves the first landmark, writing into what it is given."""

    def __init__(self, x):
        self.x = x

    def constrain(self, points, scores, maps, decode, image_size, look):
        assert torch.equal(decode(maps, image_size)[0], CORE.decode(MAPS, SIZE)[0])
        points[:, 0, 0] += self.x * 4 * float(look(points, 10.0, 3).mean())
        return points, scores / 2

    def refine(self, points, scores, look, model):
        points[:, 0, 0] += self.x * float(model(torch.ones(1)))
        return points, scores

    def shift(self, points, scores, to_film):
        points[:, 0, 0] += self.x * to_film[:, 0, 0]
        return points, scores


def staged(**stations):
    built_by = {name: Blame("mine", "1.0", f"build_{name}") for name in stations}
    made = Stations(CORE, **stations, built_by=built_by)
    return made.stages(MAPS, SIZE, look, nn.Identity(), torch.diag(torch.tensor([3.0, 3.0, 1.0]))[None])


def test_each_station_gets_what_the_one_before_it_gave_and_none_changes_what_was():
    stages = staged(constraint=Push(1), refiner=Push(10), offsets=Push(100))
    assert [stage.station for stage in stages] == ["decoder", "constraint", "refiner", "offsets"]
    at = [float(stage.points[0, 0, 0] - stages[0].points[0, 0, 0]) for stage in stages]
    assert at == pytest.approx([0, 1, 11, 311], abs=1e-3)
    assert all(torch.equal(stage.points[0, 1], stages[0].points[0, 1]) for stage in stages)
    assert torch.equal(stages[0].points, CORE.decode(MAPS, SIZE)[0])
    assert torch.equal(stages[3].scores, stages[0].scores / 2)


def test_without_stations_there_is_the_decoder():
    assert [stage.station for stage in staged()] == ["decoder"]


class Answers:
    def __init__(self, answer):
        self.answer = answer

    def refine(self, points, scores, look, model):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(points, scores) if callable(self.answer) else self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, r"its refine gave NoneType None where \(points, scores\) is promised"),
        (lambda points, scores: (points[:, :1], scores), r"Tensor \[1, 1, 2\] of torch.float32"),
        (lambda points, scores: (points, scores.long()), "torch.int64"),
        (lambda points, scores: (points.to("meta"), scores), "on meta"),
        (KeyError("oops"), "KeyError: 'oops'"),
    ],
)
def test_a_station_that_fails_or_breaks_its_promise_is_named(answer, words):
    with pytest.raises(PluginError, match=f"plugin 'mine' 1.0, hook build_refiner: .*{words}"):
        staged(refiner=Answers(answer))


def test_a_film_that_cannot_be_read_is_not_the_station_s_fault():
    with pytest.raises(DataError, match="is empty"):
        staged(refiner=Answers(DataError("film.png: is empty")))


def test_the_station_that_lost_the_numbers_is_named():
    found = Stations(CORE, built_by={"constraint": Blame("a", "", ""), "offsets": Blame("b", "", "")})
    good, bad = np.zeros((1, 2, 2)), np.full((1, 2, 2), np.nan)
    found.require_finite({"decoder": good, "constraint": good, "offsets": good})
    with pytest.raises(PluginError, match="plugin 'a'.* not finite"):
        found.require_finite({"decoder": good, "constraint": bad, "offsets": bad})


class Learned(nn.Module):
    """An offset that is a module."""

    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.zeros(2))

    def shift(self, points, scores, to_film):
        return points + self.by, scores


class Habit(Plugin):
    """An offset whose size is what the training films say; without films it waits for its state."""

    @hookimpl
    def build_offsets(self, run):
        made = Learned()
        if run.samples:
            nn.init.constant_(made.by, len(run.samples))
        return made


def test_a_loaded_run_builds_without_films_and_then_takes_the_state(tiny):
    hooks, run = Hooks({"habit": Habit()}), prepare(as_resolved(tiny())).run
    trained = make_stations(run.config, hooks, run)
    assert isinstance(trained.offsets, nn.Module)
    assert not trained.offsets.training
    state = trained.state_dict()
    assert set(state) == {"mm_per_px", "offsets"}
    assert set(state["offsets"]) == {"habit"}
    loaded = make_stations(run.config, hooks, dataclasses.replace(run, samples=()))
    assert np.isnan(loaded.mm_per_px)
    loaded.load_state_dict(state)
    assert loaded.offsets.by.tolist() == [len(run.samples)] * 2
    assert loaded.mm_per_px == trained.mm_per_px > 0


def test_the_state_of_a_plugin_that_is_gone_or_came_later_is_passed_over(tiny):
    run = prepare(as_resolved(tiny())).run
    state = make_stations(run.config, Hooks({"habit": Habit()}), run).state_dict()
    make_stations(run.config, Hooks({}), run).load_state_dict(state)
    other = make_stations(run.config, Hooks({"other": Habit()}), run)
    other.load_state_dict(state)
    assert other.offsets.by.tolist() == [len(run.samples)] * 2


class Bad:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        raise KeyError("oops")


def test_a_state_that_cannot_be_kept_or_is_not_taken_back_names_the_plugin():
    blame = {"refiner": Blame("mine", "1.0", "build_refiner")}
    with pytest.raises(PluginError, match=r"plugin 'mine' 1.0, hook build_refiner: its state_dict.*builtins"):
        Stations(CORE, refiner=Bad({"x": object()}), built_by=blame).state_dict()
    made = Stations(CORE, refiner=Bad({"x": torch.ones(3)}), built_by=blame)
    with pytest.raises(PluginError, match="plugin 'mine' 1.0, hook build_refiner: KeyError: 'oops'"):
        made.load_state_dict(made.state_dict())


def test_only_points_that_moved_have_rows_and_the_first_is_the_decoder_s(tmp_path):
    def at(*x):
        return np.stack([[(value, 5.0) for value in x]]), np.array([[0.5] * len(x)])

    stages = {"decoder": at(1, 2, 3), "constraint": at(1, 7, 3), "refiner": at(1, 8, 4), "offsets": at(1, 8, 4)}
    write_stages(tmp_path, "test", ["film"], ("A", "B", "C"), stages)
    rows = [(r["symbol"], r["stage"], float(r["x_px"])) for r in table(stages_file(tmp_path, "test"))]
    assert rows == [
        *(("B", "decoder", 2), ("B", "constraint", 7), ("B", "refiner", 8)),
        *(("C", "decoder", 3), ("C", "refiner", 4)),
    ]
    write_stages(tmp_path, "test", ["film"], ("A", "B", "C"), {"decoder": stages["decoder"]})
    assert not stages_file(tmp_path, "test").exists()


LOOKS = """
import torch
from ceph.plugin import Plugin, hookimpl

class Refiner:
    def refine(self, points, scores, look, model):
        seen = look(points, 8.0, 5)
        assert seen.shape == (*points.shape[:2], 5, 5) and 0 <= float(seen.min()) <= float(seen.max()) <= 1
        assert model(torch.zeros(1, 1, 64, 64)).shape[1] == points.shape[1]
        return points + seen.mean((-1, -2))[..., None], scores

class Looks(Plugin):
    @hookimpl
    def build_refiner(self):
        return Refiner()
"""


def test_a_second_look_moves_the_points_of_a_run_of_a_split_and_of_bare_films(tiny, tiny_set, tmp_path, caplog):
    (tmp_path / "looks.py").write_text(LOOKS)
    settings = tiny(plugins={"looks": {"from": str(tmp_path / "looks.py")}}, train={"epochs": 1})
    run = ceph.train(settings, out=tmp_path / "run")
    rows = table(run.folder / "stages-validation.csv")
    assert {row["stage"] for row in rows} == {"decoder", "refiner"}
    predicted = {(r["image_id"], r["symbol"]): r for r in table(run.folder / "predictions-validation.csv")}
    for before, after in zip(rows[::2], rows[1::2], strict=True):
        assert float(after["x_px"]) > float(before["x_px"])
        assert after["x_px"] == predicted[after["image_id"], after["symbol"]]["x_px"]
    for name in (checkpoint.BEST, checkpoint.LAST):
        assert checkpoint.load(run.folder / "checkpoints", name)["stations"]["mm_per_px"] > 0
    trained, films = ceph.load(run.folder), sorted(tiny_set.rglob("*.png"))[:3]
    found, _ = trained.predict(films, mm_per_px=[None, 0.1, None])
    assert np.isfinite(found).all()
    assert "2 films have no spacing" in caplog.text
    named = [NamedFilm(path, path, mm) for path, mm in zip(films, (None, 0.1, None), strict=True)]
    predicted = predict_films(trained, named).films
    median = trained.evaluator.stations.mm_per_px
    spacings = [median * letterbox_scale(film.size, (64, 64)) for film in predicted]
    assert [f.assumed_mm_per_px for f in predicted] == pytest.approx([spacings[0], None, spacings[2]], abs=1e-5)
    written = render("json", predicted, trained.landmarks, "", {})
    assert f'"assumed_mm_per_px": {predicted[0].assumed_mm_per_px}' in written
    lines = render("csv", predicted, trained.landmarks, "", {}).splitlines()
    assert lines[0].endswith(",assumed_mm_per_px")
    assert lines[1].endswith(f",{predicted[0].assumed_mm_per_px}")
