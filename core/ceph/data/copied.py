"""Readings that one reader took over from another: equal beyond chance, they are no second opinion.

Two people who mark a landmark by themselves now and then hit the same pixel, more often the larger it is. Where they do
so far more often, on a landmark over films or on a film over landmarks, one began with the points of the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ceph.data.formats.base import DataSet
from ceph.data.types import Flags, Sample

EQUAL_PX = 0.01
# The standard deviation, along an axis, of the distance of two people who agree better than any have been seen to: on
# ISBI 2015 it is 0.7 mm at the sharpest landmarks (LIT, Gn), so that chance is overstated.
CLOSEST_MM = 0.3
DOUBT = 1e-3  # the chance that independent readings of a set are called copied anywhere
WHOLLY = 0.8  # from this share on, what differs was moved from a copy, too


@dataclass(frozen=True)
class Copied:
    """Of two `readers` (rows of a Sample's points): on which landmark or film, by its place, how many of `n` are equal.

    `wholly`: none of the second one's readings there count as readings; else only those that differ do.
    """

    readers: tuple[int, int]
    landmark: int | None
    film: int | None
    equal: int
    n: int

    @property
    def wholly(self) -> bool:
        """Whether nearly all of the readings are equal."""
        return self.equal >= WHOLLY * self.n


def with_copies(data: DataSet) -> DataSet:
    """`data` whose samples say which of their readings are copied (`Sample.copied`); as it is where none are."""
    copies, flags = find_copied(data.samples)
    if not copies:
        return data
    return replace(data, samples=tuple(replace(s, copied=f) for s, f in zip(data.samples, flags, strict=True)))


def find_copied(samples: Sequence[Sample]) -> tuple[list[Copied], Flags]:
    """What is copied beyond chance, landmarks before films; and flags [N, R, K] of the later readers' copies."""
    if not samples:
        return [], np.zeros((0, 0, 0), dtype=bool)
    points = np.stack([np.where(s.valid[..., None], s.points, np.nan) for s in samples])
    flags, found = np.zeros(points.shape[:3], dtype=bool), []
    chance = np.array([equal_by_chance(s.mm_per_px) for s in samples])
    for a, b in itertools.combinations(range(points.shape[1]), 2):
        apart = np.linalg.norm(points[:, a] - points[:, b], axis=-1)
        equal = apart <= EQUAL_PX
        for by_film in (False, True):  # a film is judged by what is left when the copied landmarks are out
            both = ~np.isnan(apart) & ~flags[:, a] & ~flags[:, b]
            for place in range(both.shape[not by_film]):
                where = (place, slice(None)) if by_film else (slice(None), place)
                known, of = both[where], int((both & equal)[where].sum())
                p = float(np.broadcast_to(chance[:, None], both.shape)[where][known].mean()) if of else 0.0
                if beyond_chance(of, int(known.sum()), p, DOUBT / sum(both.shape)):
                    at = {"landmark": None, "film": place} if by_film else {"landmark": place, "film": None}
                    found.append(copy := Copied((a, b), **at, equal=of, n=int(known.sum())))
                    flags[:, b][where] |= known & (equal[where] | copy.wholly)
    return found, flags


def equal_by_chance(mm_per_px: float) -> float:
    """The chance that two readers, `CLOSEST_MM` apart along each axis, hit one pixel."""
    return math.erf(mm_per_px / 2 / CLOSEST_MM / math.sqrt(2)) ** 2


def beyond_chance(equal: int, n: int, p: float, doubt: float) -> bool:
    """Whether `equal` of `n`, each by chance `p`, are less likely than `doubt` (by Chernoff's bound, so surely)."""
    share = equal / n if n else 0.0
    if not 0 < p < 1 or share <= p:
        return False
    rest = (1 - share) * math.log((1 - share) / (1 - p)) if share < 1 else 0.0
    return n * (share * math.log(share / p) + rest) > -math.log(doubt)
