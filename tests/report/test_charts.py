"""Charts are well-formed SVG, keep within their picture, and let no text become markup."""

from __future__ import annotations

import math
import re
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceph.report import charts
from ceph.report.charts import Axis, Dot, Interval, Line, short, spread

NAN = math.nan
NASTY = "<script>\"&'"


def drawn(name):
    yield charts.line_chart(
        name,
        [Line(name, [1, 2, 3], [1.0, NAN, 3.0]), Line("b", [1, 2], [0.5, 0.1], faint=True)],
        x_label=name,
        y_label=name,
        log=True,
        marks=[(2, name)],
    )
    yield charts.row_chart(
        name,
        [Interval(name, 2.0, 1.0, 3.0, 5.0), Interval("N", 1.0, NAN, NAN, NAN)],
        x_label="mm",
        value=name,
        other="o",
    )
    yield charts.dot_chart(
        name, [Dot(name, 1.0, 2.0), Dot("b", 1.01, 2.0)], x_label="x", y_label="y", slopes=[(1, name), (0.5, "half")]
    )
    yield charts.share_chart(name, [name, "96 × 80"], [[0.5, 0.5], [1.0, 0.0]], x_label="epoch")


@pytest.mark.parametrize("kind", range(4))
def test_no_name_becomes_markup(kind):
    text = str(list(drawn(NASTY))[kind])
    root = fromstring(text)
    assert root.get("aria-label") == NASTY
    assert NASTY in [element.text for element in root.iter("text")]
    assert {element.tag for element in root.iter()} <= {"svg", "text", "line", "path", "circle"}


@pytest.mark.parametrize("kind", range(4))
def test_everything_lies_in_the_picture(kind):
    root = fromstring(str(list(drawn("landmark"))[kind]))
    _, _, width, height = map(float, root.get("viewBox").split())
    for element in root.iter():
        for names, limit in ((("x", "x1", "x2", "cx"), width), (("y", "y1", "y2", "cy"), height)):
            for name in names:
                assert 0 <= float(element.get(name, 0)) <= limit


def test_a_value_that_is_not_known_is_a_gap():
    text = str(charts.line_chart("t", [Line("a", [1, 2, 3, 4], [1, 2, NAN, 4])], x_label="x", y_label="y"))
    (path,) = re.findall(r'd="([^"]+)"', text)
    assert path.count("M") == 2
    assert path.count("L") == 1


def test_charts_of_nothing_known_do_not_fail():
    charts.line_chart("t", [Line("a", [1], [NAN])], x_label="x", y_label="y", log=True)
    charts.row_chart("t", [Interval("a", NAN, NAN, NAN, NAN)], x_label="x", value="v")
    charts.dot_chart("t", [Dot("a", 0.0, 0.0)], x_label="x", y_label="y", slopes=[(1, "one")])


@given(st.floats(1e-3, 1e3), st.floats(1.2, 1e4), st.booleans())
def test_ticks_are_few_in_order_and_within_the_axis(low, factor, log):
    axis = Axis(low, low * factor, 0, 100, log)
    ticks = axis.ticks()
    assert ticks == sorted(set(ticks))
    assert 1 <= len(ticks) <= 9
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in ticks)


@given(st.lists(st.floats(0, 200), max_size=12))
def test_labels_keep_their_distance_and_order_where_they_fit(places):
    moved = spread(places, 12, 0, 200)
    assert sorted(range(len(places)), key=lambda i: (places[i], i)) == sorted(range(len(moved)), key=lambda i: moved[i])
    assert all(b - a >= 12 - 1e-6 for a, b in zip(sorted(moved), sorted(moved)[1:], strict=False))
    assert all(-1e-6 <= place <= 200 + 1e-6 for place in moved)


@pytest.mark.parametrize(("value", "text"), [(0.0015, "1.5e-3"), (0.001, "1e-3"), (0, "0"), (20, "20"), (0.25, "0.25")])
def test_a_tick_is_short(value, text):
    assert short(value) == text
