"""A landmark that is not on a film is told from one that nobody marked, in every format that can say it."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from tests.data.small_sets import noise_film, write_csv

from ceph.data.check.counts import counts, find_in_counts
from ceph.data.check.quick import quick_check
from ceph.data.convert import convert
from ceph.data.formats.film_table import absent_of
from ceph.data.formats.find import read
from ceph.data.formats.points import read_points
from ceph.data.several import on_landmarks
from ceph.runfolder import fingerprint

NAMES = ["S", "N", "A", "B", "Pog`"]


def absent(data):
    """What is absent, by film, where anything is."""
    return {s.id: gone for s in data.samples if (gone := absent_of(s, data.landmarks))}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Films of two readers, on one of which neither found A and B: A is not there, and B was left empty."""
    folder = write_csv(tmp_path_factory.mktemp("absent") / "set")
    with (folder / "points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["film"] == "f1.png":
            row |= {"A_x": "absent", "A_y": "Absent", "B_x": "", "B_y": ""}
    with (folder / "points.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.mark.parametrize("name", ["csv", "coco", "aariz", "cldetection2024", "cvat"])
def test_a_format_keeps_what_is_absent(source, tmp_path, name):
    assert absent(read(source)) == {"f1": ("A",)}
    convert(source, tmp_path / "there", name)
    there = read(tmp_path / "there", landmarks=NAMES if name == "cldetection2024" else None)
    assert absent(there) == {"f1": ("A",)}
    film = next(sample for sample in there.samples if sample.id == "f1")
    assert not film.valid[:, [there.landmarks.index(symbol) for symbol in "AB"]].any()


def test_a_name_with_a_semicolon_comes_back_out_of_the_table_of_films(tmp_path):
    for film in ("one", "two"):
        noise_film(tmp_path / "set" / "images" / f"{film}.png")
    rows = ["film,mm_per_px,S_x,S_y,A; b_x,A; b_y", "one.png,0.1,3,4,absent,absent", "two.png,0.1,3,4,5,6"]
    (tmp_path / "set" / "points.csv").write_text("\n".join(rows))
    convert(tmp_path / "set", tmp_path / "there", "labelme")
    assert absent(read(tmp_path / "there")) == {"one": ("A; b",)}


def test_a_table_of_points_may_say_it_in_cells_and_what_evaluate_writes_is_read(tmp_path):
    tables = {
        "labels": ["image file,spacing(mm),p1x,p1y,p2x,p2y", "one.png,.1,3,4,absent,absent", "two.png,.1,3,4,5,6"],
        "long": ["film,landmark,x,y", "one,S,3,4", "one,N,absent,absent", "two,S,3,4", "two,N,5,6"],
        "ours": ["image_id,symbol,x_px,y_px,score,absent", "one,S,3,4,1,", "one,N,5,6,1,1", "two,S,3,4,1,"],
    }
    found = {}
    for name, rows in tables.items():
        for film in ("one", "two"):
            noise_film(tmp_path / name / f"{film}.png")
        (tmp_path / name / f"{name}.csv").write_text("\n".join(rows))
        found[name] = absent(read(tmp_path / name, mm_per_px=0.1, landmarks=["S", "N"]))
    assert found == {"labels": {"one": ("N",)}, "long": {"one": ("N",)}, "ours": {}}
    assert read_points(tmp_path / "long" / "long.csv").marks["one"] == {"S": (3, 4)}


def test_of_two_spellings_of_a_landmark_the_marked_one_is_there(tmp_path):
    for film in ("one", "two"):
        noise_film(tmp_path / f"{film}.png")
    rows = ["one.png,.1,3,4,absent,absent,9,9", "two.png,.1,3,4,5,6,,"]
    (tmp_path / "points.csv").write_text("\n".join(["film,mm_per_px,S_x,S_y,UMT_x,UMT_y,umt_x,umt_y", *rows]))
    data = read(tmp_path)
    assert (data.landmarks, absent(data)) == (("S", "UMT"), {})


def test_it_stays_with_its_landmark_where_others_are_chosen(source):
    assert absent(chosen := read(source, landmarks=["B", "A"])) == {"f1": ("A",)}
    assert absent(on_landmarks(chosen, ["N", "A", "B"])) == {"f1": ("A",)}


def test_a_check_counts_it_and_does_not_miss_it(source):
    data = read(source)
    missing = [finding.text for finding in find_in_counts(data, ()) if finding.kind == "missing"]
    assert not any(text.startswith("A is missing") and "f1" in text for text in missing)
    assert any(text.startswith("B is missing") and "f1" in text for text in missing)
    assert counts(data)["absent"] == {"A": 1}
    lines = quick_check(data.samples, [s.id for s in data.samples], data.landmarks)
    assert [line[:11] for line in lines if "is marked" in line] == ["B is marked"]


def test_it_is_part_of_what_a_run_has_seen(source):
    data = read(source)
    silent = [replace(sample, absent=None) for sample in data.samples]
    marks = [fingerprint(s, [""] * len(s), data.landmarks)["films"] for s in (data.samples, silent)]
    changed = [film for split in marks[0] for film in marks[0][split] if marks[0][split][film] != marks[1][split][film]]
    assert changed == ["f1"]


def test_tools_say_it_by_a_flag_a_choice_or_a_tag(source, tmp_path):
    for name in ("labelme", "labelstudio", "cvat"):
        convert(source, tmp_path / name, name)
        (tmp_path / name / "ceph-films.csv").unlink()
    for file in (tmp_path / "labelme").rglob("f1.json"):
        content = json.loads(file.read_text())
        content["flags"] = {"A absent": True, "B absent": False, "blurred": True}
        file.write_text(json.dumps(content))
    export = tmp_path / "labelstudio" / "export.json"
    tasks = json.loads(export.read_text())
    for task in tasks:
        if "f1." in task["data"]["image"]:
            choice = {"type": "choices", "to_name": "image", "from_name": "not there"}
            task["annotations"][0]["result"].append({**choice, "value": {"choices": ["A absent", "blurred"]}})
    export.write_text(json.dumps(tasks))
    tree = ET.parse(tmp_path / "cvat" / "annotations.xml")
    for image in tree.iter("image"):
        if "f1." in image.get("name"):
            ET.SubElement(image, "tag", label="A absent", source="manual")
    tree.write(tmp_path / "cvat" / "annotations.xml")
    for name in ("labelme", "labelstudio", "cvat"):
        assert absent(read(tmp_path / name, mm_per_px=0.1)) == {"f1": ("A",)}, name


def test_a_mark_weighs_more_than_the_word_and_both_are_told(tmp_path, caplog):
    noise_film(tmp_path / "images" / "one.png")
    rows = ["one.png,first,0.1,3,4,5,6", "one.png,second,0.1,3,4,absent,absent"]
    (tmp_path / "points.csv").write_text("\n".join(["film,reader,mm_per_px,S_x,S_y,N_x,N_y", *rows]))
    data = read(tmp_path)
    assert not absent(data)
    assert np.array_equal(data.samples[0].valid, [[True, True], [True, False]])
    assert "that N is absent on film one, on which a reader marked it" in caplog.text
