"""One truth out of several readers: their mean, or one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ceph.data.types import Flags, Points
from ceph.errors import ConfigError, nearest

MEAN = "mean"


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
