"""Points to measure: what a run finds on films, and the truth of a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ceph.config.load import resolve
from ceph.errors import ConfigError, DataError, Problem
from ceph.measuring.points import PointSet
from ceph.run.assembly import make_hooks
from ceph.run.films import plain_truth, read_data
from ceph.run.predictions import find_films, predict_films, readers_of
from ceph.run.trained import load


def found_points(
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
    radii = [film.radii_px for film in found.films]
    radius = np.stack([np.full(len(points[f]), np.nan) if each is None else each for f, each in enumerate(radii)])
    return PointSet(names, trained.landmarks, points, spacing, radius), problems


def true_points(folder: Path, mm_per_px: float | None, settings: Sequence[str]) -> PointSet:
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
