"""Charts as inline SVG: coloured by the page's style sheet, told apart by dashes, marks and labels, all text escaped.

A chart is `WIDTH` units wide, about as many pixels as a telephone has, so that its text stays legible on one; on a
wide screen charts stand side by side.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from ceph.report.marks import Box, shared_areas

WIDTH = 380
LETTER = 6.1  # about the width of a letter
LINE = 12.0  # least distance of two labels
STYLES = 6  # dash patterns in the style sheet


class Figure(NamedTuple):
    """A chart with its heading and a sentence on how to read it."""

    title: str
    svg: Markup
    caption: str = ""


class Line(NamedTuple):
    """A line of a chart; values that are not finite are gaps. A `faint` one has no label."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False


class Interval(NamedTuple):
    """A row of a chart of rows: a value with its interval, and another to compare it with; NaN for none."""

    name: str
    value: float
    low: float
    high: float
    other: float


class Dot(NamedTuple):
    """A labelled point."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Axis:
    """From values `low` .. `high` to places `start` .. `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value, held within the axis."""
        value = min(max(value, self.low), self.high)
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the axis, at most about `most`."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for digits in ((1, 2, 5), (1, 3), (1,)):
                found = [d * 10.0**e for e in decades for d in digits if self.low <= d * 10.0**e <= self.high]
                if len(found) <= most + 1:
                    break
            if len(found) > 2:
                return found
        rough = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(s * unit for s in (1, 2, 5, 10) if s * unit >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    log: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    height: int = 230,
) -> Markup:
    """Lines labelled at their right end; `marks` are vertical lines at an x, with a label on top."""
    named = [line for line in lines if not line.faint]
    right = WIDTH - 10 - LETTER * max((len(line.name) for line in named), default=0)
    top = 34 if marks else 22
    x = Axis(*(x_range or bounds(v for line in lines for v in line.x)), 40, right)
    y = Axis(*(y_range or bounds((v for line in lines for v in line.y), log=log)), height - 34, top, log)
    parts = [*_grid_y(y, 40, right), *_ticks_x(x, height - 34), _label(WIDTH / 2 - 20, height - 4, x_label, "middle")]
    parts.append(_label(4, 11, y_label))
    gap = LETTER * max((len(text) for _, text in marks), default=0) + 9
    beside = spread([x(at) for at, _ in marks], gap, 40, WIDTH)
    for (at, text), place in zip(marks, beside, strict=True):
        parts.append(_straight(x(at), top - 6, x(at), height - 34, "mark"))
        parts.append(_label(place, top - 9, text, "middle"))
    ends: list[float] = []
    for i, line in enumerate(lines):
        style = "thin" if line.faint else f"s{i % STYLES}"
        parts.append(Markup('<path class="line {}" d="{}"/>').format(style, _path(line, x, y)))
        if not line.faint:
            ends.append(y(next((v for v in reversed(line.y) if math.isfinite(v)), y.low)))
    styles = [i % STYLES for i, line in enumerate(lines) if not line.faint]
    for place, line, number in zip(spread(ends, LINE, top, height - 34), named, styles, strict=True):
        parts.append(_label(right + 5, place + 4, line.name, kind=f"name t{number}"))
    return _svg(title, height, parts)


def row_chart(title: str, rows: Sequence[Interval], *, x_label: str, value: str, other: str = "") -> Markup:
    """One row a name: a dot with its interval, an open diamond for the other value; `value` and `other` name them."""
    left, right = 12 + LETTER * max(len(row.name) for row in rows), WIDTH - 40
    reach = max((v for row in rows for v in row[1:] if math.isfinite(v)), default=1.0)
    x = Axis(0, max(reach, 1e-3) * 1.05, left, right)
    top, step = 26, 16
    height = top + step * len(rows) + 34
    parts: list[Markup] = [_dot(left + 4, 10), _label(left + 12, 14, value)]
    if other:
        start = left + 30 + LETTER * len(value)
        parts += [_diamond(start, 10), _label(start + 9, 14, other)]
    for tick in x.ticks():
        parts.append(_straight(x(tick), top - 4, x(tick), height - 34, "grid"))
    parts += [*_ticks_x(x, height - 34), _label((left + right) / 2, height - 4, x_label, "middle")]
    for i, row in enumerate(rows):
        y = top + step * (i + 0.5)
        parts.append(_label(left - 6, y + 4, row.name, "end", kind="name"))
        if math.isfinite(row.low) and math.isfinite(row.high):
            parts.append(_straight(x(row.low), y, x(row.high), y, "range"))
        if math.isfinite(row.other):
            parts.append(_diamond(x(row.other), y))
        if math.isfinite(row.value):
            parts += [_dot(x(row.value), y), _label(WIDTH - 4, y + 4, f"{row.value:.2f}", "end")]
    return _svg(title, height, parts)


def dot_chart(
    title: str, dots: Sequence[Dot], *, x_label: str, y_label: str, slopes: Sequence[tuple[float, str]]
) -> Markup:
    """Labelled points above 0 on logarithmic axes; `slopes` are lines y = slope x, with a name each."""
    height, left, right, top = 310, 40, WIDTH - 10, 44
    (low_x, high_x), (low_y, high_y) = (bounds(v, log=True) for v in ([d.x for d in dots], [d.y for d in dots]))
    x = Axis(low_x / 1.1, high_x * 1.25, left, right, log=True)
    y = Axis(low_y / 1.1, high_y * 1.25, height - 34, top, log=True)
    parts = [*_grid_y(y, left, right), *_ticks_x(x, height - 34), _label(4, 11, y_label)]
    parts.append(_label((left + right) / 2, height - 4, x_label, "middle"))
    taken: list[Box] = [(x(d.x) - 4, y(d.y) - 4, x(d.x) + 4, y(d.y) + 4) for d in dots]
    legend = 4.0
    for i, (slope, text) in enumerate(slopes):
        parts += [_straight(legend, 28, legend + 26, 28, f"line s{i + 1}"), _label(legend + 31, 32, text)]
        legend += 46 + LETTER * len(text)
        ends = max(x.low, y.low / slope), min(x.high, y.high / slope)
        if ends[0] < ends[1]:
            parts.append(_straight(x(ends[0]), y(slope * ends[0]), x(ends[1]), y(slope * ends[1]), f"line s{i + 1}"))
    for dot in sorted(dots, key=lambda d: -d.y):
        parts.append(_dot(x(dot.x), y(dot.y)))
        box = _free(x(dot.x), y(dot.y), LETTER * len(dot.name), taken, (left, top, right, height - 34))
        taken.append(box)
        parts.append(_label(box[0], box[3] - 1, dot.name, kind="name"))
    return _svg(title, height, parts)


def share_chart(title: str, names: Sequence[str], shares: Sequence[Sequence[float]], *, x_label: str) -> Markup:
    """A row a name, a column a step of x (from 1): circles whose area is the share (0..1) that the name has there."""
    left, top, step = 16 + LETTER * max(map(len, names)), 8, 22
    height = top + step * len(names) + 34
    x = Axis(0.5, len(shares) + 0.5, left, WIDTH - 8)
    largest = max((share for column in shares for share in column), default=1) or 1
    radius = min(step / 2 - 1, 0.48 * (WIDTH - 8 - left) / len(shares))
    parts = [*_ticks_x(x, height - 34, whole=True), _label((left + WIDTH) / 2, height - 4, x_label, "middle")]
    for row, name in enumerate(names):
        y = top + step * (row + 0.5)
        parts += [_label(left - 8, y + 4, name, "end", kind="name"), _straight(left, y, WIDTH - 8, y, "grid")]
        for column, of_names in enumerate(shares):
            if of_names[row] > 0:
                parts.append(_dot(x(column + 1), y, radius * math.sqrt(of_names[row] / largest)))
    return _svg(title, height, parts)


def bounds(values: Iterable[float], *, log: bool = False) -> tuple[float, float]:
    """The least and the greatest of what is finite (and above 0 for `log`), a little apart."""
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    low, high = (min(known), max(known)) if known else (0.1, 1.0)
    if log:
        return low / 1.1, high * 1.1
    room = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return (low - room if low < 0 or low > room * 8 else 0.0), high + room


def short(value: float) -> str:
    """A tick's label: 0.0015 as 1.5e-3."""
    return re.sub(
        r"e([+-])0*", r"e\1", f"{value:.3g}" if not 0 < abs(value) < 0.01 else f"{value:.1e}".replace(".0e", "e")
    )


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places of labels, moved so that no two are nearer than `gap`, within `low` .. `high` where they fit."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    floor = low
    for i in order:
        moved[i] = floor = max(moved[i], floor)
        floor += gap
    ceiling = high
    for i in reversed(order):
        moved[i] = ceiling = min(moved[i], ceiling)
        ceiling -= gap
    return moved


def _free(x: float, y: float, width: float, taken: Sequence[Box], inside: Box) -> Box:
    """The box for a label beside the point (x, y) that overlaps least with those that are taken."""
    sides = [(x + 6, y - 5), (x - 6 - width, y - 5), (x - width / 2, y - 17), (x - width / 2, y + 7)]
    sides += [(x + 5, y - 14), (x + 5, y + 4), (x - 5 - width, y - 14), (x - 5 - width, y + 4)]
    boxes = [(a, b, a + width, b + 10) for a, b in sides]
    low, high = np.array(inside[:2]), np.array(inside[2:])
    outside = [(box[:2] < low).any() or (box[2:] > high).any() for box in np.array(boxes)]
    return boxes[int((shared_areas(boxes, taken).sum(axis=1) + np.multiply(outside, 1000)).argmin())]


def _path(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """The `d` of a path through the finite points."""
    parts, pen = [], "M"
    for a, b in zip(line.x, line.y, strict=True):
        if math.isfinite(b):
            parts.append(f"{pen}{x(a):g} {y(b):g}")
        pen = "L" if math.isfinite(b) else "M"
    return "".join(parts)


def _grid_y(y: Axis, left: float, right: float) -> list[Markup]:
    parts = []
    for tick in y.ticks():
        parts += [_straight(left, y(tick), right, y(tick), "grid"), _label(left - 5, y(tick) + 4, short(tick), "end")]
    return parts


def _ticks_x(x: Axis, bottom: float, *, whole: bool = False) -> list[Markup]:
    ticks = [tick for tick in x.ticks() if not whole or (tick >= 1 and tick == int(tick))]
    axis = [_straight(x.start, bottom, x.end, bottom, "axis")]
    return axis + [_label(x(tick), bottom + 14, short(tick), "middle") for tick in ticks]


def _straight(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:g}" y1="{:g}" x2="{:g}" y2="{:g}"/>').format(kind, x1, y1, x2, y2)


def _label(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _dot(x: float, y: float, radius: float = 3.2) -> Markup:
    return Markup('<circle class="dot" cx="{:g}" cy="{:g}" r="{:.2f}"/>').format(x, y, radius)


def _diamond(x: float, y: float) -> Markup:
    return Markup('<path class="open" d="M{:g} {:g}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/>').format(x, y - 4.5)


def _svg(title: str, height: float, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {:g}" role="img" aria-label="{}">').format(WIDTH, height, title)
    return head + Markup("").join(parts) + Markup("</svg>")
