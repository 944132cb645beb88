"""Name films whose points fit the picture of another film better: annotations that were exchanged between films.

The films themselves tell: around a landmark each looks like the others do there. No model of the shape can: points of
another patient are a head like any other, 9 to 26 mm from this one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ceph.data.check.findings import Finding, name
from ceph.data.check.looks import Look
from ceph.data.check.patches import FINE, describe
from ceph.data.formats.base import DataSet
from ceph.data.types import Sample
from ceph.threads import in_threads

Floats = NDArray[np.float64]

LEAST_FILMS = 8
# By how much more, as a mean correlation, points look like their landmarks on the other film. Of 100 films of ISBI 2015
# that were given another one's points, in sets of 8 to 60, all were named with the other; of 278 unchanged ones none.
GAIN = 0.05
LEAST_LOOK = 0.2  # below this the films of a set do not look like each other at their points: nothing can be told


def find_exchanged(data: DataSet, looks: Sequence[Look | None]) -> list[Finding]:
    """An error for each film whose points, by some reader, fit another film of the set better than their own."""
    pairs = zip(data.samples, looks, strict=True)
    films = [(sample, look) for sample, look in pairs if look is not None and sample.valid.any()]
    if len(films) < LEAST_FILMS:
        return []
    samples = [sample for sample, _ in films]
    marks = np.stack([sample.valid for sample in samples])  # [N, R, K]
    points_px = np.where(marks[..., None], np.stack([sample.points for sample in samples]), 0)

    def seen(film: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """How `film` looks at the points of the rows (film, reader) [M, 2]: unit vectors [M, K, F], 0 if not marked."""
        sample, look = films[film]
        there = marks[rows[:, 0], rows[:, 1]]
        places = (points_px[rows[:, 0], rows[:, 1]] + 0.5) * sample.mm_per_px
        features = describe(look, places.reshape(-1, 2), FINE).reshape(*there.shape, -1)
        return _unit(features - features.mean(axis=-1, keepdims=True)) * there[..., None]

    every = np.argwhere(marks.any(axis=-1))
    own = np.concatenate(in_threads(lambda n: seen(n, every[every[:, 0] == n]), range(len(films))))
    total = own.sum(axis=0)
    # What a landmark looks like on the other films; its own film does not speak for itself.
    usual = np.stack([_unit(total - own[every[:, 0] == n].sum(axis=0)) for n in range(len(films))])
    count = marks[every[:, 0], every[:, 1]].sum(axis=-1)
    fit = np.einsum("mkf,mkf->m", own, usual[every[:, 0]]) / count
    middle = float(np.median(fit))
    if middle < LEAST_LOOK:
        return []
    doubtful = np.flatnonzero(fit < middle - np.median(np.abs(fit - middle)))
    rows, looked_for = every[doubtful], usual[every[doubtful, 0]]
    fits = in_threads(lambda n: np.einsum("mkf,mkf->m", seen(n, rows), looked_for), range(len(films)))
    elsewhere = np.stack(fits, axis=-1) / count[doubtful, None]  # [M, N]
    findings: dict[tuple[int, int], list[int]] = {}
    for (film, reader), here, there in zip(rows.tolist(), fit[doubtful], elsewhere, strict=True):
        if (other := int(there.argmax())) != film and there[other] > max(here + GAIN, middle / 2):
            findings.setdefault((film, other), []).append(reader)
    return [_finding(data, samples[film], samples[other], who) for (film, other), who in findings.items()]


def _finding(data: DataSet, sample: Sample, other: Sample, readers: Sequence[int]) -> Finding:
    by = f" by {' and '.join(data.readers[r] for r in readers)}" if len(readers) < len(data.readers) else ""
    text = (
        f"{name(sample)}: its points{by} fit the film {name(other)} better than its own:"
        " whose they are must be found out"
    )
    return Finding("exchanged", "error", text, (sample.id, other.id))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors [..., F] at length 1; those of length 0 as they are."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(length, 1e-9)
    return unit
