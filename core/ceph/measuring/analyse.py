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
from ceph.config.load import resolve
from ceph.data.names import guarded, shown
from ceph.data.types import Points
from ceph.errors import ConfigError, DataError, Problem
from ceph.measuring.formula import facing_right
from ceph.measuring.interval import Errors, errors_of, intervals
from ceph.measuring.points import PointSet, read_point_set
from ceph.measuring.table import Classes, Measurement, measurable, with_own
from ceph.run.assembly import make_hooks
from ceph.run.films import plain_truth, read_data
from ceph.run.predictions import find_films, predict_films, readers_of
from ceph.run.trained import load

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
    not_read: tuple[Problem, ...] = ()
    if runfolder.is_run(where):
        points, not_read = _found(where, [Path(film) for film in films], mm_per_px, settings)
        errors = where if errors is None else errors
    elif films:
        raise ConfigError(f"{where} is no run, which films need", key="FILM", hint="ceph analyse RUN FILM...")
    else:
        points = _true(where, mm_per_px, settings) if where.is_dir() else read_point_set(where).spaced(mm_per_px)
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


def _found(
    run: Path, films: Sequence[Path], mm_per_px: float | None, settings: Sequence[str]
) -> tuple[PointSet, tuple[Problem, ...]]:
    """What a run finds on films, and what is wrong with those that it cannot read."""
    if not films:
        hint = f"ceph analyse {run} ./films, or {run}/predictions-validation.csv --mm-per-px X"
        raise ConfigError("no film is given", key="FILM", hint=hint)
    trained = load(run, settings=settings)
    found = predict_films(trained, find_films(films, readers=readers_of(trained), mm_per_px=mm_per_px))
    problems = tuple(problem for _, error in found.broken for problem in error.problems)
    if not found.films:
        raise DataError(problems)
    points = np.stack([film.points_px for film in found.films])
    spacing = np.array([film.mm_per_px or math.nan for film in found.films])
    names = tuple(film.film for film in found.films)
    radii = [getattr(film, "radii_px", None) for film in found.films]
    radius = np.stack([np.full(len(points[f]), np.nan) if each is None else each for f, each in enumerate(radii)])
    return PointSet(names, trained.landmarks, points, spacing, radius), problems


def _true(folder: Path, mm_per_px: float | None, settings: Sequence[str]) -> PointSet:
    """The truth of a data set's marked films."""
    given = () if mm_per_px is None else (f"data.mm_per_px={mm_per_px}",)
    resolved = resolve(data=folder, settings=(*given, *settings), reading=True)
    data = read_data(resolved.config, make_hooks(resolved))
    truth = plain_truth(resolved.config, data)
    marked = [sample for sample in data.samples if sample.valid.any()]
    if not marked:
        raise DataError(f"{folder}: no film has a point")
    each = [truth(sample, 0)[:2] for sample in marked]
    points = np.stack([np.where(valid[:, None], xy, np.nan) for xy, valid in each])
    spacing = np.array([sample.mm_per_px for sample in marked])
    names = tuple(str(sample.path) for sample in marked)
    return PointSet(names, data.landmarks, points, spacing, np.full(points.shape[:2], np.nan))


def class_text(classes: Classes | None, value: float, low: float, high: float) -> str:
    """The class of a value, and the others that its interval reaches into: `class II or class I`."""
    if classes is None or not math.isfinite(value):
        return ""
    others = classes.between(low, high) if math.isfinite(low) and math.isfinite(high) else ()
    return " or ".join(dict.fromkeys((classes.of(value), *others)))


def _text(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else ""
