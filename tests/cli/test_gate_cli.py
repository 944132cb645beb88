"""Radii and the gate as a person meets them: a run that knows its held-out films, asked of films that are none."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tests.data.small_sets import noise_film

import ceph
from ceph.cli.app import main
from ceph.run.held_out import are_held_out
from ceph.runfolder import read_figures, read_held_out, read_predictions


@pytest.fixture(scope="module")
def run(folds_run):
    """Two folds, and what they know by films that did not train them."""
    return folds_run


@pytest.fixture
def film(tmp_path):
    noise_film(tmp_path / "film.png", 0, (80, 64))
    return tmp_path / "film.png"


def test_out_of_fold_films_teach_a_folder_of_folds(run):
    known, figures = read_held_out(run), read_figures(run)["out-of-fold"]["radius"]
    assert known.split == "out-of-fold"
    assert known.films.max() == read_figures(run)["out-of-fold"]["n_images"]
    assert set(figures["per_landmark"]) == set(known.landmarks)
    assert figures["level"] == 0.9
    found = read_predictions(run, "out-of-fold")
    within = np.nanmean((found.errors_mm <= found.radii_mm)[np.isfinite(found.errors_mm) & np.isfinite(found.radii_mm)])
    assert 100 * within == pytest.approx(figures["covered_percent"], abs=0.1)
    assert '<circle class="radius"' in (run / "report.html").read_text()


def test_points_have_radii_in_each_kind_and_millimetres_where_they_are_known(run, film, tmp_path):
    out = tmp_path / "points.csv"
    assert main(["predict", str(run), str(film), "--out", str(out), "--mm-per-px", "0.5"]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[7:] == ["radius_px", "radius_mm", "wrong"]
    assert all(float(row["radius_px"]) / 2 == pytest.approx(float(row["radius_mm"]), abs=0.01) for row in rows)
    assert main(["predict", str(run), str(film), "--out", str(tmp_path / "a.json"), "--level", "0.5"]) == 0
    points = json.loads((tmp_path / "a.json").read_text())["films"][0]["points"]
    assert all(point["radius_mm"] is None and point["radius_px"] > 0 for point in points.values())
    assert main(["predict", str(run), str(film), "--out", str(tmp_path / "b.json"), "--format", "coco"]) == 0
    found = json.loads((tmp_path / "b.json").read_text())
    assert len(found["annotations"][0]["keypoint_radii_px"]) == len(points)
    assert "wrong" in found["images"][0]


def test_a_film_that_is_no_head_is_told_refused_or_let_through(run, film, tmp_path, capsys):
    call = ["predict", str(run), str(film), "--out", str(tmp_path / "a.csv")]
    assert main(call) == 0
    assert "film.png: does not read as a lateral cephalogram" in capsys.readouterr().out
    assert main([*call, "--gate", "off"]) == 0
    assert "lateral cephalogram" not in capsys.readouterr().out
    assert main([*call, "--gate", "refuse"]) == 1
    text = capsys.readouterr()
    assert "does not read as a lateral cephalogram" in text.err
    assert "predicted 0 of 1 films" in text.out


@pytest.mark.parametrize("words", [["--gate", "wran"], ["--orient", "on"], ["--level", "1.5"]])
def test_a_wrong_word_is_refused_before_anything_is_read(run, film, words, capsys):
    assert main(["predict", str(run), str(film), *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_from_python_radii_come_of_what_was_found(run, film):
    trained = ceph.load(run)
    found = trained.found_on([film], [0.5])
    half, most = (trained.known.radii_px(found, level) for level in (0.5, 0.95))
    assert half.shape == found.scores.shape
    assert np.all(half < most)


def test_a_damaged_file_stops_no_prediction(run, film, tmp_path, caplog):

    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "held-out.json").write_text("{")
    assert main(["predict", str(copy), str(film), "--out", str(tmp_path / "a.csv")]) == 0
    assert "no radius and no gate" in caplog.text
    assert (tmp_path / "a.csv").read_text().startswith("film,symbol,x_px,y_px,score,x_mm,y_mm\n")


def test_a_mirrored_head_has_the_radii_that_it_has_as_it_should_be(run, film):
    trained = ceph.load(run)
    found = trained.found_on([film, film], [0.5, None])
    other = replace(found, points_px=found.points_px * (-1, 1) + (63, 0))
    expected = trained.known.radii_px(found)
    assert np.allclose(trained.known.radii_px(other, mirrored=[True, True]), expected)
    assert not np.allclose(trained.known.radii_px(other), expected)


def test_films_that_trained_a_run_are_not_held_out_but_for_a_few():
    films = [f"film-{n}" for n in range(20)]
    assert are_held_out(films, {"x": "other:marks", "y": "film-3:marks"})
    assert not are_held_out(films, {str(n): f"film-{n}:marks" for n in range(2)})
