"""How hard a point is to find: how far its map spreads, how far it lies from its place on the film, and its score.

Legend: N films, K landmarks. Points and spreads are in mm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ceph.data.types import Points
from ceph.evaluation.offsets import mean_shape, turned, turns

Floats = NDArray[np.float64]

NOISE_MM = 1.0  # of a point that is in its place
FREE_MM = 100.0  # how far shift, turn and size may still go when one landmark is left out
COUNTS = 0.5  # of a mm from where the others put a point, against a mm of spread
LEAST_MM = 0.1
PARTS = 10  # a film is held against a shape of films of the other parts


class Shape(NamedTuple):
    """How heads are shaped: the mean [K, 2] in mm about 0 (NaN: never marked), the covariance [2 K, 2 K] about it."""

    mean: Points
    covariance: Floats

    def moved(self, offsets_mm: Points, frame: Points) -> Shape:
        """The shape of heads as another place marks them: offsets [K, 2] in mm, as they lie on `frame` [K, 2]."""
        return Shape(self.mean + turned(offsets_mm[None], turns(frame[None], self.mean))[0], self.covariance)

    def apart_mm(self, points_mm: Points) -> Floats:
        """How far points [N, K, 2] are from where the others of their film put them, [N, K]; 0 where nothing is known.

        The others' word is the conditional mean of a normal law of shapes with noise, free to be shifted, turned and
        scaled (read from the inverse of its covariance).
        """
        known = ~np.isnan(self.mean[:, 0])
        apart = np.zeros(points_mm.shape[:2])
        if known.sum() < 3 or not len(points_mm):
            return apart
        mean, points, both = self.mean[known], points_mm[:, known], np.repeat(known, 2)
        count, turn = len(mean), turns(points, mean)
        off = _flat(turned(points - points.mean(axis=1, keepdims=True), turn) - (mean - mean.mean(axis=0)))
        z = (mean - mean.mean(axis=0)) @ (1, 1j)
        free = np.stack([_flat(np.stack([mode.real, mode.imag], -1)) for mode in (0 * z + 1, 0 * z + 1j, z, 1j * z)])
        free *= FREE_MM * np.sqrt(count) / np.linalg.norm(free, axis=1, keepdims=True)
        noise = NOISE_MM**2 * np.eye(2 * count)
        precision = np.linalg.inv(self.covariance[np.ix_(both, both)] + noise + free.T @ free)
        blocks = precision.reshape(count, 2, count, 2)[np.arange(count), :, np.arange(count)]
        rest = np.einsum("kij,nkj->nki", np.linalg.inv(blocks), (off @ precision).reshape(-1, count, 2))
        apart[:, known] = np.linalg.norm(rest, axis=-1) / np.abs(turn)[:, None]
        return apart


def _flat(points: Points) -> Floats:
    """Points [..., K, 2] as x, y, x, y ... [..., 2 K]."""
    return points.reshape(*points.shape[:-2], -1)


def learn(truth_mm: Points) -> Shape:
    """The shape of heads by true points [N, K, 2], NaN where there is none; such a one lies as in the mean."""
    truth_mm = truth_mm[(~np.isnan(truth_mm[..., 0])).sum(axis=1) > 1]
    if not len(truth_mm):
        return Shape(np.full(truth_mm.shape[1:], np.nan), np.zeros((2 * truth_mm.shape[1],) * 2))
    mean = mean_shape(truth_mm)
    laid = turned(truth_mm, turns(truth_mm, mean))
    off = laid - np.nanmean(np.where(np.isnan(mean), np.nan, laid - mean), axis=1, keepdims=True) - mean
    off = _flat(np.nan_to_num(off))
    return Shape(mean, np.asarray(off.T @ off / len(off)))


def apart_mm(points_mm: Points, truth_mm: Points, units: NDArray[np.int64]) -> Floats:
    """`Shape.apart_mm` of each film by the truth of films of other `units` [N]: [N, K]."""
    apart, part = np.zeros(points_mm.shape[:2]), units % PARTS
    for number in np.unique(part):
        here = part == number
        apart[here] = learn(truth_mm[~here]).apart_mm(points_mm[here])
    return apart


def difficulty_px(points_px: Points, scores: Floats, spread_px: Floats, mm_per_px: Floats, shape: Shape) -> Floats:
    """Of points [N, K, 2] in px of their films, in px; where `mm_per_px` [N] is NaN a head is as large as usual."""
    mm = np.where(np.isnan(mm_per_px), np.abs(turns(points_px, shape.mean)), mm_per_px)[:, None]
    return difficulty(scores, spread_px * mm, shape.apart_mm(points_px * mm[..., None])) / mm


def difficulty(scores: Floats, spread_mm: Floats, off_mm: Floats) -> Floats:
    """In mm, by scores, the spread of the maps, how far points are from where the others put them; all of one shape.

    A point whose score is 0 is twice as hard as one whose score is 1.
    """
    found: Floats = (2 - scores.clip(0, 1)) * np.maximum(np.hypot(spread_mm, COUNTS * off_mm), LEAST_MM)
    return found
