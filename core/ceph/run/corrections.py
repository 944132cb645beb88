"""How many of a model's points people moved, and how far: what share of the marking it saves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.config.load import resolve_run
from ceph.data.formats.base import DataSet, settle
from ceph.data.formats.points import on_films, read_points
from ceph.data.formats.records import CORRECTED, PREDICTED
from ceph.data.names import shown
from ceph.data.truth import MEAN, combine
from ceph.data.types import Points
from ceph.errors import ConfigError
from ceph.evaluation.metrics import film_intervals
from ceph.evaluation.statistics import units_of
from ceph.run.films import read_data
from ceph.run.trained import Trained, load

LEFT_PX = 0.5  # a point that is no further from where it was predicted was left as it was
WITHIN_MM = (0.5, 1.0, 2.0)


def corrections(
    run: Path | str,
    folder: Path | str,
    *,
    predictions: Path | str | None = None,
    settings: Sequence[str] = (),
    without: Sequence[str] = (),
) -> dict[str, Any]:
    """What people did to the points of `run` on the films of the set in `folder`.

    Their points are those of the reader that `settings` name (`data.truth=NAME`), else of `corrected`, else the mean of
    all. The run's are those in the table `predictions` (CSV), else found anew, with the spacings of the set. Returns
    `films`, `untouched_films`, `points`, `left_percent` (no further than half a pixel), `within_mm_percent`, `moved`
    (`points`, `mean_mm`, `median_mm`, `max_mm`), `removed` (points that people have not), `interval_95` over films,
    and the same `per_landmark`. Raises ConfigError, DataError.
    """
    trained = load(run, settings=settings, without=without)
    resolved = resolve_run(trained.folder, data=Path(folder), settings=settings, imports="none")
    data = read_data(resolved.config, trained.hooks, Path(folder), shared=trained.landmarks)
    if data.readers == (PREDICTED,):
        raise ConfigError(f"nobody has seen the points in {folder}: they are as they were predicted", key="FOLDER")
    told = any(setting.partition("=")[0] == "data.truth" for setting in settings)
    reader = resolved.config.data.truth if told else CORRECTED if CORRECTED in data.readers else MEAN
    by_hand = np.stack([combine(s.points, s.valid, reader, data.readers)[0] for s in data.samples])
    found = _predicted(trained, data, Path(predictions) if predictions else None)
    theirs, ours = (np.asarray(np.isfinite(points).all(axis=-1)) for points in (by_hand, found))
    seen = np.asarray(theirs.any(axis=1) & ours.any(axis=1))
    if not seen.any():
        raise ConfigError(f"no film in {folder} has both points of the run and points of people", key="FOLDER")
    samples = [sample for sample, one in zip(data.samples, seen, strict=True) if one]
    moved_px = np.linalg.norm(by_hand[seen] - found[seen], axis=-1)
    moved_mm = moved_px * np.array([sample.mm_per_px for sample in samples])[:, None]
    removed = np.asarray(ours & ~theirs)[seen]
    columns = {symbol: np.s_[:, [k]] for k, symbol in enumerate(data.landmarks)}
    known = np.isfinite(moved_px)
    return {
        "reader": reader,
        "films": len(samples),
        "untouched_films": int((~(moved_px > LEFT_PX) & ~removed).all(axis=1).sum()),
        **_figures(moved_px, moved_mm, removed),
        "interval_95": _intervals(moved_px, moved_mm, units_of([{shown(s.group)} for s in samples])),
        "per_landmark": {
            symbol: _figures(moved_px[own], moved_mm[own], removed[own])
            for symbol, own in columns.items()
            if known[own].any() or removed[own].any()
        },
    }


def _predicted(trained: Trained, data: DataSet, table: Path | None) -> Points:
    """The run's points [N, K, 2] on the films of the set, NaN where there are none, or off the film."""
    if table is None:
        points = trained.predict([s.path for s in data.samples], [s.mm_per_px for s in data.samples])[0]
        return np.stack([settle(found, s.size)[0] for found, s in zip(points, data.samples, strict=True)])
    laid = on_films(read_points(table), data.samples, data.landmarks, refuse_outside=False)
    places = {sample.id: n for n, sample in enumerate(data.samples)}
    found = np.full((len(data.samples), len(data.landmarks), 2), np.nan)
    columns = [data.landmarks.index(symbol) for symbol in laid.landmarks]
    found[np.ix_([places[sample.id] for sample in laid.samples], columns)] = laid.points_px
    return found


def _figures(moved_px: Points, moved_mm: Points, removed: NDArray[np.bool_]) -> dict[str, Any]:
    known = np.isfinite(moved_px)
    px, mm = moved_px[known], moved_mm[known]
    far = mm[px > LEFT_PX]
    moved: dict[str, float] = {"points": len(far)}
    if len(far):
        moved |= {"mean_mm": float(far.mean()), "median_mm": float(np.median(far)), "max_mm": float(far.max())}
    return {
        "points": len(px),
        "left_percent": float(100 * (px <= LEFT_PX).mean()) if len(px) else None,
        "within_mm_percent": {str(t): float(100 * (mm <= t).mean()) if len(mm) else None for t in WITHIN_MM},
        "moved": moved,
        "removed": int(removed.sum()),
    }


def _intervals(moved_px: Points, moved_mm: Points, units: NDArray[np.int64]) -> dict[str, Any]:
    """95 % intervals over films; `{}` for few of them."""
    rates = [np.where(moved_px <= LEFT_PX, 100.0, 0.0), *(np.where(moved_mm <= t, 100.0, 0.0) for t in WITHIN_MM)]
    if not (found := film_intervals(rates, np.isfinite(moved_px), units)):
        return {}
    left, *within = found
    return {
        "left_percent": left,
        "within_mm_percent": {f"{t}": pair for t, pair in zip(WITHIN_MM, within, strict=True)},
    }
