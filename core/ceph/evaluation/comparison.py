"""What one config changes against another: paired differences of the errors of their runs, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ceph.errors import DataError
from ceph.evaluation.scores import Floats, Group, Integers, Scores
from ceph.evaluation.statistics import Estimate, estimate, holm

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
    """What `other` changes against `baseline`; `pairs` are the seeds that were subtracted, (baseline's, other's).

    `landmarks` are sorted, the largest gain first, their p-values adjusted together, as are those of `sdr`.
    """

    baseline: str
    other: str
    split: str
    films: int
    units: int
    pairs: tuple[tuple[int, int], ...]
    mre: Difference
    sdr: tuple[Difference, ...]
    landmarks: tuple[Difference, ...]
    notes: tuple[str, ...]


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
    """What b changes against a: overall MRE, SDR, and the MRE of each landmark, paired by film and seed."""
    pairs = pair_seeds(a.seeds, b.seeds)
    errors = a.errors_mm[[i for i, _ in pairs]], b.errors_mm[[j for _, j in pairs]]
    known = ~np.isnan(errors[0][0])
    marked = known.sum(axis=1).astype(np.float64)  # [F], landmarks of each film
    if not marked.any():
        raise DataError(f"no film of {split or 'the split'} has a landmark with truth: there is nothing to compare")

    def row(name: str, values: Sequence[Floats], weights: Floats) -> Difference:
        """One figure from values [S, F] of both."""
        base, other = (float(np.average(v.mean(axis=0), weights=weights)) for v in values)
        found = estimate(values[1] - values[0], weights, units, seed=seed, level=LEVEL)
        return Difference(name, base, other, found, found.p, int((weights > 0).sum()))

    def of_films(name: str, values: Sequence[Floats]) -> Difference:
        """One figure from values [S, F, K] of both, every landmark of every film counting alike."""
        means = [np.where(known, v, 0).sum(axis=2) / np.maximum(marked, 1) for v in values]
        return row(name, means, marked)

    marks = [
        row(symbol, [np.where(known[:, k], e[:, :, k], 0) for e in errors], known[:, k].astype(np.float64))
        for k, symbol in enumerate(landmarks)
        if known[:, k].any()
    ]
    rates = [of_films(f"SDR {t}", [np.where(e <= t, 100.0, 0.0) for e in errors]) for t in THRESHOLDS_MM]
    return Comparison(
        baseline=a.name,
        other=b.name,
        split=split,
        films=int((marked > 0).sum()),
        units=len(np.unique(units[marked > 0])),
        pairs=tuple((a.seeds[i], b.seeds[j]) for i, j in pairs),
        mre=of_films("MRE", errors),
        sdr=tuple(_adjusted(rates)),
        landmarks=tuple(sorted(_adjusted(marks), key=lambda mark: mark.estimate.value)),
        notes=(*notes, *_seed_notes(a, b, pairs)),
    )


def _adjusted(rows: Sequence[Difference]) -> list[Difference]:
    """The same with p-values that hold for all of them together."""
    return [replace(row, p=p) for row, p in zip(rows, holm([row.p for row in rows]), strict=True)]


def pair_seeds(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    """Positions of the runs to subtract: equal seeds first, then the rest in order; one alone is left out."""
    same = [(a.index(seed), b.index(seed)) for seed in a if seed in b]
    rest_a = [i for i in range(len(a)) if i not in {i for i, _ in same}]
    rest_b = [j for j in range(len(b)) if j not in {j for _, j in same}]
    return same + list(zip(rest_a, rest_b, strict=False))


def _seed_notes(a: Group, b: Group, pairs: Sequence[tuple[int, int]]) -> list[str]:
    notes = []
    for group, used in ((a, {i for i, _ in pairs}), (b, {j for _, j in pairs})):
        spare = [str(seed) for i, seed in enumerate(group.seeds) if i not in used]
        if spare:
            notes.append(f"{group.name}: left out seed {' '.join(spare)}, which has no partner")
    if len(pairs) == 1:
        notes.append("one seed: the interval does not cover what another seed would do")
    return notes


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
