"""One name for one landmark and one reader, however the files of a set spell it: blanks, case, quotes, full names."""

from __future__ import annotations

import logging
import reprlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ceph.data.formats.base import DataSet
from ceph.data.formats.symbols import SYMBOLS, UNSURE
from ceph.data.types import Flags, Sample
from ceph.errors import DataError, nearest

logger = logging.getLogger("ceph")

QUOTES = dict.fromkeys(map(ord, "'\u00b4\u2018\u2019\u02bc\u02b9\u2032\uff07"), "`")
Groups = list[tuple[str, list[int]]]  # a name, and the columns that are of it


def clean(name: str) -> str:
    """`name` without what nobody sees: blanks, tabs and no-break spaces around it, two in a row, control characters."""
    words = " ".join(name.split())
    return "".join(c for c in unicodedata.normalize("NFC", words) if unicodedata.category(c) not in ("Cc", "Cf"))


def key(name: str) -> str:
    """What names that mean the same have in common; a symbol's own for its full names (see `symbols`).

    The case of a single letter says what it means: n is a point of the skin to some, l6 the sixth of a list.
    """
    name = clean(name).translate(QUOTES)
    if name in UNSURE or sum(map(str.isalpha, name)) < 2:
        return name
    folded = _folded(name)
    return _SYMBOL_OF.get(folded, folded)


def _folded(name: str) -> str:
    """`name` without case, accents, blanks, hyphens and underscores, its quotes all of one kind."""
    plain = unicodedata.normalize("NFKD", name.translate(QUOTES)).casefold()
    return "".join(c for c in plain if not unicodedata.combining(c) and c not in " -_")


_SYMBOL_OF = {_folded(name): symbol for symbol, (_, names) in SYMBOLS.items() for name in (symbol, *names)}


def place_of(name: str, names: Sequence[str]) -> int | None:
    """Where `name` stands among `names`: as it is spelled, else the one that means the same; None where none or two."""
    if name in names:
        return names.index(name)
    alike = [place for place, other in enumerate(names) if key(other) == key(name)]
    return alike[0] if len(alike) == 1 else None


def index_of(symbol: str, landmarks: Sequence[str]) -> int:
    """`place_of`; ValueError saying so, with the nearest name, where there is none."""
    place = place_of(symbol, landmarks)
    if place is None:
        near = nearest(symbol, landmarks) if len(symbol) <= 40 else ""
        raise ValueError(f"unknown landmark {reprlib.repr(symbol)}{': ' if near else ''}{near}")
    return place


def unified(data: DataSet) -> DataSet:
    """`data` in which one landmark, and one reader, has one name: a known symbol, else the spelling used most.

    Names that `clean` makes equal are one. So are those that `key` makes equal, for readers without full names; but
    where most films that have any of these have several, each is a landmark of its own.
    Raises DataError where a name is empty, and naming a film where some have both spellings.
    """
    if not data.samples:
        return data
    marks = np.stack([sample.valid for sample in data.samples])  # [N, R, K]
    landmarks = _groups("landmark", data.landmarks, marks, data.samples, key)
    readers = _groups("reader", data.readers, marks.swapaxes(1, 2), data.samples, _folded)
    names, people = tuple(name for name, _ in landmarks), tuple(name for name, _ in readers)
    if (names, people) == (data.landmarks, data.readers):
        return data
    samples = tuple(_joined(sample, [ks for _, ks in landmarks], [rs for _, rs in readers]) for sample in data.samples)
    return replace(data, landmarks=names, readers=people, samples=samples)


def _groups(
    what: str, names: Sequence[str], marks: Flags, samples: Sequence[Sample], same: Callable[[str], str]
) -> Groups:
    """Which of the `names` are one; `marks` [N, M, n] are the films' valid points, the last axis by name."""
    groups: Groups = []
    for kept, columns in _by(names, clean).items():
        if not kept:
            film = int(marks[..., columns].any(axis=(1, 2)).argmax())
            raise DataError(f"{samples[film].path}: a {what} of this film has no name", hint=f"name every {what}")
        _refuse_both(what, [names[k] for k in columns], marks[..., columns], samples)
        groups.append((kept, columns))
    found: Groups = []
    for meaning, places in _by([name for name, _ in groups], same).items():
        members = [groups[place] for place in places]
        either = np.stack([marks[..., columns].any(axis=-1) for _, columns in members], axis=-1)
        if np.count_nonzero(either.sum(axis=-1) > 1) * 2 > np.count_nonzero(either.any(axis=-1)):
            found += members
            continue
        _refuse_both(what, [name for name, _ in members], either, samples)
        kept = members[int(either.sum(axis=(0, 1)).argmax())][0]
        if what == "landmark" and meaning in SYMBOLS:
            kept = meaning
        if others := [repr(name) for name, _ in members if name != kept]:
            level = logging.WARNING if len(members) > 1 else logging.INFO
            logger.log(level, "the %s %s is read as %s", what, " and ".join(others), kept)
        found.append((kept, [column for _, columns in members for column in columns]))
    return sorted(found, key=lambda group: min(group[1]))


def _by(names: Sequence[str], same: Callable[[str], str]) -> dict[str, list[int]]:
    """The places of the `names` by what those that are the same have in common."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        found.setdefault(same(name), []).append(place)
    return found


def _refuse_both(what: str, names: Sequence[str], marks: Flags, samples: Sequence[Sample]) -> None:
    """Raise DataError where a film has points under two of `names`, the last axis of `marks` [N, M, n]."""
    both = np.argwhere(marks.sum(axis=-1) > 1)
    if len(both):
        film, place = both[0]
        a, b = (names[k] for k in np.flatnonzero(marks[film, place])[:2])
        others = len({int(n) for n, _ in both}) - 1
        raise DataError(
            f"{samples[film].path}{f' (and {others} more films)' if others else ''}: has points of both"
            f" {a!r} and {b!r}, two spellings of one {what}",
            hint=f"keep one of them in the film's annotation, or give two {what}s names that differ by a letter",
        )


def _joined(sample: Sample, landmarks: Sequence[list[int]], readers: Sequence[list[int]]) -> Sample:
    """`sample` with the columns of each landmark as one, and the rows of each reader; at most one of them is valid."""
    points, valid, outside = np.where(sample.valid[..., None], sample.points, 0), sample.valid, sample.outside
    for axis, groups in ((1, landmarks), (0, readers)):
        points = np.stack([points.take(group, axis).sum(axis) for group in groups], axis)
        valid = np.stack([valid.take(group, axis).any(axis) for group in groups], axis)
        if outside is not None:
            outside = np.stack([outside.take(group, axis).any(axis) for group in groups], axis)
    absent = None
    if sample.absent is not None:  # of one spelling it may be said, and another be marked
        absent = np.array([sample.absent[group].any() for group in landmarks]) & ~valid.any(axis=0)
    points = np.where(valid[..., None], points, np.nan)
    return replace(sample, points=points, valid=valid, outside=outside, absent=absent)
