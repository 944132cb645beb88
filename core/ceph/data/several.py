"""Several sets as one, and a set seen with a run's landmarks: columns are joined by name, equal films are one group."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ceph.data.formats.base import DataSet
from ceph.data.formats.records import ONE_READER
from ceph.data.images import read_film
from ceph.data.types import Flags, Sample
from ceph.data.unmarked import TESTS
from ceph.errors import ConfigError, DataError, Problem
from ceph.threads import in_threads

log = logging.getLogger("ceph")

SHOWN = 5  # films in two splits that are named


def on_landmarks(data: DataSet, landmarks: Sequence[str]) -> DataSet:
    """The set with these landmarks, in this order: not valid where it lacks one; warns of those on one side only.

    Raises ConfigError where set and `landmarks` share none.
    """
    lacks = [symbol for symbol in landmarks if symbol not in data.landmarks]
    if len(lacks) == len(landmarks):
        raise ConfigError(
            f"the run and this set share no landmark: the run knows {', '.join(landmarks)}; the set has "
            f"{', '.join(data.landmarks)}",
            key="data.landmarks",
            hint="evaluate on a set that has some of the run's landmarks",
        )
    if lacks:
        log.warning("not scored, since the set does not have them: %s", ", ".join(lacks))
    if left := [symbol for symbol in data.landmarks if symbol not in landmarks]:
        log.warning("not scored, since the run does not know them: %s", ", ".join(left))
    samples = tuple(laid_out(s, data.readers, data.landmarks, data.readers, landmarks) for s in data.samples)
    return replace(data, landmarks=tuple(landmarks), samples=samples)


def laid_out(
    sample: Sample,
    readers: Sequence[str],
    landmarks: Sequence[str],
    all_readers: Sequence[str],
    all_landmarks: Sequence[str],
) -> Sample:
    """The sample, marked by `readers` with `landmarks`, on other lists of both: not valid where it lacks one."""
    points = np.full((len(all_readers), len(all_landmarks), 2), np.nan)
    rows = [(all_readers.index(reader), row) for row, reader in enumerate(readers)]
    columns = [(all_landmarks.index(symbol), k) for k, symbol in enumerate(landmarks) if symbol in all_landmarks]
    to, of = (np.ix_([r[side] for r in rows], [c[side] for c in columns]) for side in (0, 1))
    points[to] = sample.points[of]
    flags = np.zeros((3, *points.shape[:2]), dtype=bool)
    for laid, own in zip(flags, (sample.valid, sample.outside, sample.copied), strict=True):
        if own is not None:
            laid[to] = own[of]
    valid, outside, copied = flags
    absent: Flags | None = None
    if sample.absent is not None:
        absent = np.zeros(len(all_landmarks), dtype=bool)
        absent[to[1][0]] = sample.absent[of[1][0]]
    return replace(sample, points=points, valid=valid, outside=outside, copied=copied, absent=absent)


def join(sets: Mapping[str, DataSet]) -> DataSet:
    """The sets, by their names, as one: the union of their landmarks and of their readers, each in order.

    Films and groups are called `<set>-<name>`, a reader whom a set does not name bears the set's name. Films with equal
    pixels are of one group, over all sets. Raises DataError where a film of a test split of one set is in another split
    of another.
    """
    named = {
        name: replace(data, readers=tuple(name if reader == ONE_READER else reader for reader in data.readers))
        for name, data in sets.items()
    }
    landmarks = tuple(dict.fromkeys(symbol for data in named.values() for symbol in data.landmarks))
    readers = tuple(dict.fromkeys(reader for data in named.values() for reader in data.readers))
    samples = [
        replace(
            laid_out(sample, data.readers, data.landmarks, readers, landmarks),
            id=f"{name}-{sample.id}",
            group=f"{name}-{sample.group}",
            set=name,
        )
        for name, data in named.items()
        for sample in data.samples
    ]
    if len({sample.id for sample in samples}) < len(samples):
        raise DataError("films of two sets get one name", key="data.path", hint="call one of the sets otherwise")
    grouped = one_group(samples)
    _refuse_split_groups(grouped)
    return DataSet(landmarks, tuple(grouped), readers, "several")


def one_group(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, those of different sets with equal pixels in one group, and all others of their groups with them."""
    leader: dict[str, str] = {}

    def first(group: str) -> str:
        while group in leader:
            group = leader[group]
        return group

    for equal in equal_films(samples):
        for sample in equal[1:]:
            if (one := first(equal[0].group)) != (other := first(sample.group)):
                leader[other] = one
    return [replace(sample, group=first(sample.group)) for sample in samples]


def equal_films(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Films of several sets with equal pixels; only those that have their size in another set are decoded."""
    sizes: dict[tuple[int, int], set[str]] = defaultdict(set)
    for sample in samples:
        sizes[sample.size].add(sample.set)
    compared = [sample for sample in samples if len(sizes[sample.size]) > 1]
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample, pixels in zip(compared, in_threads(_pixels, compared), strict=True):
        found[pixels].append(sample)
    return (films for films in found.values() if len({sample.set for sample in films}) > 1)


def _pixels(sample: Sample) -> str:
    return hashlib.blake2b(np.ascontiguousarray(read_film(sample.path)).tobytes(), digest_size=16).hexdigest()


def _refuse_split_groups(samples: Sequence[Sample]) -> None:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.group].append(sample)
    pairs = [
        (test, other)
        for films in groups.values()
        for test in films
        if test.split in TESTS
        for other in films
        if other.set != test.set and other.split != test.split
    ]
    if pairs:
        hint = "take it out of one of the sets, or give both one split in data.films_table"
        raise DataError(
            [
                Problem(
                    f"{other.path}, in {other.split} of the set {other.set}, is of one group with {test.path}, in "
                    f"{test.split} of the set {test.set}",
                    "data.path",
                    hint=hint,
                )
                for test, other in pairs[:SHOWN]
            ]
        )
