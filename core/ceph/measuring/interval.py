"""How far off a measurement may be: the film's points, moved as a run's points were off on films it had not seen.

Each film with known errors stands for one thing that may have happened: all its errors at once, so that landmarks which
err together do so here. What is measured on the moved points is sorted, and the ends of the interval are read off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph.data.formats.spelling import place_of
from ceph.data.formats.splits import OUT_OF_FOLD
from ceph.data.types import Points
from ceph.measuring.formula import facing_right
from ceph.runfolder import predicted_splits, read_predictions

Floats = NDArray[np.float64]
Measure = Callable[[Points], Floats]  # points [..., K, 2], looking to the right -> values [...]

LEVEL = 0.9
DRAWS, SEED = 400, 0  # where there are radii, and no run
RAYLEIGH = math.sqrt(-2 * math.log(1 - LEVEL))  # standard deviations along an axis, within which 90 % of points lie
AT_ONCE = 1_000_000  # points that are held


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors [E, K, 2], found less true, of faces to the right, in sizes of the head (`size_of`); NaN unknown.

    `usual` [K] is the radius that holds LEVEL of a landmark's errors, in the same unit.
    """

    offsets: Points
    usual: Floats


def size_of(points: Points) -> Floats:
    """The size of heads [...] by their points [..., K, 2]: root mean square distance from the points' mean."""
    known = np.isfinite(points)
    count = np.maximum(known.sum(axis=-2, keepdims=True), 1)
    centred = points - np.where(known, points, 0).sum(axis=-2, keepdims=True) / count
    return np.asarray(np.sqrt((np.where(known, centred, 0) ** 2).sum(axis=(-2, -1)) / count[..., 0, 0]))


def errors_from(found_px: Points, true_px: Points, landmarks: Sequence[str]) -> Errors:
    """The errors of points [E, K, 2] in px of each film, against their truth."""
    found, true = facing_right(found_px, landmarks), facing_right(true_px, landmarks)
    offsets = (found - true) / size_of(found)[:, None, None]
    lengths = np.sort(np.hypot(offsets[..., 0], offsets[..., 1]), axis=0)  # NaN last
    count = np.isfinite(lengths).sum(axis=0)
    last = np.clip(np.ceil(LEVEL * (count + 1)).astype(int) - 1, 0, np.maximum(count - 1, 0))
    usual = np.take_along_axis(lengths, last[None], axis=0)[0] if len(lengths) else np.full(len(landmarks), np.nan)
    return Errors(offsets, usual)


def errors_of(run: Path, landmarks: Sequence[str]) -> Errors | None:
    """The errors of a run on films that it had not seen: out of fold, else of validation; None where it has none.

    Landmarks are in the order of `landmarks`; those that the run lacks are NaN. Raises DataError.
    """
    splits = predicted_splits(run)
    split = next((name for name in (OUT_OF_FOLD, "validation") if name in splits), None)
    if split is None:
        return None
    kept = read_predictions(run, split)
    at = [place_of(name, kept.landmarks) for name in landmarks]
    found, true = np.full((2, len(kept.ids), len(landmarks), 2), np.nan)
    for k, place in enumerate(at):
        if place is not None:
            found[:, k], true[:, k] = kept.points_px[:, place], kept.truth_px[:, place]
    return errors_from(found, true, landmarks)


def moved(points: Points, radius: Floats, errors: Errors | None) -> Points:
    """Where the points [F, K, 2] of films may truly be: [F, E, K, 2], in their unit; NaN where that is not known.

    With `errors` each film is moved by all of these, at its own size; where a point has a `radius` [F, K], by so much
    more or less as that is more or less than usual. Without, points with a radius are drawn around where they are,
    independently of each other.
    """
    if errors is None:
        draws = np.random.default_rng(SEED).standard_normal((DRAWS, *points.shape[1:]))
        return np.asarray(points[:, None] - draws * (radius / RAYLEIGH)[:, None, :, None])
    size = size_of(np.where(np.isfinite(errors.usual)[:, None], points, np.nan))[:, None]  # as that of the errors
    with np.errstate(invalid="ignore", divide="ignore"):
        share = radius / (errors.usual * size)
    share = np.where(np.isfinite(share), share, 1.0)
    return np.asarray(points[:, None] - errors.offsets * (share * size)[:, None, :, None])


def intervals(
    measures: Sequence[Measure], points: Points, radius: Floats, errors: Errors | None, level: float = LEVEL
) -> tuple[Floats, Floats]:
    """The ends [F, M] of the intervals in which `level` of the true values of each measure lie; NaN where not known.

    With too few errors to say (19, for 90 %) there is none.
    """
    low, high = np.full((2, len(points), len(measures)), np.nan)
    count = DRAWS if errors is None else len(errors.offsets)
    step = max(1, AT_ONCE // max(1, count * points.shape[1]))
    for begin in range(0, len(points) if count else 0, step):
        part = slice(begin, begin + step)
        there = moved(points[part], radius[part], errors)
        for m, measure in enumerate(measures):
            low[part, m], high[part, m] = ends(measure(there), level)
    return low, high


def ends(values: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """The ends [F] of the middle of values [F, E] that one more value falls into with probability `level`."""
    ranked = np.sort(values, axis=-1)  # NaN last
    count = np.isfinite(ranked).sum(axis=-1)
    outside = np.floor((count + 1) * (1 - level) / 2 + 1e-9).astype(int)  # of the lowest, and of the highest
    few = outside < 1
    at = np.stack([outside - 1, count - outside], axis=-1).clip(0, ranked.shape[-1] - 1)
    found = np.where(few[..., None], np.nan, np.take_along_axis(ranked, at, axis=-1))
    return found[..., 0], found[..., 1]
