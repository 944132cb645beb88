"""One truth out of several readers: their mean, or one of them; and how far they are apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ceph.data.types import Flags, Points, Sample
from ceph.errors import ConfigError, nearest

MEAN = "mean"


def reader_of(valid: Flags, truth: str, readers: Sequence[str]) -> NDArray[np.int64]:
    """Whose points `combine` gives, [K]: a row of `valid` [R, K], or -1 where they are a mean, or nobody's."""
    whose = np.where(valid.sum(axis=0) == 1, valid.argmax(axis=0), -1)
    return whose if truth == MEAN else np.where(valid[readers.index(truth)], readers.index(truth), -1)


def combine(points: Points, valid: Flags, truth: str, readers: Sequence[str]) -> tuple[Points, Flags]:
    """What counts as true in one film: points [K, 2] in film px (NaN where not valid) and valid [K].

    `points` [R, K, 2] and `valid` [R, K] are what R `readers` marked. `truth` is "mean" (over the readers that marked
    a landmark; valid where any did) or the name of a reader. Raises ConfigError for another name.
    """
    if truth == MEAN:
        count = valid.sum(axis=0)
        total = np.where(valid[..., None], points, 0.0).sum(axis=0)
        found = count > 0
        mean = np.where(found[:, None], total / np.maximum(count, 1)[:, None], np.nan)
        return mean, found
    if truth not in readers:
        raise ConfigError(f"no reader {truth!r} in this set", key="data.truth", hint=nearest(truth, [MEAN, *readers]))
    row = readers.index(truth)
    return np.where(valid[row][:, None], points[row], np.nan), valid[row].copy()


def reader_disagreement_mm(samples: Sequence[Sample], landmarks: int) -> NDArray[np.float64]:
    """The mean distance [K] in mm between two readers' own points, over films and pairs of readers; no copied ones.

    NaN for a landmark that no film has from two readers.
    """
    total, pairs = np.zeros(landmarks), np.zeros(landmarks)
    for sample in samples:
        for one, other in itertools.combinations(range(len(sample.points)), 2):
            both = sample.own[one] & sample.own[other]
            distance_mm = np.linalg.norm(sample.points[one] - sample.points[other], axis=-1) * sample.mm_per_px
            total += np.where(both, distance_mm, 0.0)
            pairs += both
    mean_mm = np.full(landmarks, np.nan)
    np.divide(total, pairs, out=mean_mm, where=pairs > 0)
    return mean_mm
