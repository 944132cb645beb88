"""Measure films: points out of a file, what a run finds on films, or a data set's truth; with intervals and classes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph import runfolder
from ceph.data.names import guarded, shown
from ceph.data.types import Points
from ceph.errors import ConfigError, DataError, Problem
from ceph.measuring.formula import facing_right
from ceph.measuring.interval import Errors, errors_of, intervals
from ceph.measuring.points import PointSet, read_point_set
from ceph.measuring.table import Classes, Measurement, measurable, with_own

Floats = NDArray[np.float64]

COLUMNS = ("film", "measurement", "value", "unit", "low", "high", "norm", "sd", "class")
LENGTH = "mm"


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was measured: `values`, `low` and `high` [F, M], NaN where not known, and the points that were measured.

    `not_read` are films that could not be read, and why.
    """

    points: PointSet
    measurements: tuple[Measurement, ...]
    values: Floats
    low: Floats
    high: Floats
    not_read: tuple[Problem, ...] = ()

    @property
    def films(self) -> tuple[str, ...]:
        """The films, in the order of the values."""
        return self.points.films

    def value(self, film: str, measurement: str) -> float:
        """One value, such as `value("a.png", "ANB")`. Raises KeyError."""
        names = [one.name for one in self.measurements]
        if film not in self.films or measurement not in names:
            raise KeyError(f"{measurement} of {film}")
        return float(self.values[self.films.index(film), names.index(measurement)])

    def rows(self) -> list[list[str]]:
        """A row a film and measurement that is known, as in the table, in the order of COLUMNS."""
        rows = []
        for f, film in enumerate(self.films):
            for m, one in enumerate(self.measurements):
                value, low, high = self.values[f, m], self.low[f, m], self.high[f, m]
                if math.isfinite(value):
                    norms = ("" if one.norm is None else f"{one.norm:g}", "" if one.sd is None else f"{one.sd:g}")
                    numbers = (_text(value), one.unit, _text(low), _text(high), *norms)
                    named = class_text(one.classes, value, low, high)
                    rows.append([guarded(shown(film)), guarded(one.name), *numbers, named])
        return rows

    def csv(self) -> str:
        """The table, a line a film and measurement."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *self.rows()])
        return text.getvalue()


def analyse(
    source: Path | str,
    films: Sequence[Path | str] = (),
    *,
    mm_per_px: float | None = None,
    errors: Path | str | None = None,
    measurements: Path | str | None = None,
    settings: Sequence[str] = (),
) -> Analysis:
    """Measure the points in the file `source`, those that the run `source` finds on `films`, or a data set's truth.

    Intervals hold 90 %: by the errors of the run (or of the run `errors`, for points in a file) on films that it had
    not seen, else by the points' radii alone. Where a film's spacing is not known, `mm_per_px` gives it; else it has no
    lengths. `measurements` is a YAML file of further ones; `settings` are for a run or data set, as for `--set`. Raises
    ConfigError, and DataError where a file is malformed or no film can be read.
    """
    table, where = with_own(None if measurements is None else Path(measurements)), Path(source)
    where = runfolder.located(where) if films else where  # no films: `drawn` is a data set
    not_read: tuple[Problem, ...] = ()
    if runfolder.is_run(where):
        from ceph.measuring.found import found_points  # torch, which a table of points does not need

        points, not_read = found_points(where, [Path(film) for film in films], mm_per_px, settings)
        if errors is None and where not in runfolder.SHIPPED.values():  # whose errors on drawn films are no measure
            errors = where
    elif films:
        raise ConfigError(f"{where} is no run, which films need", key="FILM", hint="ceph analyse RUN FILM...")
    elif where.is_dir():
        from ceph.measuring.found import true_points

        points = true_points(where, mm_per_px, settings)
    else:
        points = read_point_set(where).spaced(mm_per_px)
    known = None
    if errors is not None:
        runfolder.require_run(Path(errors))
        known = errors_of(Path(errors), points.landmarks)
    return measured(points, table, known, not_read)


def measured(
    points: PointSet, table: Sequence[Measurement], errors: Errors | None = None, not_read: tuple[Problem, ...] = ()
) -> Analysis:
    """All of the table that these points allow."""
    landmarks, chosen = points.landmarks, measurable(table, points.landmarks)
    if not chosen:
        raise DataError(f"no measurement has all its landmarks among these: {', '.join(map(shown, landmarks[:12]))}")
    looking = facing_right(points.points_px, landmarks)
    scale = np.stack([points.mm_per_px if one.unit == LENGTH else np.ones(len(points.films)) for one in chosen], -1)
    values = np.stack([one.formula.of(looking, landmarks) for one in chosen], -1) * scale
    measures = [partial(_of, one, landmarks) for one in chosen]
    low, high = intervals(measures, looking, points.radius_px, errors)
    return Analysis(points, chosen, values, low * scale, high * scale, not_read)


def _of(one: Measurement, landmarks: Sequence[str], points: Points) -> Floats:
    return one.formula.of(points, landmarks)


def class_text(classes: Classes | None, value: float, low: float, high: float) -> str:
    """The class of a value, and the others that its interval reaches into: `class II or class I`."""
    if classes is None or not math.isfinite(value):
        return ""
    others = classes.between(low, high) if math.isfinite(low) and math.isfinite(high) else ()
    return " or ".join(dict.fromkeys((classes.of(value), *others)))


def _text(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else ""
