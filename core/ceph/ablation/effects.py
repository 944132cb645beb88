"""From the run folders of an ablation to its effects on a split: contrasts of cells, with intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph.ablation.costs import cost_of
from ceph.ablation.design import NONE, Contrast, Family, cell_plugins
from ceph.errors import ConfigError, DataError, nearest
from ceph.evaluation.scores import Scores, read_scores
from ceph.evaluation.statistics import estimate, holm, share_seeds
from ceph.report.ablation import CellRow, EffectRow, EffectTable, SplitReport
from ceph.runfolder import predictions_file

SDR_MM = 2.0
Errors = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A figure of a split, a mean over films and the landmarks `columns`: of errors, or of successes within 2 mm."""

    name: str
    columns: tuple[int, ...]
    unit: str = "mm"

    def of(self, errors_mm: Errors) -> tuple[Errors, Errors]:
        """Errors [S, F, K] in mm (NaN: no truth) as the mean of each film [S, F] and the points behind it [F].

        Raises DataError where no film has truth for these landmarks.
        """
        chosen = errors_mm[..., list(self.columns)]
        known = ~np.isnan(chosen)
        values = np.where(known, chosen, 0.0) if self.unit == "mm" else 100.0 * (known & (chosen <= SDR_MM))
        points = known.sum(-1)
        if not points.any():
            raise DataError(f"no film has truth for the {self.name}", hint="choose others: --landmarks A,B")
        return values.sum(-1) / np.maximum(points, 1), points[0].astype(np.float64)


def measures(landmarks: Sequence[str], hardest: Sequence[str]) -> tuple[Measure, Measure, Measure]:
    """Overall MRE and SDR within 2 mm, and the mean error of the hardest landmarks."""
    everything = tuple(range(len(landmarks)))
    columns = tuple(landmarks.index(symbol) for symbol in hardest)
    return (
        Measure("MRE", everything),
        Measure("SDR 2 mm", everything, "points"),
        Measure(f"mean error of the {len(hardest)} hardest", columns),
    )


def finished(out: Path, cell: str, seed: int, splits: Collection[str] = ("validation",)) -> bool:
    """Whether a run of a cell has been trained and scored on these splits."""
    return all(predictions_file(out / cell / f"s{seed}", split).is_file() for split in splits)


def read(out: Path, cells: Sequence[str], seeds: Sequence[int], split: str) -> Scores:
    """The errors of the cells, their seeds paired by number."""
    return read_scores([(cell, [out / cell / f"s{seed}" for seed in seeds]) for cell in cells], split)


def baseline(out: Path, cells: Sequence[str], seeds: Sequence[int]) -> str:
    """The cell that says which landmarks are hard: none where it is there, else that with the fewest plugins."""
    if all(finished(out, NONE, seed) for seed in seeds):
        return NONE
    return min(cells, key=lambda cell: (len(cell_plugins(cell)), cell))


def hardest_landmarks(
    out: Path, cells: Sequence[str], seeds: Sequence[int], count: int = 5, chosen: Sequence[str] = ()
) -> tuple[str, ...]:
    """The `count` landmarks with the largest validation error of the baseline cell, the worst first; or `chosen`.

    Test splits are not looked at. Raises ConfigError for a chosen landmark that the runs do not know.
    """
    scores = read(out, [baseline(out, cells, seeds)], seeds, "validation")
    unknown = [symbol for symbol in chosen if symbol not in scores.landmarks]
    if unknown:
        raise ConfigError(
            f"there is no landmark {unknown[0]!r}", key="--landmarks", hint=nearest(unknown[0], scores.landmarks)
        )
    if chosen:
        return tuple(chosen)
    errors = scores.groups[0].errors_mm
    known = ~np.isnan(errors)
    means = np.where(known, errors, 0.0).sum((0, 1)) / np.maximum(known.sum((0, 1)), 1)
    return tuple(scores.landmarks[k] for k in np.argsort(-means, kind="stable")[:count])


def split_report(
    out: Path,
    split: str,
    cells: Sequence[str],
    seeds: Sequence[int],
    families: Sequence[Family],
    hardest: Sequence[str],
    minutes: Mapping[str, float],
) -> SplitReport:
    """The cells and the effects on a split; `minutes` of each run as `cell/s0`."""
    scores = read(out, cells, seeds, split)
    figures = measures(scores.landmarks, hardest)
    rows = tuple(_cell_row(out, scores, cell, seeds, figures, minutes) for cell in cells)
    tables = tuple(effect_table(scores, family, figure) for family in families for figure in figures)
    units = len(np.unique(scores.units))
    return SplitReport(split, len(scores.ids), units, tuple(seeds), tuple(hardest), rows, tables, scores.notes)


def effect_table(scores: Scores, family: Family, measure: Measure) -> EffectTable:
    """A family's effects on one measure."""
    rows = _adjusted(effects(scores, family.contrasts, measure))
    return EffectTable(family.title, measure.name, measure.unit, rows, _scope(scores))


def landmark_table(scores: Scores, contrast: Contrast, landmarks: Sequence[str]) -> EffectTable:
    """The effect of a contrast with the cell none on the mean error of each of these landmarks."""
    rows = []
    for symbol in landmarks:
        measure = Measure(f"error of {symbol}", (scores.landmarks.index(symbol),))
        rows += [replace(row, label=symbol) for row in effects(scores, [contrast], measure)]
    return EffectTable(f"{contrast.label} against none", "mean error of each", "mm", _adjusted(rows), _scope(scores))


def effects(scores: Scores, contrasts: Sequence[Contrast], measure: Measure) -> list[EffectRow]:
    """Contrasts of cells, p not adjusted; percent are of the (weighted) mean of the cells that are subtracted."""
    found = {group.name: measure.of(group.errors_mm) for group in scores.groups}
    errors = {group.name: replace(measure, unit="mm").of(group.errors_mm)[0] for group in scores.groups}
    points = next(iter(found.values()))[1]
    rows = []
    for contrast in contrasts:
        terms = [weight * found[cell][0] for cell, weight in contrast.cells.items()]
        if share_seeds([weight * errors[cell] for cell, weight in contrast.cells.items()]):
            terms = [np.sum(terms, axis=0)]
        step = 0.0 if measure.unit == "mm" else 100 / points.sum() * max(map(abs, contrast.cells.values()))
        result = estimate(terms, points, scores.units, step=step)
        taken = {cell: -weight for cell, weight in contrast.cells.items() if weight < 0}
        start = sum(w * _mean_of(*found[cell]) for cell, w in taken.items()) / sum(taken.values())
        percent = 100 * result.value / start if measure.unit == "mm" and start > 0 else None
        rows.append(EffectRow(contrast.label, result.value, result.low, result.high, result.p, percent))
    return rows


def _scope(scores: Scores) -> str:
    return " on these films, one seed" if any(len(group.seeds) == 1 for group in scores.groups) else ""


def _adjusted(rows: Sequence[EffectRow]) -> tuple[EffectRow, ...]:
    """The rows with p-values adjusted for their number."""
    return tuple(replace(row, p=p) for row, p in zip(rows, holm([row.p for row in rows]), strict=True))


def _mean_of(values: Errors, points: Errors) -> float:
    """The mean over seeds and films of values [S, F], films weighted by their points [F]."""
    return float(np.average(values, axis=1, weights=points).mean())


def _cell_row(
    out: Path,
    scores: Scores,
    cell: str,
    seeds: Sequence[int],
    figures: Sequence[Measure],
    minutes: Mapping[str, float],
) -> CellRow:
    errors = next(group.errors_mm for group in scores.groups if group.name == cell)
    means = [_mean_of(*figure.of(errors)) for figure in figures]
    costs = [cost_of(out / cell / f"s{seed}", minutes.get(f"{cell}/s{seed}")) for seed in seeds]
    columns = zip(*((c.minutes, c.films, c.megapixels) for c in costs), strict=True)
    return CellRow(cell, len(seeds), *means, *(_mean(column) for column in columns))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
