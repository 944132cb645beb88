"""`ceph analyse` as a person calls it: points of any tool, runs, data sets, a table of one's own, tracings."""

from __future__ import annotations

import csv
import json
import math
import shutil

import numpy as np
import pytest

import ceph
from ceph import runfolder
from ceph.cli.app import main

HEAD = {"S": (60.5, 60), "N": (130, 66), "A": (128, 124), "B": (117, 160), "Go": (52, 148), "Me": (108, 182)}
SN, NA, SA = 69.7585, 58.0345, 93.0175
SNA = math.degrees(math.acos((SN**2 + NA**2 - SA**2) / (2 * SN * NA)))


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_set):
    """A tiny run of one epoch, as if it had been scored on 40 films."""
    settings = {
        "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cpu"},
    }
    folder = ceph.train(settings, out=tmp_path_factory.mktemp("runs") / "run").folder
    kept = runfolder.read_predictions(folder, "validation")
    rng, k = np.random.default_rng(1), len(kept.landmarks)
    true = np.repeat(kept.truth_px[:1], 40, axis=0)
    found = true + rng.normal(size=true.shape)
    ids = tuple(f"f{n}" for n in range(40))
    one = np.ones((40, k))
    runfolder.write_predictions(folder, "validation", runfolder.Predictions(ids, kept.landmarks, found, one, true, one))
    return folder


def table(file):
    return {(row["film"], row["measurement"]): row for row in csv.DictReader(file.read_text().splitlines())}


def test_a_run_on_films_and_its_points_in_csv_and_json_measure_the_same(run, tiny_set, tmp_path, capsys):
    films = sorted(tiny_set.rglob("*.png"))[:3]
    out, words = tmp_path / "values.csv", list(map(str, films))
    assert main(["analyse", str(run), *words, "--mm-per-px", "0.2", "--out", str(out)]) == 0
    assert "measured 3 films, 63 measurements; wrote" in capsys.readouterr().out
    whole = table(out)
    assert len(whole) == 3 * 63
    assert all(row["low"] and row["high"] for row in whole.values())
    for name in ("points.csv", "points.json"):
        points = tmp_path / name
        assert main(["predict", str(run), *words, "--mm-per-px", "0.2", "--out", str(points)]) == 0
        assert main(["analyse", str(points), "--errors", str(run), "--out", str(out)]) == 0
        for key, row in table(out).items():
            for column in ("value", "low", "high"):
                assert float(row[column]) == pytest.approx(float(whole[key][column]), rel=0.01, abs=0.3), (name, key)
            assert row["class"] or not whole[key]["class"]


def test_points_of_any_tool_without_a_spacing_have_angles_and_ratios_only(tmp_path, capsys):
    points = tmp_path / "wide.csv"
    cells = [str(value) for xy in HEAD.values() for value in xy]
    points.write_text(f"film,{','.join(f'{name}_{axis}' for name in HEAD for axis in 'xy')}\na.png,{','.join(cells)}\n")
    assert main(["analyse", str(points)]) == 0
    text = capsys.readouterr()
    rows = {row["measurement"]: row for row in csv.DictReader(text.out.splitlines())}
    assert float(rows["SNA"]["value"]) == pytest.approx(SNA, abs=0.005)
    assert (rows["SNA"]["norm"], rows["SNA"]["low"], rows["ANB"]["class"]) == ("82", "", "class II")
    assert "S-N" not in rows
    assert "4 lengths are left out for 1 of them: their spacing is unknown; --mm-per-px X gives it" in text.err
    assert "no intervals: the points have no radius, and no run its errors on 19 films (--errors RUN)" in text.err
    found = ceph.analyse(points, mm_per_px=0.5)
    assert found.value("a.png", "S-N") == pytest.approx(0.5 * np.hypot(69.5, 6))
    with pytest.raises(KeyError):
        found.value("b.png", "S-N")


def test_radii_in_the_points_file_give_intervals(tmp_path):
    points = tmp_path / "points.json"
    marks = {name: {"x_px": x, "y_px": y, "radius_px": 1.5} for name, (x, y) in HEAD.items()}
    points.write_text(json.dumps({"films": [{"film": "a.png", "mm_per_px": 0.1, "points": marks}]}))
    found = ceph.analyse(points)
    sna = [one.name for one in found.measurements].index("SNA")
    assert found.low[0, sna] < SNA < found.high[0, sna]
    assert found.high[0, sna] - found.low[0, sna] < 6


def test_the_readers_points_of_a_data_set_are_measured(tiny_set):
    found = ceph.analyse(tiny_set)
    assert len(found.films) == 16
    assert np.isfinite(found.values).all()


OWN = """\
SN to FH: {formula: "turn(S, N, Po, Or)", unit: deg}
SNA: {formula: "angle(S, N, A)", unit: deg, norm: 81, classes: [small, 80, usual]}
"""


def test_measurements_of_ones_own_stand_beside_the_others_or_in_their_place(tmp_path, tiny_set):
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    found = ceph.analyse(tiny_set, measurements=own)
    names = [one.name for one in found.measurements]
    assert names.count("SNA") == 1
    assert found.measurements[names.index("SNA")].norm == 81
    assert names[-1] == "SN to FH"


def test_every_fault_of_a_file_of_ones_own_is_told_with_its_place(tmp_path, capsys):
    own, points = tmp_path / "own.yaml", tmp_path / "p.csv"
    points.write_text("film,symbol,x_px,y_px\na,S,1,2\na,N,30,4\n")
    own.write_text(
        'one: {formula: "angel(S, N, A)", unit: deg}\n'
        'two: {formula: "angle(S, N, A)", unit: mm, norms: 3}\n'
        'three: {formula: "distance(S, N)", unit: deg}\n'
        "four: {unit: deg}\n"
        'five: {formula: "distance(S, N)", unit: mm, classes: [a, 3, b, 2, c]}\n'
    )
    assert main(["analyse", str(points), "--measurements", str(own)]) == 2
    told = capsys.readouterr().err
    for line in (
        f"{own}:1:16: one.formula: there is no function angel; did you mean 'angle'?",
        f"{own}:2:44: two.norms: is no key of a measurement",
        f"{own}:3:42: three.unit: the formula gives a length, which is not in deg",
        f"{own}:4:7: four: formula is missing",
        f"{own}:5:54: five.classes: must be names with rising limits between them",
    ):
        assert line in told
    own.write_text('one: {formula: "distance(S, Nn)", unit: mm}\n')
    assert main(["analyse", str(points), "--measurements", str(own)]) == 2
    assert f"{own}:1:16: one.formula: there is no landmark Nn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.csv"], "there is no file nowhere.csv"),
        (["p.csv", "film.png"], "p.csv is no run, which films need"),
        (["p.csv", "--mm-per-px", "9"], "9 is no spacing of a film"),
        (["p.csv", "--errors", "."], "is no run folder"),
        (["p.json"], "has no `films`"),
        (["eyes.csv"], "no measurement has all its landmarks among these: left"),
        (["p.csv", "--out", "none/values.csv"], "there is no folder none"),
    ],
)
def test_a_wrong_call_is_one_error(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_text("film,symbol,x_px,y_px\na,S,1,2\na,N,30,4\n")
    (tmp_path / "eyes.csv").write_text("film,symbol,x_px,y_px\na,left,1,2\n")
    (tmp_path / "p.json").write_text("{}")
    assert main(["analyse", *words]) == 2
    text = capsys.readouterr()
    assert told in text.err
    assert not text.out


def test_evaluate_tells_how_far_measurements_are_off_and_the_readers_apart(run, tmp_path, capsys):
    copy, figures = tmp_path / "run", tmp_path / "figures.json"
    shutil.copytree(run, copy)
    assert main(["evaluate", str(copy), "--json", str(figures)]) == 0
    found = json.loads(figures.read_text())["validation"]["measurements"]
    assert set(found["challenge"]) == {"same_percent", "readers_percent"}
    assert 0 <= found["challenge"]["same_percent"] <= 100
    assert found["each"]["ANB"]["mean_abs_error"] > 0
    assert found["each"]["ANB"]["readers_apart"] > 0
    text = capsys.readouterr().out
    assert "│ ANB " in text
    assert "Films in the class that the readers' points give, by the ISBI 2015 challenge's" in text


def test_a_tracing_is_drawn_over_each_film_and_without_one_where_it_is_gone(run, tiny_set, tmp_path, capsys):
    film, folder = min(tiny_set.rglob("*.png")), tmp_path / "pictures"
    points = tmp_path / "points.csv"
    assert main(["predict", str(run), str(film), "--out", str(points)]) == 0
    points.write_text(
        points.read_text() + points.read_text().partition("\n")[2].replace(str(film), f"gone/{film.name}")
    )
    assert main(["analyse", str(points), "--tracings", str(folder), "--out", str(tmp_path / "v.csv")]) == 0
    assert "wrote 2 tracings into" in (text := capsys.readouterr().out)
    assert "(1 without their film" in text
    here, gone = ((folder / f"{film.stem}{more}.svg").read_text() for more in ("", "-2"))
    assert "data:image/jpeg" in here
    assert "<image" not in gone
    assert here.count("<path") == gone.count("<path") == 13
    assert (folder / f"{film.stem}.png").read_bytes() != (folder / f"{film.stem}-2.png").read_bytes()
    before = film.read_bytes()
    assert main(["analyse", str(points), "--tracings", str(film.parent)]) == 2
    assert "a picture would be written over a film" in capsys.readouterr().err
    assert film.read_bytes() == before
