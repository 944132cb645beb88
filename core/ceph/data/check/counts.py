"""What a set holds: films by split, size, spacing and machine; what is missing, impossible, or stands twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ceph.data.check.findings import Finding, listed, name
from ceph.data.formats.base import DataSet
from ceph.data.plausible import head_doubts, impossible
from ceph.data.types import Sample, absent_in

NEEDED = ("train", "validation")  # splits without which nothing trains


def counts(data: DataSet) -> dict[str, Any]:
    """Films by split; and how many of each split, machine, size (H, W) and mm per pixel there are."""
    kinds = Counter((s.split, s.machine, s.size, round(s.mm_per_px, 6)) for s in data.samples)
    return {
        "films": len(data.samples),
        "splits": dict(Counter(s.split for s in data.samples)),
        "kinds": [
            {"split": split, "machine": machine, "size": list(size), "mm_per_px": mm, "films": n}
            for (split, machine, size, mm), n in kinds.items()
        ],
        "points": {
            reader: int(sum(sample.valid[row].sum() for sample in data.samples))
            for row, reader in enumerate(data.readers)
        },
        "absent": {
            symbol: int(n)
            for symbol, n in zip(data.landmarks, absent_in(data.samples, len(data.landmarks)).sum(0), strict=True)
            if n
        },
    }


def find_in_counts(data: DataSet, outside: Sequence[str]) -> list[Finding]:
    """Points that are missing or outside their film, a wrong spacing, groups and points that stand in several films."""
    found = [Finding("outside", "error", f"outside its film, and left out: {text}") for text in outside]
    found += [
        Finding("impossible", "error", f"{one.what} ({one.hint})") for one in impossible(data.samples, data.landmarks)
    ]
    found += [Finding("spacing", "error", text, mm=mm) for text, mm in head_doubts(data.samples, data.landmarks)]
    found += _joined(data.samples)
    found += _same_points(data.samples)
    for split in NEEDED:
        if not any(sample.split == split for sample in data.samples):
            found.append(
                Finding("split", "warning", f"there are no films of the split {split!r}: nothing trains without")
            )
    return found + list(_missing(data))


def _missing(data: DataSet) -> Iterable[Finding]:
    marked = np.stack([sample.valid.any(axis=0) for sample in data.samples])
    for film in np.flatnonzero(~marked.any(axis=1)):
        sample = data.samples[film]
        yield Finding("missing", "warning", f"{name(sample)}: no landmark is marked", (sample.id,))
    some, absent = marked.any(axis=1), absent_in(data.samples, len(data.landmarks))
    for k, symbol in enumerate(data.landmarks):
        if not marked[:, k].any():
            yield Finding("missing", "warning", f"{symbol} is marked in no film", (), (symbol,))
        elif without := [data.samples[film] for film in np.flatnonzero(some & ~marked[:, k] & ~absent[:, k])]:
            text = f"{symbol} is missing in {len(without)} films: {listed(without)}"
            yield Finding("missing", "warning", text, tuple(s.id for s in without), (symbol,))


def _joined(samples: Sequence[Sample]) -> list[Finding]:
    """Groups (patients) with films in several splits."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.group].append(sample)
    return [
        Finding(
            "group",
            "error",
            f"{listed(films)} are of one group, {group}, in several splits",
            tuple(s.id for s in films),
        )
        for group, films in groups.items()
        if len({sample.split for sample in films}) > 1
    ]


def _same_points(samples: Sequence[Sample]) -> list[Finding]:
    """Films whose points are equal, all of them, to the last digit."""
    same: dict[bytes, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.valid.any():
            same[sample.points.tobytes()].append(sample)
    return [
        Finding(
            "same points",
            "error",
            f"{listed(films)} have the same points: an annotation was copied, or a film",
            tuple(s.id for s in films),
        )
        for films in same.values()
        if len(films) > 1
    ]
