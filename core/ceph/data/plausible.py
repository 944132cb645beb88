"""Points that a format allows but no film shows: fractions or percent for pixels, x and y swapped, heads of no size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ceph.data.types import Flags, Points, Sample
from ceph.errors import Problem

SHOWN = 5
# A lateral film shows a head upright: each pair lies one below the other, whichever way the face looks. In the films
# of ISBI 2015, each read twice, none was further apart in x than 0.84 of its distance in y; N and Me: 0.33.
UPRIGHT = (
    *(("N", "Me"), ("N", "Gn"), ("S", "Me"), ("S", "Gn"), ("N", "Pog"), ("Or", "Me"), ("A", "Me")),
    *(("N", "A"), ("N", "B"), ("Or", "B"), ("S", "Go")),
)
# The anterior cranial base of children and adults, magnified or not, with room: beyond, the spacing is wrong.
SELLA_NASION_MM = (45.0, 100.0)
SOME, MANY = 3, 5  # marks of which more than half tell of a film, or a landmark; films in which a place is no chance
# A film on which one of each is marked shows a whole head, which fills more than a quarter of it; so do many landmarks.
WHOLE = ({"S", "Po", "Ar", "Go", "Co"}, {"N", "A", "ANS", "Pog"}, {"N", "S", "Or"}, {"Me", "Gn"})
WHOLE_COUNT = 15
RESIZED = "if the films were resized, scale the points alike; else put the films there that were marked"
IN_QUARTER = ("all points of a whole head lie in one quarter of the film", RESIZED)
EMPTY = "leave points that are missing empty"
KIND = 5  # from so many marks on, the median tells of films of one machine and spacing


def head_doubts(samples: Sequence[Sample], landmarks: Sequence[str]) -> list[tuple[str, float]]:
    """Where the mm per pixel make heads of no head's size, in words, and the mm from S to N there.

    In the set as a whole, else in films of one machine and spacing; empty where all is well, or S or N is not marked.
    """
    if not {"S", "N"} <= set(landmarks):
        return []
    s, n = landmarks.index("S"), landmarks.index("N")
    kinds: dict[str, list[float]] = {}
    for x in samples:
        lengths = np.linalg.norm(x.points[:, s] - x.points[:, n], axis=-1) * x.mm_per_px
        machine = f", {x.machine}" if x.machine else ""
        kinds.setdefault(f" of those with {x.mm_per_px:g} mm per pixel{machine}", []).extend(
            lengths[~np.isnan(lengths)].tolist()
        )
    whole = _no_heads({"": [mm for of_kind in kinds.values() for mm in of_kind]}, 1)
    return whole or _no_heads(kinds, KIND)


def _no_heads(kinds: Mapping[str, Sequence[float]], fewest: int) -> list[tuple[str, float]]:
    """Those of the kinds, marked `fewest` times or more, whose median from S to N no head has."""
    low, high = SELLA_NASION_MM
    middles = {kind: float(np.median(mm)) for kind, mm in kinds.items() if len(mm) >= fewest}
    text = "from S to N it is {:.0f} mm in the median film{}, in heads {:.0f} to {:.0f}: the mm per pixel are wrong"
    return [(text.format(mm, kind, low, high), mm) for kind, mm in middles.items() if not low <= mm <= high]


def impossible(samples: Sequence[Sample], landmarks: Sequence[str]) -> list[Problem]:
    """What cannot be right in most points of a film, or of a landmark in most films; empty where all is well.

    Most points, of any reader, lie outside the film, or at one place; a landmark lies there in most films; in most
    films all points of a whole head lie in one quarter.
    """
    found: dict[tuple[str, str], dict[str, Sample]] = {}
    for sample in samples:
        for points, outside in zip(sample.points, _outside(sample), strict=True):
            if wrong := _impossible(points, outside, sample.size, landmarks):
                found.setdefault(wrong, {})[f"{sample.split}/{sample.id}"] = sample
    marked = sum(bool(sample.valid.any()) for sample in samples)
    return [
        Problem(f"{what} in {len(films)} of {len(samples)} films, such as {next(iter(films.values())).path}", hint=hint)
        for (what, hint), films in found.items()
        if (what, hint) != IN_QUARTER or 2 * len(films) > marked
    ] + list(_impossible_landmarks(samples, landmarks))


def _outside(sample: Sample) -> Flags:
    return np.zeros_like(sample.valid) if sample.outside is None else sample.outside


def _impossible(
    points: Points, outside: Flags, size: tuple[int, int], landmarks: Sequence[str]
) -> tuple[str, str] | None:
    """What is wrong with most of one reader's points [K, 2] on a film of `size` (H, W), and what to do; else None."""
    known = points[~np.isnan(points).any(axis=-1)]
    total = len(known) + int(outside.sum())
    if total < SOME:
        return None
    if 2 * outside.sum() > total:
        return "most points lie outside the film", RESIZED
    if 2 * np.unique(known, axis=0, return_counts=True)[1].max() > total:
        return "most points lie at one place", EMPTY
    symbols = {symbol for symbol, point in zip(landmarks, points, strict=True) if not np.isnan(point).any()}
    whole = len(symbols) >= WHOLE_COUNT or all(symbols & part for part in WHOLE)
    side = known * 2 > np.array(size[::-1]) - 1
    return IN_QUARTER if whole and (side == side[0]).all() else None


def _impossible_landmarks(samples: Sequence[Sample], landmarks: Sequence[str]) -> Iterator[Problem]:
    """Landmarks that lie outside the film, or at one place, in most films that have them, all of a kind in one text."""
    off: dict[str, Sample] = {}
    stuck: dict[str, Sample] = {}
    for k, symbol in enumerate(landmarks):
        there = [s for s in samples if s.valid[:, k].any()]
        beyond = [s for s in samples if _outside(s)[:, k].any()]
        films = sum(bool((s.valid | _outside(s))[:, k].any()) for s in samples)
        if films >= SOME and 2 * len(beyond) > films:
            off[symbol] = beyond[0]
        if len(there) < SOME:
            continue
        points = np.concatenate([s.points[s.valid[:, k], k] for s in there])
        places, counts = np.unique(points, axis=0, return_counts=True)
        place = places[counts.argmax()]
        if 2 * counts.max() > len(points) and (films >= MANY or _in_corner(place)):
            stuck[f"{symbol} at ({place[0]:g}, {place[1]:g})"] = there[0]
    for where, found, hint in (("outside the film", off, RESIZED), ("at one place", stuck, EMPTY)):
        if found:
            what = (
                f"{_some(list(found))}: {where} in most films that have it, such as {next(iter(found.values())).path}"
            )
            yield Problem(what, hint=hint)


def _in_corner(points: Points) -> Flags:
    """Which points [..., 2] lie where (0, 0) or (1, 1) is, in any convention: what programs write that know none."""
    return np.asarray((np.abs(points) <= 1).all(axis=-1))


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
    elif _in_corner(known).any():
        yield "points at (0, 0), the film's corner, look like missing ones, which are left empty"
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
