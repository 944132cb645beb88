"""The grey levels of a film: which of its stored values are film, and how many of 256 levels it has left."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

BLOCK_PX = 4_000_000  # pixels that are counted at a time: counting takes eight bytes for each
# One value that holds a share of this, and four times the mean of all, is an area and no tissue: a border, a marker.
AREA = 0.01
# Of the others the middle 96 % are as wide as a film is, and the middle 99 % in it. Values further off than half its
# width, or behind an empty quarter of it, are no tail of a film's.
WIDE, IN, BEYOND, GAP = 0.02, 0.005, 0.5, 0.25
SPECK = 1e-4  # a level that holds less of a film is nothing to be seen
FEW_LEVELS = 64


def histogram(film: NDArray[Any], low: int, high: int) -> Counts:
    """How many pixels of a film of integers have each value from `low`, its least, to `high`, its greatest."""
    counts = np.zeros(high - low + 1, np.int64)
    pixels = film.reshape(-1)
    for start in range(0, pixels.size, BLOCK_PX):
        counts += np.bincount(pixels[start : start + BLOCK_PX].astype(np.int64) - low, minlength=len(counts))
    return counts


def own_range(counts: Counts) -> tuple[int, int]:
    """The first and the last value that belong to a film, as places in its histogram, of which one is above 0.

    These are its darkest and brightest pixel, unless borders, burned-in markers or hot and dead pixels lie far outside
    of what the rest has: then these are left out.
    """
    there = np.flatnonzero(counts)
    area = max(AREA, 4 / len(there)) * counts.sum()
    body = np.cumsum(np.where(counts[there] > area, 0, counts[there]))
    ends = np.array((IN, WIDE, 1 - WIDE, 1 - IN)) * body[-1]
    low, start, end, high = there[np.searchsorted(body, ends)]
    width = max(end - start, 1)
    kept = there[(there >= low - BEYOND * width) & (there <= high + BEYOND * width)]
    while kept[0] < low and kept[1] - kept[0] > GAP * width:
        kept = kept[1:]
    while kept[-1] > high and kept[-1] - kept[-2] > GAP * width:
        kept = kept[:-1]
    return int(kept[0]), int(kept[-1])


def levels_left(counts: NDArray[Any]) -> int:
    """How many of 256 grey levels a film shows, by its histogram [256]."""
    return int(np.count_nonzero(counts >= max(1, SPECK * counts.sum())))
