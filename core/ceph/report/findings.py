"""What a scored split shows beside its figures: the readers' disagreement, machines, intervals, the worst films."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.formats.base import picked
from ceph.data.types import Sample
from ceph.evaluation.floor import floor_figures
from ceph.evaluation.metrics import summarise
from ceph.evaluation.statistics import estimate_many, units_of
from ceph.report.record import Record
from ceph.runfolder import Predictions, mapping

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Films:
    """The films of the run's data set, by (split, id); `missing` says why there are none."""

    samples: Mapping[tuple[str, str], Sample] = field(default_factory=dict)
    readers: tuple[str, ...] = ()
    landmarks: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Readers:
    """How far readers are apart, [F, K] in mm, mean over their pairs; NaN where fewer than two marked the landmark.

    `from_truth_mm` is how far each of them is, on average, from the truth that the run was scored on.
    """

    apart_mm: Floats
    from_truth_mm: Floats


@dataclass(frozen=True, eq=False)
class Split:
    """A scored split with what is known of its films; `samples` are None where a film is not to be found."""

    name: str
    scored: Predictions
    truth: str
    figures: Mapping[str, Any]
    interval_mm: tuple[float, float]  # 95 % of the MRE over films, as evaluation found it; NaN where it did not
    samples: tuple[Sample | None, ...]
    readers: Readers | None
    radius: Mapping[str, Any]  # how often the truth lay within its radius, where that is known
    agreement: Mapping[str, Any]  # with the truth, and the readers' part of the errors (`floor_figures`)
    measured: Mapping[str, Any]  # `measurements`, as evaluation found them; empty where it did not
    intervals_mm: Floats  # [K, 2], 95 % over films; NaN where there are too few
    machines: tuple[tuple[str, Mapping[str, Any]], ...]  # name and figures, most films first

    @property
    def film_mm(self) -> Floats:
        """The mean error [F] of each film; NaN for one without truth."""
        return np.asarray(mean_of(self.scored.errors_mm, axis=1))

    @property
    def order(self) -> list[int]:
        """The films that have truth, the worst first."""
        film_mm = self.film_mm
        return [int(i) for i in np.argsort(-film_mm, kind="stable") if np.isfinite(film_mm[i])]


def find_splits(record: Record, films: Films) -> list[Split]:
    """The scored splits of a run, each joined with the films that it was scored on."""
    return [_joined(record, name, scored, films) for name, scored in record.splits.items()]


def _joined(record: Record, name: str, scored: Predictions, films: Films) -> Split:
    truth = record.setting("data", "truth")
    samples = tuple(films.samples.get((name, film)) for film in scored.ids)
    known = len(films.landmarks) and set(scored.landmarks) <= set(films.landmarks)
    columns = [films.landmarks.index(symbol) for symbol in scored.landmarks] if known else []
    own = [None if sample is None or not known else picked(sample, columns) for sample in samples]
    of = scored.points_px, scored.truth_px, own, scored.landmarks
    return Split(
        name,
        scored,
        truth,
        {**summarise(scored.errors_mm, scored.landmarks, truth), "presence": mapping(record.figures, name, "presence")},
        _interval(mapping(record.figures, name, "interval_95")),
        samples,
        reader_distances(scored, samples, columns) if known else None,
        mapping(record.figures, name, "radius"),
        floor_figures(*of, films.readers, truth, _units(samples)) if known else {},
        {"measurements": mapping(record.figures, name, "measurements")},
        landmark_intervals(scored.errors_mm, samples),
        tuple(by_machine(scored, samples, truth)),
    )


def _interval(intervals: Mapping[str, Any]) -> tuple[float, float]:
    found = intervals.get("mre_mm")
    known = isinstance(found, list) and len(found) == 2 and all(isinstance(v, float) for v in found)
    return (found[0], found[1]) if found and known else (math.nan, math.nan)


def reader_distances(scored: Predictions, samples: Sequence[Sample | None], columns: Sequence[int]) -> Readers | None:
    """How far the readers of each film are apart; None where no film has two of them. `columns` [K] of the samples."""
    apart, from_truth = np.full_like(scored.errors_mm, np.nan), np.full_like(scored.errors_mm, np.nan)
    for f, sample in enumerate(samples):
        if sample is None or len(sample.points) < 2:
            continue
        points = np.where(sample.own[..., None], sample.points, np.nan)[:, columns] * sample.mm_per_px
        pairs = [np.linalg.norm(a - b, axis=-1) for a, b in itertools.combinations(points, 2)]
        apart[f] = mean_of(np.stack(pairs), axis=0)
        truth_mm = scored.truth_px[f] * sample.mm_per_px
        from_truth[f] = mean_of(np.linalg.norm(points - truth_mm, axis=-1), axis=0)
        from_truth[f][np.isnan(apart[f])] = np.nan
    return Readers(apart, from_truth) if np.isfinite(apart).any() else None


def landmark_intervals(errors_mm: Floats, samples: Sequence[Sample | None]) -> Floats:
    """95 % intervals [K, 2] of each landmark's MRE over films, those of one group being one piece of evidence."""
    units = _units(samples)
    found = np.full((errors_mm.shape[1], 2), np.nan)
    known = np.isfinite(errors_mm)
    patterns, pattern_of = np.unique(known, axis=1, return_inverse=True)
    for p in range(patterns.shape[1]):
        used, columns = patterns[:, p], np.flatnonzero(pattern_of.ravel() == p)
        if not used.any():
            continue
        values = np.where(used[:, None], errors_mm[:, columns], 0.0).T[:, None]
        estimates = estimate_many([np.ascontiguousarray(values)], used.astype(np.float64), units)
        found[columns] = [(max(e.low, 0.0), e.high) if np.isfinite(e.high) else (np.nan, np.nan) for e in estimates]
    return found


def _units(samples: Sequence[Sample | None]) -> NDArray[np.int64]:
    return units_of([{("film", f)} if s is None else {("group", s.group)} for f, s in enumerate(samples)])


def landmark_rows(split: Split) -> list[dict[str, Any]]:
    """A row for each landmark, the worst first; NaN for what is not known."""
    apart = mean_of(split.readers.apart_mm, axis=0) if split.readers else np.full(len(split.scored.landmarks), np.nan)
    rows = []
    for k, symbol in enumerate(split.scored.landmarks):
        figures = split.figures["per_landmark"][symbol]
        mre = math.nan if figures["mre_mm"] is None else figures["mre_mm"]
        low, high = split.intervals_mm[k].tolist()
        rows.append({**figures, "symbol": symbol, "mre_mm": mre, "interval": (low, high), "apart_mm": float(apart[k])})
    return sorted(rows, key=lambda row: -row["mre_mm"] if math.isfinite(row["mre_mm"]) else math.inf)


def by_machine(
    scored: Predictions, samples: Sequence[Sample | None], truth: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """The figures of the films of each machine; empty where the set names none."""
    names = ["" if sample is None else sample.machine for sample in samples]
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for name in sorted(set(names) - {""}, key=lambda n: (-names.count(n), n)):
        chosen = np.array([n == name for n in names])
        rows.append((name, summarise(scored.errors_mm[chosen], scored.landmarks, truth)))
    return rows


def mean_of(values: Floats, axis: int | None = None) -> Any:
    """The mean over what is known along `axis`; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[()]


def cumulative(errors_mm: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The errors in order, and the percent of them that is no larger: the curve of the radial error."""
    known = np.sort(errors_mm[np.isfinite(errors_mm)])
    return known, 100 * np.arange(1, len(known) + 1) / max(len(known), 1)
