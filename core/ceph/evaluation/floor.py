"""How much of an error is the readers': own errors from three distances, bias and scatter, limits of agreement, ICC.

Films F, landmarks K, points in mm [F, K, 2]; NaN where a point is not known. docs/statistics.md has method and sources.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.truth import MEAN
from ceph.data.types import Sample

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DISPUTED_MM = 4.0  # readers further apart do not mean one point, or one of them slipped
FEWEST = 6  # films without which nothing is said of a landmark
RESAMPLES = 1999
LIMITS = 1.96  # of a normal law, 95 % lie within so many standard deviations
ASSUMED = "the errors of model and readers, habits apart, are independent of each other"


@dataclass(frozen=True, eq=False)
class OwnErrors:
    """Own errors [3, K] of three that mark the same films, RMS in mm with each one's habits out, and 95 % intervals.

    `clipped`: the estimate is below zero, so taken as 0. `pooled_*` [3] are of all landmarks, each counting alike.
    Landmarks that fewer than six films show are NaN.
    """

    rms_mm: Floats
    low_mm: Floats
    high_mm: Floats
    clipped: NDArray[np.bool_]
    pooled_mm: Floats
    pooled_low_mm: Floats
    pooled_high_mm: Floats


def three_cornered_hat(three_mm: Floats, units: Integers, *, seed: int = 0, resamples: int = RESAMPLES) -> OwnErrors:
    """The own error of each of three, `three_mm` [3, F, K, 2], from how far each two are apart (Gray & Allan 1974).

    Where errors are independent, the variance of a distance is the sum of two own ones, so that three distances give
    three own variances. The mean offset of each landmark, a habit, is taken out. Films of equal `units` [F] are one
    piece of evidence; intervals are percentiles over resampled units.
    """
    pairs = ((0, 1), (0, 2), (1, 2))
    known = np.asarray(~np.isnan(three_mm).any(axis=(0, 3)))  # [F, K]
    apart = np.stack([np.where(known[..., None], three_mm[a] - three_mm[b], 0.0) for a, b in pairs])
    count = int(units.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    weights = np.concatenate([np.ones((1, count)), draws])[:, units]  # [1 + resamples, F], the first as they are
    films = weights @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.einsum("bf,pfk->pbk", weights, (apart**2).sum(axis=-1))
        sums = np.einsum("bf,pfkx->pbkx", weights, apart)
        variance = (squares - (sums**2).sum(axis=-1) / films) / (films - 1)  # [pair, B, K], of both axes together
    variance[:, :, known.sum(axis=0) < FEWEST] = np.nan
    variance[~np.isfinite(variance)] = np.nan
    ab, ac, bc = variance
    own = np.stack([ab + ac - bc, ab + bc - ac, ac + bc - ab]) / 2  # [3, B, K]
    pooled = _mean(own, axis=2)
    low, high = _percentiles(own)
    pooled_low, pooled_high = _percentiles(pooled)
    return OwnErrors(_root(own[:, 0]), low, high, own[:, 0] < 0, _root(pooled[:, 0]), pooled_low, pooled_high)


@dataclass(frozen=True, eq=False)
class Agreement:
    """How points agree with others, by landmark, along x and y.

    `bias_mm` [K, 2] is their mean difference, `scatter_mm` [K] the RMS distance about it; `limits_mm` [K, 2, 2] (low,
    high) hold 95 % of the differences (Bland & Altman 1986), `icc` [K, 2] is ICC(2,1), absolute agreement of single
    marks; `n` [K] films.
    """

    bias_mm: Floats
    scatter_mm: Floats
    limits_mm: Floats
    icc: Floats
    n: Integers


def agreement(points_mm: Floats, others_mm: Floats) -> Agreement:
    """Points [F, K, 2] less others; a landmark with fewer than two films is NaN."""
    both = np.stack([points_mm, others_mm])
    both[:, np.isnan(both).any(axis=(0, 3))] = np.nan
    landmarks = both.shape[2]
    bias, sd, icc = np.full((3, landmarks, 2), np.nan)
    n = (~np.isnan(both[0, ..., 0])).sum(axis=0)
    for k in np.flatnonzero(n > 1):
        marks = both[:, ~np.isnan(both[0, :, k, 0]), k]  # [2, n, 2]
        apart = marks[0] - marks[1]
        bias[k], sd[k] = apart.mean(axis=0), apart.std(axis=0, ddof=1)
        icc[k] = [intraclass_correlation(marks[..., axis].T) for axis in (0, 1)]
    limits = np.stack([bias - LIMITS * sd, bias + LIMITS * sd], axis=-1)
    return Agreement(bias, np.sqrt((sd**2).sum(axis=-1)), limits, icc, n)


def intraclass_correlation(marks: Floats) -> float:
    """ICC(2,1) of `marks` [n targets, R raters] (Shrout & Fleiss 1979): random raters, absolute agreement, one mark."""
    n, raters = marks.shape
    mean, rows, columns = marks.mean(), marks.mean(axis=1), marks.mean(axis=0)
    targets = raters * ((rows - mean) ** 2).sum() / (n - 1)
    judges = n * ((columns - mean) ** 2).sum() / (raters - 1)
    error = ((marks - rows[:, None] - columns + mean) ** 2).sum() / ((n - 1) * (raters - 1))
    whole = targets + (raters - 1) * error + raters * (judges - error) / n
    return float((targets - error) / whole) if whole > 0 else float("nan")


def floor_figures(
    points_px: Floats,
    truth_px: Floats,
    samples: Sequence[Sample | None],
    landmarks: Sequence[str],
    readers: Sequence[str],
    truth: str,
    units: Integers,
) -> dict[str, Any]:
    """`agreement` of points [F, K, 2] in film px with their truth, and `floor`, where two readers marked the films.

    `samples` [F] have these landmarks (None: not to be found). Plain values for JSON, None for what is not known.
    """
    mm = np.array([np.nan if sample is None else sample.mm_per_px for sample in samples])[:, None, None]
    found_mm, truth_mm = points_px * mm, truth_px * mm
    agreed = agreement(found_mm, truth_mm)
    figures: dict[str, Any] = {"agreement": _by_landmark(agreed, landmarks)}
    pair = two_readers(samples)
    if pair is None:
        return figures
    ones = np.full((2, *points_px.shape), np.nan)
    for f, sample in enumerate(samples):
        if sample is not None:
            ones[:, f] = np.where(sample.own[list(pair), :, None], sample.points[list(pair)] * sample.mm_per_px, np.nan)
    figures["floor"] = _floor(found_mm, truth_mm, ones, agreed, landmarks, [readers[r] for r in pair], truth, units)
    return figures


def two_readers(samples: Sequence[Sample | None]) -> tuple[int, int] | None:
    """The two readers who marked most points both, each by himself; None where fewer than two marked any."""
    own = [sample.own for sample in samples if sample is not None]
    count = {
        (a, b): sum(int((marked[a] & marked[b]).sum()) for marked in own)
        for a, b in itertools.combinations(range(len(own[0]) if own else 0), 2)
    }
    return max(count, key=lambda pair: count[pair]) if any(count.values()) else None


def _floor(
    found_mm: Floats,
    truth_mm: Floats,
    readers_mm: Floats,
    agreed: Agreement,
    landmarks: Sequence[str],
    names: Sequence[str],
    truth: str,
    units: Integers,
) -> dict[str, Any]:
    own, between = three_cornered_hat(np.stack([found_mm, *readers_mm]), units), agreement(*readers_mm)
    distance = readers_mm[0] - readers_mm[1]
    apart_mm, habits_out_mm = np.linalg.norm(distance, axis=-1), np.linalg.norm(distance - between.bias_mm, axis=-1)
    errors_mm = np.linalg.norm(found_mm - truth_mm, axis=-1)
    disputed = apart_mm > DISPUTED_MM
    of_truth = own.rms_mm[1 + list(names).index(truth)] if truth in names else between.scatter_mm / 2
    rows = {
        symbol: {
            **{who: _estimate(own, w, k) for w, who in enumerate(("model", "first", "second"))},
            "floor_rms_mm": _plain(of_truth[k]),
            "readers": row,
        }
        for k, (symbol, row) in enumerate(_by_landmark(between, landmarks).items())
    }
    known = np.isfinite(of_truth)
    return {
        "readers": list(names),
        "assumed": ASSUMED,
        "apart_mm": _plain(_mean(apart_mm)),
        "apart_without_habits_mm": _plain(_mean(habits_out_mm)),
        "floor_mre_mm": _plain(_mean(habits_out_mm) / 2) if truth == MEAN else None,
        "floor_rms_mm": _plain(np.sqrt(_mean(of_truth**2))),
        "scatter_rms_mm": _plain(np.sqrt(_mean(agreed.scatter_mm[known] ** 2))),
        "disputed_mm": DISPUTED_MM,
        "disputed": _mre(errors_mm[disputed]),
        "undisputed": _mre(errors_mm[~disputed]),
        "all": {who: _estimate(own, w, None) for w, who in enumerate(("model", "first", "second"))},
        "per_landmark": rows,
    }


def _by_landmark(found: Agreement, landmarks: Sequence[str]) -> dict[str, Any]:
    return {
        symbol: {
            "bias_mm": list(map(_plain, found.bias_mm[k])),
            "scatter_mm": _plain(found.scatter_mm[k]),
            "limits_95_mm": {axis: list(map(_plain, found.limits_mm[k, x])) for x, axis in enumerate("xy")},
            "icc": {axis: _plain(found.icc[k, x]) for x, axis in enumerate("xy")},
            "n": int(found.n[k]),
        }
        for k, symbol in enumerate(landmarks)
    }


def _estimate(own: OwnErrors, who: int, k: int | None) -> dict[str, Any]:
    rms, low, high = (
        (own.pooled_mm, own.pooled_low_mm, own.pooled_high_mm)
        if k is None
        else (own.rms_mm[:, k], own.low_mm[:, k], own.high_mm[:, k])
    )
    clipped = bool(own.clipped[who, k]) if k is not None else bool(rms[who] == 0)
    return {"rms_mm": _plain(rms[who]), "interval_95": [_plain(low[who]), _plain(high[who])], "clipped": clipped}


def _mre(errors_mm: Floats) -> dict[str, Any]:
    known = errors_mm[np.isfinite(errors_mm)]
    return {"mre_mm": float(known.mean()) if known.size else None, "n": int(known.size)}


def _percentiles(variances: Floats) -> tuple[Floats, Floats]:
    """The roots of the 2.5 and 97.5 % percentiles of own variances [3, B, ...] over all B but the first."""
    ends = np.full((2, len(variances), *variances.shape[2:]), np.nan)
    known = np.isfinite(variances[:, 0])
    resampled = np.moveaxis(variances[:, 1:], 1, 0)  # [B, 3, ...]
    ends[:, known] = np.nanquantile(resampled[:, known], (0.025, 0.975), axis=0) if known.any() else 0
    return _root(ends[0]), _root(ends[1])


def _root(variance: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(variance, 0)))


def _mean(values: Floats, axis: int | None = None) -> Any:
    """The mean over what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[()]


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
