"""Which predicted points to look at first: those with a score that is low for their landmark."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph import runfolder
from ceph.errors import CephError
from ceph.report.predictions import FilmPoints

LOW = 0.5  # of a landmark's usual score
LEAST = 0.01  # whatever is usual: a landmark that the run has not learned has no better
FEW = 5  # films, whose own scores say nothing of what is usual

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Doubts:
    """How many points of how many films are doubtful, and the worst of the films with their doubtful landmarks."""

    points: int
    films: int
    worst: tuple[tuple[FilmPoints, list[int]], ...]


def usual_scores(run: Path, landmarks: Sequence[str], found: Callable[[], Sequence[Floats]]) -> Floats | None:
    """Each landmark's median score [K] on the run's validation films; else that of `found()`, None for few films.

    How high a score is depends on the landmark and on the run, so a point is compared with its like. `found` gives the
    scores [K] of each film.
    """
    try:
        known = runfolder.read_predictions(run, "validation")
        return np.array([np.nanmedian(known.scores[:, known.landmarks.index(symbol)]) for symbol in landmarks])
    except (CephError, ValueError):  # never scored, or with other landmarks
        scores = found()
        return np.median(scores, axis=0) if len(scores) >= FEW else None


def doubtful(scores: Floats, usual: Floats | None) -> list[int]:
    """The landmarks of a film, by its `scores` [K], that are below half of the usual or nearly 0, the lowest first."""
    low = scores < (LEAST if usual is None else np.maximum(LOW * usual, LEAST))
    return [int(k) for k in np.argsort(scores, kind="stable") if low[k]]


def doubts_of(films: Iterable[FilmPoints], usual: Floats | None, most: int) -> Doubts:
    """What is doubtful on `films`, and the `most` worst: those with most doubtful points, then the lowest scores."""
    points = count = 0

    def each() -> Iterable[tuple[FilmPoints, list[int]]]:
        nonlocal points, count
        for film in films:
            if low := doubtful(film.scores, usual):
                points, count = points + len(low), count + 1
                yield film, low

    worst = heapq.nlargest(most, each(), key=lambda found: (len(found[1]), -float(found[0].scores[found[1]].sum())))
    return Doubts(points, count, tuple(worst))
