"""Which predicted points to look at first: those with a score that is low for their landmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph import runfolder
from ceph.errors import CephError

LOW = 0.5  # of a landmark's usual score
LEAST = 0.01  # whatever is usual: a landmark that the run has not learned has no better
FEW = 5  # films, whose own scores say nothing of what is usual

Floats = NDArray[np.float64]


def usual_scores(run: Path, landmarks: Sequence[str], found: Floats) -> Floats | None:
    """Each landmark's median score [K] on the run's validation films; else that of `found` [N, K], None for few films.

    How high a score is depends on the landmark and on the run, so a point is compared with its like.
    """
    try:
        known = runfolder.read_predictions(run, "validation")
        return np.array([np.nanmedian(known.scores[:, known.landmarks.index(symbol)]) for symbol in landmarks])
    except (CephError, ValueError):  # never scored, or with other landmarks
        return np.median(found, axis=0) if len(found) >= FEW else None


def doubtful(scores: Floats, usual: Floats | None) -> list[int]:
    """The landmarks of a film, by its `scores` [K], that are below half of the usual or nearly 0, the lowest first."""
    low = scores < (LEAST if usual is None else np.maximum(LOW * usual, LEAST))
    return [int(k) for k in np.argsort(scores, kind="stable") if low[k]]
