"""A tracing has the lines that its points allow, where they are; measurements are told from any record of a run."""

from __future__ import annotations

import numpy as np
import pytest

from ceph.report.measurements import measurement_rows, measurement_sentences
from ceph.report.overlay import overlay
from ceph.report.strokes import LINE, tracing
from ceph.report.tracing import tracing_svg

POINTS = {"S": (30.0, 40.0), "N": (80.0, 40.0), "Sella2": (1.0, 1.0), "Go": (30.0, 80.0), "Me": (70.0, np.nan)}


def test_lines_are_drawn_through_points_that_are_there_and_a_plane_beyond_them():
    strokes = tracing(np.array(list(POINTS.values())), tuple(POINTS))
    assert [stroke.name for stroke in strokes] == ["SN"]
    assert strokes[0].points.tolist() == pytest.approx(np.array([[26, 40], [84, 40]]))


def test_an_overlay_has_the_lines_under_its_marks():
    film, points = np.zeros((100, 100), dtype=np.uint8), np.array(list(POINTS.values()))[:2]
    picture = overlay(film, points, ("S", "N"), strokes=tracing(points, ("S", "N")))
    assert tuple(picture[40, 55]) == LINE
    assert tuple(overlay(film, points, ("S", "N"))[40, 55]) == (0, 0, 0)


def test_a_name_in_a_tracing_is_text():
    points = np.array([(30.0, 40.0)])
    svg = tracing_svg(None, (100, 100), [], points, ["<b>"], ["<script>"], "a & b")
    assert "<script>" not in svg
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg


def test_figures_of_any_shape_are_told_or_left_out():
    assert measurement_rows({"measurements": {"each": {"ANB": 3, "SNA": {"mean_abs_error": "x"}}}})[1] != []
    assert measurement_rows({"measurements": []})[1] == []
    assert list(measurement_sentences({"measurements": {"challenge": None}})) == []
    row = {"unit": "deg", "n": 3, "mean_abs_error": 1.0, "bias": -0.5, "readers_apart": None}
    rows = measurement_rows({"measurements": {"each": {"ANB": {**row, "classes": {"same_percent": 50.0}}}}})[1]
    assert rows == [["ANB", "1.00 deg", "–", "50.0 %", "", "-0.50", "3"]]
