"""How far the readers of a set are apart, landmark by landmark; where much further than usual, or not at all."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ceph.data.check.findings import Finding, name
from ceph.data.copied import find_copied
from ceph.data.formats.base import DataSet
from ceph.data.types import Points

# Two readers this much further apart than by habit: one of them is more than 3 mm off, beyond what counts as a hit.
APART_MM = 6.0
GONE = np.full(2, np.nan)


@dataclass(frozen=True)
class Disagreement:
    """The distance of two readers at one landmark, in mm: median, 95th percentile, the largest and its film, `n` films.

    `habit` (x, y) is how far the first reader usually puts it from the second, right and down.
    """

    landmark: str
    readers: tuple[str, str]
    median_mm: float
    p95_mm: float
    largest_mm: float
    film: str
    habit_mm: tuple[float, float]
    n: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def find_copied_readings(data: DataSet) -> list[Finding]:
    """A warning for each landmark, and each film, whose readings by two readers are equal beyond chance."""
    found = []
    for copy in find_copied(data.samples)[0]:
        one, other = (data.readers[row] for row in copy.readers)
        sample = None if copy.film is None else data.samples[copy.film]
        symbol = "" if copy.landmark is None else data.landmarks[copy.landmark]
        of = "points" if sample else "films"
        what = f"{name(sample) if sample else symbol}: {one} and {other} have one and the same point in {copy.equal} of"
        then = "they count as one reader" if copy.wholly else "these are one reading each"
        found.append(
            Finding(
                "copied readings",
                "warning",
                f"{what} {copy.n} {of}: taken over, not marked anew; {then}",
                (sample.id,) if sample else (),
                (symbol,) if symbol else (),
            )
        )
    return found


def disagreement(data: DataSet) -> tuple[list[Disagreement], list[Finding]]:
    """A row for each landmark and pair of readers, and a finding for each film in which they are far apart.

    Copied readings are left out.
    """
    rows: list[Disagreement] = []
    found: list[tuple[float, Finding]] = []
    pairs = itertools.combinations(range(len(data.readers)), 2)
    for (a, b), k in itertools.product(pairs, range(len(data.landmarks))):
        apart: Points = np.stack(
            [(s.points[a, k] - s.points[b, k]) * s.mm_per_px if s.own[[a, b], k].all() else GONE for s in data.samples]
        )
        known = ~np.isnan(apart).any(axis=1)
        if not known.any():
            continue
        mm = np.linalg.norm(apart, axis=1)
        habit = np.median(apart[known], axis=0)
        largest = int(np.nanargmax(mm))
        who = (data.readers[a], data.readers[b])
        rows.append(
            Disagreement(
                data.landmarks[k],
                who,
                float(np.median(mm[known])),
                float(np.quantile(mm[known], 0.95)),
                float(mm[largest]),
                data.samples[largest].id,
                (float(habit[0]), float(habit[1])),
                int(known.sum()),
            )
        )
        unusual = np.linalg.norm(apart - habit, axis=1)
        for film in np.flatnonzero(known & (unusual > APART_MM)):
            sample, symbol = data.samples[film], data.landmarks[k]
            text = f"{name(sample)}: {symbol} of {who[0]} and {who[1]} are {mm[film]:.0f} mm apart"
            found.append(
                (-unusual[film], Finding("readers", "warning", text, (sample.id,), (symbol,), float(mm[film])))
            )
    return rows, [finding for _, finding in sorted(found, key=lambda pair: pair[0])]
