"""Points that a format allows but no film shows: fractions or percent for pixels, x and y swapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ceph.data.types import Points, Sample

SHOWN = 5
# A lateral film shows a head upright: each pair lies one below the other, whichever way the face looks. In the films
# of ISBI 2015, each read twice, none was further apart in x than 0.84 of its distance in y; N and Me: 0.33.
UPRIGHT = (
    *(("N", "Me"), ("N", "Gn"), ("S", "Me"), ("S", "Gn"), ("N", "Pog"), ("Or", "Me"), ("A", "Me")),
    *(("N", "A"), ("N", "B"), ("Or", "B"), ("S", "Go")),
)


def doubts(samples: Iterable[Sample], landmarks: Sequence[str], readers: Sequence[str]) -> list[str]:
    """What is doubtful, a line for each kind, naming the first films and readers; empty where all looks well."""
    found: dict[str, list[str]] = {}
    for sample in samples:
        for points, reader in zip(sample.points, readers, strict=True):
            for doubt in _doubts(points, sample.size, landmarks):
                found.setdefault(doubt, []).append(f"{sample.path} ({reader})")
    return [f"{doubt}: {_some(where)}" for doubt, where in found.items()]


def _doubts(points: Points, size: tuple[int, int], landmarks: Sequence[str]) -> Iterator[str]:
    """Doubts about one reader's points [K, 2] in film px on a film of `size` (H, W)."""
    known = points[~np.isnan(points).any(axis=-1)]
    if len(known) < 3:
        return
    top = float(known.max())
    if top <= 1:
        yield "all points lie within 0 to 1: they look like fractions of the film, where pixels are meant"
    elif top <= 100 and min(size) >= 400:
        yield "all points lie within 0 to 100: they look like percent of the film, where pixels are meant"
    elif _lies(points, landmarks):
        yield "the head lies on its side: x and y look swapped, or the film must be turned"


def _lies(points: Points, landmarks: Sequence[str]) -> bool:
    """Whether all pairs that should be upright, of those that are marked, lie one beside the other."""
    places = [(landmarks.index(a), landmarks.index(b)) for a, b in UPRIGHT if a in landmarks and b in landmarks]
    apart = np.array([np.abs(points[a] - points[b]) for a, b in places]).reshape(-1, 2)
    apart = apart[~np.isnan(apart).any(axis=-1)]
    return len(apart) > 0 and bool((apart[:, 0] > apart[:, 1]).all())


def _some(where: Sequence[str]) -> str:
    more = len(where) - SHOWN
    return ", ".join(where[:SHOWN]) + (f" and {more} more" if more > 0 else "")
