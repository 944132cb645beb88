"""Genuine files, as tools and challenges write them, are read as they stand."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.data.small_sets import noise_film, shared_data

from ceph.data.convert import convert
from ceph.data.formats.cldetection2023 import LANDMARKS
from ceph.data.formats.find import read
from ceph.errors import ConfigError, DataError

pytestmark = pytest.mark.shared


def blank_film(path, size):
    """A film of one grey, (H, W): only its size matters here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (size[1], size[0])).save(path)


@pytest.fixture
def genuine(tmp_path):
    """Put one genuine file into a folder of its own."""

    def place(name):
        shutil.copy(shared_data() / "formats" / name, tmp_path / name)
        return tmp_path

    return place


def test_the_official_json_numbers_films_from_one_and_gives_no_spacing(genuine):
    folder = genuine("cldetection2023_official.json")
    with pytest.raises(DataError, match=r"film 1 is not in .*\n  hint: save the films of train_stack\.mha"):
        read(folder)
    for name in ("1.bmp", "002.bmp"):
        blank_film(folder / "processed" / name, (2880, 2400))
    with pytest.raises(ConfigError, match=r"data\.mm_per_px"):
        read(folder)
    data = read(folder, mm_per_px=0.1)
    assert (data.format, data.landmarks, data.readers) == ("cldetection2023", LANDMARKS, ("reader",))
    films = {sample.id: sample for sample in data.samples}
    assert films.keys() == {"1", "002"}
    np.testing.assert_array_equal(films["1"].points[0, 0], [831.4453125, 993.75])
    senior = (shared_data() / "formats/isbi2015_senior_001.txt").read_text().splitlines()[:19]
    isbi = np.array([[float(value) for value in line.split(",")] for line in senior])
    # Film 1 is the first of ISBI, annotated anew: the first 19 points are the same landmarks in the same order.
    assert np.median(np.linalg.norm(films["1"].points[0, :19] - isbi, axis=1)) < 20


def test_the_challenges_points_20_to_38_lie_where_their_names_say():
    content = json.loads((shared_data() / "cldetection2023/cl38_coco.json").read_text())
    points = np.array([one["keypoints"] for one in content["annotations"]]).reshape(-1, 38, 3)[:, :, :2]
    x, y = (dict(zip(LANDMARKS, np.median(points[:, :, axis], axis=0), strict=True)) for axis in (0, 1))
    assert max(x, key=x.get) == "Pn"  # the tip of the nose is the foremost, and the films look to the right
    assert y["Me`"] > y["Gn`"] > y["Pog`"]
    assert y["UIA"] < y["UIT"] < y["LIA"]
    assert x["Ba"] < x["Co"] < x["Ptm"] < x["U6"] < x["LIT"]
    assert y["G"] < y["N`"] < y["Pn"] < y["Sn"] < y["UL`"] < y["LL`"]


def test_keypoints_on_films_of_the_isbi_set_are_found_by_name_with_their_spacing(tmp_path):
    content = json.loads((shared_data() / "cldetection2023/cl38_coco.json").read_text())
    content["images"] = [content["images"][0], content["images"][1], content["images"][-1]]
    kept = [image["id"] for image in content["images"]]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    (tmp_path / "cl38_coco.json").write_text(json.dumps(content))
    for image in content["images"]:
        target = tmp_path / "RawImage" / image["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data() / "isbi2015/RawImage" / image["file_name"], target)
    data = read(tmp_path)
    assert data.landmarks[:2] == ("S", "N")
    assert len(data.landmarks) == 38
    assert {sample.mm_per_px for sample in data.samples} == {0.25}
    assert {sample.spacing_source for sample in data.samples} == {"COCO spacing"}
    first = next(sample for sample in data.samples if sample.id == "001")
    np.testing.assert_array_equal(first.points[0, 0], [333.7, 398.1])


def test_an_export_of_label_studio_is_in_percent_of_the_outer_edges(genuine):
    folder = genuine("labelstudio_export.json")
    tasks = json.loads((folder / "labelstudio_export.json").read_text())
    for number, task in enumerate(tasks):
        size = task["annotations"][0]["result"][0]
        name = task["file_upload"] if number else task["file_upload"].partition("-")[2]  # as uploaded, or as it was
        blank_film(folder / name, (size["original_height"], size["original_width"]))
    data = read(folder, mm_per_px=0.1)
    assert data.format == "labelstudio"
    assert set(data.landmarks) >= {"p1", "p2"}
    assert data.readers == ("annotator1",)
    sample = next(s for s in data.samples if s.id == "cks2ip8fq2a0j0yufdfssbc09")
    p1 = sample.points[0, data.landmarks.index("p1")]
    np.testing.assert_allclose(p1, [0.72548011226787 * 1968 - 0.5, 0.05441354292623942 * 2207 - 0.5], atol=1e-8)


def test_a_labelme_file_measures_from_the_outer_corner(genuine):
    folder = genuine("labelme_001.json")
    blank_film(folder / "1.tif", (1671, 1340))
    data = read(folder, mm_per_px=0.1)
    assert data.landmarks == tuple(f"l{k}" for k in range(1, 20))
    np.testing.assert_allclose(data.samples[0].points[0, 0], [367.406779661017 - 0.5, 598.3050847457628 - 0.5])


def test_a_table_of_numbered_points_needs_a_name_for_each(genuine):
    folder = genuine("wide_csv_unnamed_points.csv")
    rows = list(csv.DictReader((folder / "wide_csv_unnamed_points.csv").read_text().splitlines()))
    for row in rows:
        noise_film(folder / "images" / row["filename"], size=(600, 500))
    names = [f"n{k}" for k in range(20)]
    with pytest.raises(ConfigError, match=r"data\.landmarks: this set has 20 points without names\n.*name all of them"):
        read(folder, mm_per_px=0.2)
    with pytest.raises(ConfigError, match="20 points without names, and 19 names"):
        read(folder, mm_per_px=0.2, landmarks=names[1:])
    data = read(folder, mm_per_px=0.2, landmarks=names)
    assert (data.format, data.landmarks, len(data.samples)) == ("csv", tuple(names), len(rows))
    sample = next(sample for sample in data.samples if sample.id == "1000_1")
    np.testing.assert_array_equal(sample.points[0, 0], [406.1053, 259.7082])
    convert(folder, folder.parent / "named", "csv", mm_per_px=0.2, landmarks=names)
    assert read(folder.parent / "named").landmarks == tuple(names)


def test_an_annotation_of_aariz_and_of_isbi_is_written_as_the_genuine_ones_are(tmp_path):
    genuine = json.loads((shared_data() / "formats/aariz_landmarks_example.json").read_text())
    film = genuine["ceph_id"]
    noise_film(tmp_path / f"set/valid/Cephalograms/{film}.png", size=(2000, 2000))
    file = tmp_path / "set/valid/Annotations/Cephalometric Landmarks/Senior Orthodontists" / f"{film}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(genuine))
    convert(tmp_path / "set", tmp_path / "there", "aariz", mm_per_px=0.1)
    written = json.loads((tmp_path / "there" / file.relative_to(tmp_path / "set")).read_text())
    assert written["ceph_id"] == film
    assert [(one["symbol"], one["value"]) for one in written["landmarks"]] == [
        (one["symbol"], one["value"]) for one in genuine["landmarks"]
    ]
