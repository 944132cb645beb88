"""How far the readers of a set are apart, landmark by landmark, and where much further than they usually are."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ceph.data.check.findings import Finding, name
from ceph.data.formats.base import DataSet
from ceph.data.types import Points

# Two readers this much further apart than by habit: one of them is more than 3 mm off, beyond what counts as a hit.
APART_MM = 6.0


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


def disagreement(data: DataSet) -> tuple[list[Disagreement], list[Finding]]:
    """A row for each landmark and pair of readers, and a finding for each film in which they are far apart."""
    rows: list[Disagreement] = []
    found: list[tuple[float, Finding]] = []
    pairs = itertools.combinations(range(len(data.readers)), 2)
    for (a, b), k in itertools.product(pairs, range(len(data.landmarks))):
        apart: Points = np.stack([(s.points[a, k] - s.points[b, k]) * s.mm_per_px for s in data.samples])
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
