"""Data sets for the tests of the check: heads without films, and faults planted in them and in the real films."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ceph.data.formats.base import DataSet
from ceph.data.synthetic.sets import LANDMARKS as ALL
from ceph.data.synthetic.sets import draw_shape
from ceph.data.types import Sample

MM = 0.25
LANDMARKS = tuple("A ANS B Me N Or Pog PNS S Ar Gn Go Po LIT UIT Pog`".split())  # noqa: SIM905 - 16 lines otherwise
COLUMNS = [ALL.index(symbol) for symbol in LANDMARKS]


def sample(film: str, points: np.ndarray, *, split: str = "train", group: str = "", path: str = "no.png") -> Sample:
    """A film without a file; `points` [R, K, 2] in px."""
    return Sample(
        id=film,
        split=split,
        group=group or film,
        machine="",
        size=(1200, 1000),
        mm_per_px=MM,
        points=points,
        valid=~np.isnan(points).any(axis=-1),
        path=Path(path),
    )


def heads(films: int = 120, *, readers: int = 2, seed: int = 0) -> DataSet:
    """Heads drawn from the shape table of the synthetic set, 0.25 mm per px, by readers who differ by 0.7 mm."""
    rng = np.random.default_rng(seed)
    samples = []
    for n in range(films):
        head = draw_shape(rng)[COLUMNS] + rng.normal(0, 5, 2) + (130, 150)
        marks = head + rng.normal(0, 0.5, (readers, len(LANDMARKS), 2))
        samples.append(sample(f"{n:03d}", marks / MM))
    return DataSet(LANDMARKS, tuple(samples), ("senior", "junior")[:readers], "drawn")


def changed(data: DataSet, points: dict[str, np.ndarray]) -> DataSet:
    """`data` with other points [R, K, 2] for the films named."""
    samples = (
        replace(s, points=points[s.id], valid=~np.isnan(points[s.id]).any(axis=-1)) if s.id in points else s
        for s in data.samples
    )
    return replace(data, samples=tuple(samples))


def displaced(data: DataSet, film: str, symbol: str, mm: tuple[float, float], readers: slice | int = slice(None)):
    """The points of `film` with one landmark moved by `mm` (right, down), for all readers or one."""
    it = next(s for s in data.samples if s.id == film)
    points = it.points.copy()
    points[readers, data.landmarks.index(symbol)] += np.array(mm) / it.mm_per_px
    return points


def swapped(data: DataSet, film: str, one: str, other: str, readers: tuple[int, ...] = (0, 1)):
    """The points of `film` with two landmarks exchanged."""
    points = next(s for s in data.samples if s.id == film).points.copy()
    a, b = data.landmarks.index(one), data.landmarks.index(other)
    for reader in readers:
        points[reader, [a, b]] = points[reader, [b, a]]
    return points
