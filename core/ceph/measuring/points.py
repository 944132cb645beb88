"""Points to measure: out of a table or JSON as `ceph predict` writes it, with the radius of each where it has one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph.data.files import read_text
from ceph.data.formats.locate import MAX_SET_BYTES
from ceph.data.formats.points import read_points
from ceph.data.formats.tables import Row
from ceph.data.spacing import plausible
from ceph.data.strict_json import Field, parse_json
from ceph.data.types import Points
from ceph.errors import ConfigError, DataError

Floats = NDArray[np.float64]
NOT_JSON = "give what `ceph predict --out points.json` writes, or a table (.csv)"


@dataclass(frozen=True, eq=False)
class PointSet:
    """Points [F, K, 2] in px of each film, mm of a px [F] and radii [F, K] in px; NaN where one is not known."""

    films: tuple[str, ...]
    landmarks: tuple[str, ...]
    points_px: Points
    mm_per_px: Floats
    radius_px: Floats

    def spaced(self, mm_per_px: float | None) -> PointSet:
        """The same with this spacing for all films. Raises ConfigError where it is no spacing of a film."""
        if mm_per_px is None:
            return self
        if not plausible(mm_per_px):
            raise ConfigError(f"{mm_per_px:g} is no spacing of a film", key="--mm-per-px")
        return replace(self, mm_per_px=np.full(len(self.films), float(mm_per_px)))


def read_point_set(file: Path) -> PointSet:
    """The points of a table (.csv and the like), or of a .json of `ceph predict`. Raises DataError."""
    if not file.is_file():
        raise DataError(f"there is no file {file}")
    return _from_json(file) if file.suffix.lower() == ".json" else _from_table(file)


def _laid(
    file: Path,
    marks: Mapping[str, Mapping[str, tuple[float, float]]],
    spacings: Mapping[str, float],
    radii: Mapping[tuple[str, str], float],
) -> PointSet:
    films, landmarks = tuple(marks), tuple(dict.fromkeys(symbol for points in marks.values() for symbol in points))
    if not landmarks:
        raise DataError(f"{file}: holds no points")
    missing = (math.nan, math.nan)
    points = np.array([[marks[film].get(symbol, missing) for symbol in landmarks] for film in films], dtype=np.float64)
    radius = np.array([[radii.get((film, symbol), math.nan) for symbol in landmarks] for film in films])
    return PointSet(films, landmarks, points, np.array([spacings.get(film, math.nan) for film in films]), radius)


def _from_table(file: Path) -> PointSet:
    table = read_points(file)
    by_film: dict[str, list[tuple[str, Row]]] = {film: [] for film in table.marks}
    for (film, symbol), row in table.rows.items():
        by_film[film].append((symbol, row))
    spacings = {film: _spacing(rows) for film, rows in by_film.items()}
    radii: dict[tuple[str, str], float] = {}
    for film, rows in by_film.items():
        for symbol, row in rows:
            if row.get("radius_px"):
                radii[film, symbol] = row.number("radius_px")
            elif row.get("radius_mm"):
                radii[film, symbol] = row.number("radius_mm") / spacings[film]
    return _laid(file, table.marks, spacings, radii)


def _spacing(rows: Sequence[tuple[str, Row]]) -> float:
    """The mm of a px that the rows of a film say: in a column, or by x and y in px and mm; NaN where they do not."""
    for _, row in rows:
        if (told := row.spacing("mm_per_px")) is not None:
            return told
    pairs = [
        (row.number(f"{axis}_mm"), row.number(f"{axis}_px"))
        for _, row in rows
        for axis in "xy"
        if row.get(f"{axis}_mm") and row.get(f"{axis}_px")
    ]
    far = max(pairs, key=lambda pair: abs(pair[1]), default=(math.nan, 1.0))  # it has the most digits
    return far[0] / far[1] if far[1] else math.nan


def _from_json(file: Path) -> PointSet:
    whole = Field(parse_json(read_text(file, limit=MAX_SET_BYTES), file), file)
    films = whole.get("films") if isinstance(whole.value, dict) else None
    if films is None:
        raise DataError(f"{file}: has no `films`", hint=NOT_JSON)
    marks: dict[str, dict[str, tuple[float, float]]] = {}
    spacings: dict[str, float] = {}
    radii: dict[tuple[str, str], float] = {}
    for film in films.items():
        name, points = film["film"].text(), film["points"]
        if name in marks:
            film.fail(f"the film {name} stands twice")
        if not isinstance(points.value, dict):
            points.fail("must be an object of points by symbol")
        spacings[name] = _number(film, "mm_per_px")
        marks[name] = {}
        for symbol in points.value:
            point = points[symbol]
            marks[name][symbol] = (point["x_px"].number(), point["y_px"].number())
            radius = _number(point, "radius_px")
            radii[name, symbol] = radius if math.isfinite(radius) else _number(point, "radius_mm") / spacings[name]
    return _laid(file, marks, spacings, radii)


def _number(field: Field, key: str) -> float:
    found = field.get(key)
    return math.nan if found is None or found.value is None else found.number()
