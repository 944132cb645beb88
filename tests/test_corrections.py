"""What people did to a model's points: who was moved, how far, and what share of the marking that saved."""

from __future__ import annotations

import json

import pytest
from tests.cli.test_predict_cli import run  # noqa: F401 - a fixture
from tests.data.small_sets import noise_film

import ceph
from ceph.cli.app import main

MM = ("--set", "data.mm_per_px=0.5")


@pytest.fixture
def folder(run, tmp_path):  # noqa: F811
    """Eight films with LabelMe's files as `ceph predict` leaves them, and the same points in a table."""
    for n in range(8):
        noise_film(tmp_path / "films" / f"{n}.png", n, (80, 64))
    films = str(tmp_path / "films")
    assert main(["predict", str(run), films, "--out", films, "--format", "labelme"]) == 0
    assert main(["predict", str(run), films, "--out", str(tmp_path / "points.csv")]) == 0
    return tmp_path / "films"


def save(folder, number, change):
    """A person changes a film's shapes in LabelMe and saves it."""
    file = folder / f"{number}.json"
    content = json.loads(file.read_text())
    shapes = {shape["label"]: shape for shape in content["shapes"]}
    change(shapes)
    file.write_text(json.dumps({**content, "version": "6.3.1", "shapes": list(shapes.values())}))


def on_every_film(folder):
    """Landmarks whose points, of a run that has hardly learned, are well inside all films."""
    shapes = [shape for file in folder.glob("*.json") for shape in json.loads(file.read_text())["shapes"]]
    off = {s["label"] for s in shapes if not (1 < s["points"][0][0] < 63 and 1 < s["points"][0][1] < 79)}
    return [symbol for symbol in dict.fromkeys(s["label"] for s in shapes) if symbol not in off]


def test_points_that_were_moved_are_told_by_landmark_in_mm(run, folder, tmp_path, capsys):  # noqa: F811
    moves, goes = on_every_film(folder)[:2]

    def moved(shapes):
        x, y = shapes[moves]["points"][0]
        shapes[moves]["points"] = [[x + (3 if x < 32 else -3), y + (4 if y < 40 else -4)]]

    def taken(shapes):
        del shapes[goes]

    for number, change in enumerate([moved, moved, taken, *[lambda _shapes: None] * 5]):
        save(folder, number, change)
    out = tmp_path / "saved.json"
    assert main(["corrections", str(run), str(folder), *MM, "--json", str(out)]) == 0
    text, figures = capsys.readouterr().out, json.loads(out.read_text())
    assert (figures["reader"], figures["films"], figures["untouched_films"]) == ("corrected", 8, 5)
    assert figures["per_landmark"][moves]["moved"] == {
        "points": 2,
        **dict.fromkeys(("mean_mm", "median_mm", "max_mm"), pytest.approx(2.5, abs=1e-2)),
    }
    assert (figures["per_landmark"][goes]["removed"], figures["removed"]) == (1, 1)
    assert figures["left_percent"] == pytest.approx(100 * (1 - 2 / figures["points"]))
    low, high = figures["interval_95"]["left_percent"]
    assert low < figures["left_percent"] < high
    assert f"left as they were {figures['left_percent']:.1f} %" in text
    table = ceph.corrections(run, folder, predictions=tmp_path / "points.csv", settings=MM[1:])
    assert table["per_landmark"][moves]["moved"] == pytest.approx(figures["per_landmark"][moves]["moved"], abs=1e-2)
    assert table["left_percent"] == figures["left_percent"]


def test_points_that_nobody_has_seen_are_no_corrections(run, folder, capsys):  # noqa: F811
    assert main(["corrections", str(run), str(folder), *MM]) == 2
    assert "nobody has seen the points" in capsys.readouterr().err
