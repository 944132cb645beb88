"""What one config changes against another: differences of the errors of their runs, film by film, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ceph.errors import DataError
from ceph.evaluation.scores import Floats, Group, Integers, Scores
from ceph.evaluation.statistics import Estimate, estimate, holm, share_seeds

THRESHOLDS_MM = (2.0, 2.5, 3.0, 4.0)  # as in ceph.evaluation.metrics, which imports torch
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """One figure of the baseline and of another config, and `estimate` of other - baseline.

    `p` is adjusted for the figures that are looked at together; `n` counts films. MRE in mm, SDR in percent.
    """

    name: str
    baseline: float
    other: float
    estimate: Estimate
    p: float
    n: int

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero and the adjusted p-value is at most 5 %."""
        return not self.estimate.low <= 0 <= self.estimate.high and self.p <= 1 - LEVEL + 1e-12


@dataclass(frozen=True)
class Comparison:
    """What `other` changes against `baseline`; `seeds` are those of baseline and other.

    `landmarks` are sorted, the largest gain first, their p-values adjusted together, as are those of `sdr`.
    """

    baseline: str
    other: str
    split: str
    films: int
    units: int
    seeds: tuple[tuple[int | None, ...], tuple[int | None, ...]]
    mre: Difference
    sdr: tuple[Difference, ...]
    landmarks: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def one_seed(self) -> bool:
        """Whether nothing is known of the luck of a seed."""
        return min(map(len, self.seeds)) == 1


def compare(scores: Scores) -> list[Comparison]:
    """Each group but the first against the first."""
    first, *others = scores.groups
    return [
        differences(first, other, scores.units, scores.landmarks, split=scores.split, notes=scores.notes)
        for other in others
    ]


def differences(
    a: Group,
    b: Group,
    units: Integers,
    landmarks: Sequence[str],
    *,
    split: str = "",
    notes: Sequence[str] = (),
    seed: int = 0,
) -> Comparison:
    """What b changes against a: overall MRE, SDR, and the MRE of each landmark, film by film."""
    equal = set(a.seeds) == set(b.seeds)
    errors = a.errors_mm, b.errors_mm[[b.seeds.index(seed) for seed in a.seeds] if equal else slice(None)]
    known = ~np.isnan(errors[0][0])
    marked = known.sum(axis=1).astype(np.float64)  # [F], landmarks of each film
    if not marked.any():
        raise DataError(f"no film of {split or 'the split'} has a landmark with truth: there is nothing to compare")

    def of_films(values: Sequence[Floats]) -> list[Floats]:
        """Values [S, F, K] of both as means of each film, every landmark of every film counting alike."""
        return [np.where(known, v, 0).sum(axis=2) / np.maximum(marked, 1) for v in values]

    means = of_films(errors)
    paired = equal and share_seeds([-means[0], means[1]])

    def row(name: str, values: Sequence[Floats], weights: Floats = marked, step: float = 0.0) -> Difference:
        """One figure from values [S, F] of both."""
        base, other = (float(np.average(v.mean(axis=0), weights=weights)) for v in values)
        terms = [values[1] - values[0]] if paired else [-values[0], values[1]]
        found = estimate(terms, weights, units, step=step, seed=seed, level=LEVEL)
        return Difference(name, base, other, found, found.p, int((weights > 0).sum()))

    marks = [
        row(symbol, [np.where(known[:, k], e[:, :, k], 0) for e in errors], known[:, k].astype(np.float64))
        for k, symbol in enumerate(landmarks)
        if known[:, k].any()
    ]
    within = {f"SDR {t}": of_films([np.where(e <= t, 100.0, 0.0) for e in errors]) for t in THRESHOLDS_MM}
    rates = [row(name, values, step=100 / marked.sum()) for name, values in within.items()]
    own_notes = [] if not paired else ["runs of one seed go astray on the same films: they are subtracted in pairs"]
    own_notes += [
        f"{'one seed of' if group.seeds != (None,) else 'one table of points,'} {group.name}: "
        "the intervals do not cover what another seed would do"
        for group in (a, b)
        if len(group.seeds) == 1
    ]
    return Comparison(
        baseline=a.name,
        other=b.name,
        split=split,
        films=int((marked > 0).sum()),
        units=len(np.unique(units[marked > 0])),
        seeds=(a.seeds, b.seeds),
        mre=row("MRE", means),
        sdr=tuple(_adjusted(rates)),
        landmarks=tuple(sorted(_adjusted(marks), key=lambda mark: mark.estimate.value)),
        notes=(*notes, *own_notes),
    )


def _adjusted(rows: Sequence[Difference]) -> list[Difference]:
    """The same with p-values that hold for all of them together."""
    return [replace(row, p=p) for row, p in zip(rows, holm([row.p for row in rows]), strict=True)]


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """Everything of a comparison as plain values for JSON; an infinite end of an interval is None."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def row(difference: Difference) -> dict[str, Any]:
        return {**asdict(difference), "shown": difference.shown}

    whole = {
        **asdict(comparison),
        "mre": row(comparison.mre),
        "sdr": [row(d) for d in comparison.sdr],
        "landmarks": [row(d) for d in comparison.landmarks],
        "level": LEVEL,
    }
    return dict(plain(whole))
