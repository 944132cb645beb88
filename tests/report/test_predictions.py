"""Predicted points as files: the same points in each kind, millimetres only where they are known, and overlays."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ceph.data.formats.coco import Coco
from ceph.data.formats.cvat import Cvat
from ceph.data.formats.labelme import LabelMe
from ceph.data.formats.labelstudio import LabelStudio
from ceph.data.formats.written import Document, Written
from ceph.report.overlay import MAX_HEIGHT, overlay
from ceph.report.predictions import FilmPoints, render

NAMES = ("S", "Pog`")
KNOWN = FilmPoints("a/1.png", (40, 30), 0.5, np.array([[1.25, 2.0], [30.5, -1.0]]), np.array([0.9, 0.25]))
UNKNOWN = FilmPoints("2,ä.png", (50, 60), None, np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([1.0, 0.5]))


def text(kind):
    return render(kind, [KNOWN, UNKNOWN], NAMES, "runs/x", {"b.png": "is cut off"})


def test_json_has_points_by_symbol_and_the_films_that_were_not_read():
    content = json.loads(text("json"))
    first, second = content["films"]
    assert (first["film"], first["width_px"], first["height_px"], first["mm_per_px"]) == ("a/1.png", 30, 40, 0.5)
    assert first["points"]["S"] == {"x_px": 1.25, "y_px": 2.0, "x_mm": 0.625, "y_mm": 1.0, "score": 0.9}
    assert second["mm_per_px"] is None
    assert second["points"]["Pog`"] == {"x_px": 5.0, "y_px": 6.0, "x_mm": None, "y_mm": None, "score": 0.5}
    assert (content["run"], content["not_read"]) == ("runs/x", [{"film": "b.png", "why": "is cut off"}])


def test_csv_has_a_line_a_point_and_empty_millimetres_where_they_are_unknown():
    lines = list(csv.DictReader(io.StringIO(text("csv"))))
    assert [line["film"] for line in lines] == ["a/1.png"] * 2 + ["2,ä.png"] * 2
    assert (lines[1]["symbol"], lines[1]["x_px"], lines[1]["x_mm"], lines[1]["score"]) == (
        *("Pog`", "30.5", "15.25", "0.25"),
    )
    assert (lines[2]["x_mm"], lines[2]["y_mm"]) == ("", "")


def test_coco_has_keypoints_and_the_spacing_only_where_it_is_known():
    content = json.loads(text("coco"))
    assert content["categories"][0]["keypoints"] == list(NAMES)
    assert [image.get("spacing") for image in content["images"]] == [0.5, None]
    assert content["annotations"][0]["keypoints"] == [1.25, 2.0, 2, 30.5, -1.0, 2]
    assert content["annotations"][1]["keypoint_scores"] == [1.0, 0.5]
    assert {a["image_id"] for a in content["annotations"]} == {image["id"] for image in content["images"]}


def test_what_a_model_says_of_a_point_goes_along_into_each_tool_with_the_model_s_name():
    [task, _] = json.loads(text("labelstudio"))
    assert task["annotations"] == []
    assert (task["predictions"][0]["model_version"], task["predictions"][0]["score"]) == ("runs/x", 0.575)
    assert [region["score"] for region in task["predictions"][0]["result"]] == [0.9, 0.25]
    root = ET.fromstring(text("cvat"))
    assert [shape.get("source") for shape in root.iter("points")] == ["auto"] * 4
    assert [one.text for one in root.iterfind("image/points/attribute[@name='score']")] == ["0.9", "0.25", "1", "0.5"]
    assert root.findtext("meta/task/name") == "runs/x"
    assert json.loads(text("coco"))["info"] == {"readers": ["predicted"], "model": "runs/x"}


def test_radii_of_a_model_go_into_each_tool_as_it_has_a_place_for_them():
    told = {"S": {"score": 0.9, "radius_px": 3.0, "radius_mm": 1.5}, "N": {"score": 0.8}}
    film = Written("1.png", (40, 30), {"predicted": {"S": (1.0, 2.0), "N": (3.0, 4.0)}}, found=told)
    document = Document(("S", "N"), ["predicted"], lambda: [film], "run@1")
    [task] = json.loads("".join(LabelStudio().text(document)))
    assert [region["value"]["width"] for region in task["predictions"][0]["result"]] == [10.0, 0.3]  # percent
    [annotation] = json.loads("".join(Coco().text(document)))["annotations"]
    assert (annotation["keypoint_radii_px"], annotation["keypoint_scores"]) == ([3.0, None], [0.9, 0.8])
    shapes = json.loads(LabelMe().page(film, document))["shapes"]
    assert [shape.get("radius_mm") for shape in shapes] == [1.5, None]
    root = ET.fromstring("".join(Cvat().text(document)))
    assert [one.text for one in root.iterfind("image/points/attribute[@name='radius_mm']")] == ["1.5"]


def lit(picture, x, y):
    """Whether the yellow of a cross is there."""
    red, _, blue = picture[y, x].astype(int)
    return red - blue > 100


def test_an_overlay_has_a_cross_at_each_point_and_is_grey_elsewhere():
    film = np.full((400, 300), 90, np.uint8)
    picture = overlay(film, np.array([[50.0, 60.0], [200.0, 300.0]]), ["", ""])
    assert picture.shape == (400, 300, 3)
    assert lit(picture, 50, 60)
    assert lit(picture, 200, 300)
    assert (picture[150:250] == 90).all()


def test_an_overlay_of_a_tall_film_is_shrunk_with_its_points():
    film = np.full((2 * MAX_HEIGHT, 500), 90, np.uint8)
    picture = overlay(film, np.array([[101.0, 1001.0]]), [""])
    assert picture.shape == (MAX_HEIGHT, 250, 3)
    assert lit(picture, 50, 500)


def test_an_overlay_tells_the_film_its_scale_and_which_points_are_doubtful():
    film, points = np.full((400, 300), 90, np.uint8), np.array([[50.0, 60.0], [200.0, 300.0]])
    plain = overlay(film, points, ["S", "N"], [0.9, 0.01])
    told = overlay(film, points, ["S", "N"], [0.9, 0.01], [1], "film 7", 0.25)
    above = len(told) - len(plain)
    assert above > 20
    changed = np.argwhere((told[above:] != plain).any(axis=2))
    assert np.abs(changed - (300, 200)).max() < 110  # around N and its name alone
    assert (overlay(film, points, ["S", "N"], [0.9, 0.01], [1], "film 7")[:above] != told[:above]).any()  # no scale


@pytest.mark.parametrize("where", [[2.0, 2.0], [297.0, 397.0], [-40.0, 900.0]])
def test_a_point_at_the_edge_or_off_the_film_does_not_stop_the_overlay(where):
    assert overlay(np.zeros((400, 300), np.uint8), np.array([where]), ["Gonion"]).shape == (400, 300, 3)
