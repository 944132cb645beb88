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
    """A person changes a film's shapes in LabelMe and saves it; points at the film's middle are on it whatever is."""
    file = folder / f"{number}.json"
    content = json.loads(file.read_text())
    shapes = {shape["label"]: shape for shape in content["shapes"]}
    change(shapes)
    file.write_text(json.dumps({**content, "version": "6.3.1", "shapes": list(shapes.values())}))


def test_points_that_were_moved_are_told_by_landmark_in_mm(run, folder, tmp_path, capsys):  # noqa: F811
    def moved(shapes):
        x, y = shapes["S"]["points"][0]
        shapes["S"]["points"] = [[x + (3 if x < 32 else -3), y + (4 if y < 40 else -4)]]

    def taken(shapes):
        del shapes["N"]

    for number, change in enumerate([moved, moved, taken, *[lambda _shapes: None] * 5]):
        save(folder, number, change)
    out = tmp_path / "saved.json"
    assert main(["corrections", str(run), str(folder), *MM, "--json", str(out)]) == 0
    text, figures = capsys.readouterr().out, json.loads(out.read_text())
    assert (figures["reader"], figures["films"], figures["untouched_films"]) == ("corrected", 8, 5)
    assert figures["per_landmark"]["S"]["moved"] == {
        "points": 2,
        **dict.fromkeys(("mean_mm", "median_mm", "max_mm"), pytest.approx(2.5, abs=1e-2)),
    }
    assert (figures["per_landmark"]["N"]["removed"], figures["removed"]) == (1, 1)
    assert figures["left_percent"] == pytest.approx(100 * (1 - 2 / figures["points"]))
    low, high = figures["interval_95"]["left_percent"]
    assert low < figures["left_percent"] < high
    assert f"left as they were {figures['left_percent']:.1f} %" in text
    table = ceph.corrections(run, folder, predictions=tmp_path / "points.csv", settings=MM[1:])
    assert table["per_landmark"]["S"] == pytest.approx(figures["per_landmark"]["S"], abs=1e-2)
    assert table["left_percent"] == figures["left_percent"]


def test_points_that_nobody_has_seen_are_no_corrections(run, folder, capsys):  # noqa: F811
    assert main(["corrections", str(run), str(folder), *MM]) == 2
    assert "nobody has seen the points" in capsys.readouterr().err
