"""`ceph predict` as a person calls it: films in any place, broken ones named together, millimetres never assumed."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.data.small_sets import noise_film, write_aariz, write_isbi

import ceph
from ceph.cli.app import main


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_set):
    """A tiny run of one epoch."""
    settings = {
        "data": {"path": str(tiny_set), "size": [64, 64], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cpu"},
        "evaluate": {"scales": [1.0, 0.5], "batch_size": 3},
    }
    return ceph.train(settings, out=tmp_path_factory.mktemp("runs") / "run").folder


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    for n, place in enumerate(("a.png", "deep/a.png", "b.bmp", "c.jpg", "d.tif")):
        noise_film(folder / place, n, (80 + n, 64))
    return folder


def test_all_images_of_a_folder_are_predicted_in_their_own_pixels(run, films, tmp_path, capsys):
    out = tmp_path / "points.json"
    assert main(["predict", str(run), str(films), "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    paths = sorted(films.rglob("*.*"))
    assert [film["film"] for film in content["films"]] == [str(p) for p in paths]
    assert [(f["height_px"], f["width_px"]) for f in content["films"]] == [
        (80, 64),
        (82, 64),
        (83, 64),
        (84, 64),
        (81, 64),
    ]
    points, scores = ceph.load(run).predict(paths)
    for n, film in enumerate(content["films"]):
        assert list(film["points"]) == content["landmarks"]
        for k, point in enumerate(film["points"].values()):
            assert (point["x_px"], point["y_px"]) == pytest.approx(points[n, k], abs=2e-3)
            assert point["score"] == pytest.approx(scores[n, k], abs=1e-4)
            assert (point["x_mm"], point["y_mm"]) == (None, None)
    text = capsys.readouterr().out
    assert "predicted 5 of 5 films, 29 landmarks each" in text
    assert "no millimetres for 5 of them: their spacing is unknown; --mm-per-px X gives it" in text


def test_a_film_alone_is_found_where_it_is_found_in_a_batch(run, films):
    trained, paths = ceph.load(run), sorted(films.rglob("*.*"))
    together, _ = trained.predict(paths)
    for path, points in zip(paths, together, strict=True):
        assert np.allclose(trained.predict([path])[0][0], points, atol=1e-2)


def test_broken_films_are_named_together_and_the_others_predicted(run, films, tmp_path, capsys):
    (films / "b.bmp").write_bytes((films / "b.bmp").read_bytes()[:900])
    (films / "e.png").write_text("no image")
    out = tmp_path / "points.csv"
    assert main(["predict", str(run), str(films), "--out", str(out)]) == 1
    lines = list(csv.DictReader(io.StringIO(out.read_text())))
    assert len(lines) == 4 * 29
    text = capsys.readouterr()
    assert "predicted 4 of 6 films" in text.out
    assert text.err.count("error:") == 3
    for part in ("b.bmp: is damaged or cut off", "e.png: is no image", "2 of 6 films were not read"):
        assert part in text.err


def test_where_no_film_can_be_read_that_is_said(run, tmp_path, capsys):
    (tmp_path / "e.png").write_text("no image")
    assert main(["predict", str(run), str(tmp_path / "e.png")]) == 1
    text = capsys.readouterr()
    assert "no film could be read" in text.err
    assert text.out == "film,symbol,x_px,y_px,score,x_mm,y_mm\n"


def test_without_out_the_points_go_to_the_screen_and_the_rest_does_not(run, films, capsys):
    assert main(["predict", str(run), str(films / "a.png"), "--mm-per-px", "0.5"]) == 0
    text = capsys.readouterr()
    lines = list(csv.DictReader(io.StringIO(text.out)))
    assert len(lines) == 29
    assert all(float(line["x_mm"]) == pytest.approx(float(line["x_px"]) / 2, abs=2e-3) for line in lines)
    assert "predicted 1 of 1 films" in text.err
    assert "no millimetres" not in text.err


def test_a_data_set_s_folder_gives_its_spacing_and_one_that_does_not_say_gives_none(run, tmp_path, capsys):
    known, unknown = write_aariz(tmp_path / "aariz", mm_per_px=0.2), write_isbi(tmp_path / "isbi", 1)
    out = tmp_path / "points.json"
    assert main(["predict", str(run), str(known), str(unknown), "--out", str(out)]) == 0
    spacing = {film["film"]: film["mm_per_px"] for film in json.loads(out.read_text())["films"]}
    assert len(spacing) == 6 + 3
    assert all(mm == (0.2 if "/aariz/" in film else None) for film, mm in spacing.items())
    assert main(["predict", str(run), str(known), str(unknown), "--out", str(out), "--mm-per-px", "0.3"]) == 0
    assert {film["mm_per_px"] for film in json.loads(out.read_text())["films"]} == {0.3}


def test_a_dicom_film_has_the_spacing_of_its_header_and_a_broken_one_stops_no_other(run, tmp_path, capsys):
    dicom = pytest.importorskip("tests.data.test_formats_dicom", reason="needs the extra `dicom`")
    folder, out = tmp_path / "films", tmp_path / "points.json"
    folder.mkdir()
    film = np.random.default_rng(0).integers(0, 4000, (80, 64)).astype(np.uint16)
    dicom.write_dicom(folder / "a.dcm", film, PixelSpacing=[0.125, 0.125])
    dicom.write_dicom(folder / "b.dcm", film)
    (folder / "c.dcm").write_bytes(b"no film")
    assert main(["predict", str(run), str(folder), "--out", str(out)]) == 1
    assert [film["mm_per_px"] for film in json.loads(out.read_text())["films"]] == [0.125, None]
    assert "c.dcm" in capsys.readouterr().err
    assert main(["predict", str(run), str(folder / "a.dcm"), "--out", str(out)]) == 0
    assert [film["mm_per_px"] for film in json.loads(out.read_text())["films"]] == [0.125]


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        (
            {"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.1, 0.1]},
            "a.dcm: its DICOM header states 0.1 on the detector (PixelSpacing is ImagerPixelSpacing, uncorrected), but",
        ),
        ({"PixelSpacing": [25.4, 25.4]}, "a.dcm: PixelSpacing 25.4 is no spacing of a film); --mm-per-px X gives it"),
    ],
)
def test_a_spacing_of_a_header_that_cannot_be_used_is_told(run, tmp_path, capsys, elements, why):
    dicom = pytest.importorskip("tests.data.test_formats_dicom", reason="needs the extra `dicom`")
    film = np.random.default_rng(0).integers(0, 4000, (80, 64)).astype(np.uint16)
    dicom.write_dicom(tmp_path / "a.dcm", film, **elements)
    assert main(["predict", str(run), str(tmp_path / "a.dcm")]) == 0
    err = capsys.readouterr().err
    assert "no millimetres for 1 of them: their spacing is unknown (" in err
    assert why in err


def test_a_set_whose_annotations_are_broken_is_predicted_without_spacing(run, tmp_path, caplog):
    folder = write_aariz(tmp_path / "aariz", mm_per_px=0.2)
    next(folder.rglob("*Senior*/*.json")).write_text("{")
    out = tmp_path / "points.json"
    assert main(["predict", str(run), str(folder), "--out", str(out)]) == 0
    assert {film["mm_per_px"] for film in json.loads(out.read_text())["films"]} == {None}
    assert "no spacing is known, as this data set cannot be read" in caplog.text


def test_overlays_keep_the_films_names_and_are_no_films_of_the_next_call(run, films, capsys):
    shutil.copy(films / "a.png", films / "a.bmp")
    with Image.open(films / "a.png") as image:
        image.save(films / "a.bmp")
    pictures = films / "pictures"
    for _ in range(2):
        assert main(["predict", str(run), str(films), "--overlays", str(pictures)]) == 0
        assert "predicted 6 of 6 films" in capsys.readouterr().err
    names = {str(p.relative_to(pictures)) for p in pictures.rglob("*.png")}
    assert names == {"a.png", "a-2.png", "b.png", "c.png", "d.png", "deep/a.png"}
    with Image.open(pictures / "d.png") as image:
        assert (image.mode, image.size[0]) == ("RGB", 64)
        assert image.size[1] > 84


def test_a_film_is_not_written_over_by_its_picture(run, films, monkeypatch, capsys):
    monkeypatch.chdir(films)
    before = (films / "a.png").read_bytes()
    assert main(["predict", str(run), "a.png", "--overlays", "."]) == 2
    assert "a picture would be written over a film: a.png lies in ." in capsys.readouterr().err
    assert (films / "a.png").read_bytes() == before


def test_a_film_named_twice_is_predicted_once(run, films, capsys):
    assert main(["predict", str(run), str(films / "a.png"), str(films)]) == 0
    assert "predicted 5 of 5 films" in capsys.readouterr().err


def test_points_to_look_at_first_are_named_at_the_end(run, films, monkeypatch, capsys):
    monkeypatch.setattr("ceph.run.doubt.LEAST", 2.0)  # so that all points are low
    assert main(["predict", str(run), str(films / "a.png")]) == 0
    last = capsys.readouterr().err.splitlines()[-2:]
    assert last[0].startswith("look at these first: 29 of 29 points have a score below")
    assert last[1].startswith(f"  {films / 'a.png'}: ")
    assert last[1].endswith("and 19 more")


def test_coco_is_asked_for_by_name(run, films, tmp_path):
    out = tmp_path / "points.json"
    assert main(["predict", str(run), str(films), "--out", str(out), "--format", "coco"]) == 0
    assert json.loads(out.read_text()).keys() == {"info", "images", "annotations", "categories"}


MISTAKES = {
    "missing films": (["nope.png", "nada"], "there is no file or folder", 2),
    "empty folder": (["EMPTY"], "holds no film", 1),
    "unknown ending": (["a.png", "--out", "points.txt"], "points.txt does not say what to write", 1),
    "unknown kind": (["a.png", "--format", "jason"], "did you mean 'json'?", 1),
    "no such folder": (["a.png", "--out", "nope/points.csv"], "--out: there is no folder nope", 1),
    "spacing of nothing": (["a.png", "--mm-per-px", "0"], "--mm-per-px: 0 is no spacing of a film", 1),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_before_anything_is_predicted(mistake, run, films, monkeypatch, capsys):
    words, message, count = MISTAKES[mistake]
    monkeypatch.chdir(films)
    (films / "EMPTY").mkdir()
    assert main(["predict", str(run), *words]) == 2
    text = capsys.readouterr()
    assert text.err.count("error:") == count
    assert message in text.err
    assert text.out == ""


def test_a_folder_that_is_no_run_is_said_so(films, tmp_path, capsys):
    assert main(["predict", str(tmp_path), str(films)]) == 2
    assert "is no run folder" in capsys.readouterr().err
