"""How far measurements on found points are off those on the readers' points, and how far the readers are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.types import Points, Sample
from ceph.evaluation.floor import two_readers
from ceph.measuring.formula import facing_right
from ceph.measuring.table import Classes, Measurement, built_in, measurable

Floats = NDArray[np.float64]

EIGHT = 8  # measurements have classes of the ISBI 2015 challenge


def measurement_figures(
    points_px: Points,
    truth_px: Points,
    samples: Sequence[Sample | None],
    landmarks: Sequence[str],
    readers: Sequence[str],
) -> dict[str, Any]:
    """`measurements` of points [F, K, 2] in film px beside those of their truth (NaN: none), as plain values for JSON.

    `samples` [F] have these landmarks (None: not to be found). Empty where the landmarks allow none.
    """
    table = measurable(built_in(), landmarks)
    mm = np.array([np.nan if sample is None else sample.mm_per_px for sample in samples])
    pair = two_readers(samples)
    ones = np.full((2, *points_px.shape), np.nan)
    for f, sample in enumerate(samples):
        if sample is not None and pair is not None:
            ones[:, f] = np.where(sample.own[list(pair), :, None], sample.points[list(pair)], np.nan)
    four = facing_right(np.stack([points_px, truth_px, *ones]), landmarks)
    each = {}
    for one in table:
        values = one.formula.of(four, landmarks) * (mm if one.unit == "mm" else 1.0)
        if np.isfinite(values[0] - values[1]).any():
            each[one.name] = _figures(one, values)
    if not each:
        return {}
    eight = [row["challenge"] for row in each.values() if "challenge" in row]
    found: dict[str, Any] = {"readers": None if pair is None else [readers[r] for r in pair], "each": each}
    if len(eight) == EIGHT:
        found["challenge"] = {who: _mean([row[who] for row in eight]) for who in ("same_percent", "readers_percent")}
    return {"measurements": found}


def _figures(one: Measurement, values: Floats) -> dict[str, Any]:
    """The figures of a measurement, of its values [4, F]: found, true, and each of two readers'."""
    found, true, first, second = values
    off, apart = (found - true)[np.isfinite(found - true)], (first - second)[np.isfinite(first - second)]
    figures = {
        "unit": one.unit,
        "n": len(off),
        "mean_abs_error": float(np.abs(off).mean()),
        "bias": float(off.mean()),
        "readers_apart": float(np.abs(apart).mean()) if len(apart) else None,
    }
    for name, classes in (("classes", one.classes), ("challenge", one.challenge)):
        if classes is not None:
            pairs = {"same_percent": (found, true), "readers_percent": (first, second)}
            figures[name] = {who: _same(classes, *pair) for who, pair in pairs.items()}
    return figures


def _same(classes: Classes, a: Floats, b: Floats) -> float | None:
    """The percent of films in whose class two agree; None where no film has both values."""
    known = np.isfinite(a) & np.isfinite(b)
    return _mean([100.0 * (classes.of(x) == classes.of(y)) for x, y in zip(a[known], b[known], strict=True)])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
