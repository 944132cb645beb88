"""Which predicted films are no lateral cephalogram, or lie otherwise than they should; these are read put right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ceph.data.images import read_film
from ceph.errors import ConfigError, nearest
from ceph.evaluation.gate import (
    STAGE,
    WAYS,
    Reading,
    Usual,
    best_way,
    judge,
    put_right,
    read,
    turned_back,
    ways_to_try,
)
from ceph.evaluation.predict import ARRAYS, Prediction
from ceph.evaluation.radius import LEVEL, LEVELS
from ceph.run.trained import Trained

GATES = ("refuse", "warn", "off")
ORIENTS = ("auto", "off")


@dataclass(frozen=True)
class Gate:
    """What becomes of films that are no lateral cephalograms, and which radii are given.

    By `policy` these films are refused, predicted with a word of what is `wrong`, or not looked for; with `orient`
    those that lie otherwise than they should are put right first. Radii hold so often as `level` says.
    """

    policy: str = "off"
    orient: bool = False
    level: float = LEVEL

    def judged(
        self,
        trained: Trained,
        films: Sequence[Path],
        sizes: Sequence[tuple[int, int]],
        mm_per_px: Sequence[float | None],
        found: Prediction,
    ) -> tuple[Prediction, list[Judged]]:
        """As `judge_films`, as far as it is asked for."""
        if self.policy == "off" and not self.orient:
            return found, [Judged()] * len(films)
        found, judged = judge_films(trained, films, sizes, mm_per_px, found, orient=self.orient)
        return found, [replace(one, wrong="") for one in judged] if self.policy == "off" else judged


OPEN = Gate()


@dataclass(frozen=True)
class Judged:
    """What a film is: `wrong` says why it is no whole lateral cephalogram as the run knows them, empty where it is.

    `way` is how it lies otherwise than it should (`WAYS`), empty where it does not; its points were `put_right` then,
    or are as it lies.
    """

    wrong: str = ""
    way: str = ""
    put_right: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether the points are those of a head that faces the other way."""
        return self.put_right and WAYS[self.way][0]


def judge_films(
    trained: Trained,
    films: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    mm_per_px: Sequence[float | None],
    found: Prediction,
    *,
    orient: bool = False,
) -> tuple[Prediction, list[Judged]]:
    """What each of `films` is, of `sizes` (H, W), by what was `found` on it; nothing is wrong where no usual is known.

    A film that does not read as it should is read again in each of `WAYS`. With `orient` its points are those of the
    way in which it reads, in its own pixels; such a film is not wrong.
    """
    usual = trained.known.usual
    if usual is None:
        return found, [Judged()] * len(films)
    judged = []
    for n, (film, size, mm) in enumerate(zip(films, sizes, mm_per_px, strict=True)):
        reading, way = _reading(found, n, usual), ""
        for ways in ways_to_try(reading):
            way, again = _tried(trained, film, mm, reading, usual, ways)
            if way:
                break
        if way and orient:
            reading, size = _reading(again, 0, usual), size[::-1] if WAYS[way][1] % 2 else size
            found = _with_row(found, n, again, way, sizes[n])
        if way and not orient:
            judged.append(Judged(f"is {way}", way))
        else:
            judged.append(Judged(judge(reading, usual, size, mm), way, bool(way)))
    return found, judged


def _reading(found: Prediction, n: int, usual: Usual) -> Reading:
    points, scores = found.stages[STAGE]
    return read(points[n], scores[n], usual)


def _tried(
    trained: Trained, film: Path, mm: float | None, plain: Reading, usual: Usual, ways: Sequence[str]
) -> tuple[str, Prediction]:
    """The one of `ways` in which a film reads as a head, else empty, and what is found on it when it is put right."""
    pixels = read_film(film)
    tries = trained.found_on([put_right(pixels, way) for way in ways], [mm] * len(ways))
    way = best_way(plain, {way: _reading(tries, n, usual) for n, way in enumerate(ways)})
    return way, _row(tries, ways.index(way)) if way else tries


def _row(found: Prediction, n: int) -> Prediction:
    """What was found on one film alone."""
    stages = {name: (points[n : n + 1], scores[n : n + 1]) for name, (points, scores) in found.stages.items()}
    columns = {name: getattr(found, name)[n : n + 1] for name in ARRAYS}
    assumed = None if found.assumed_mm_per_px is None else found.assumed_mm_per_px[n : n + 1]
    return Prediction(**columns, stages=stages, assumed_mm_per_px=assumed)


def _with_row(found: Prediction, n: int, one: Prediction, way: str, size: tuple[int, int]) -> Prediction:
    """What was found, with that of film `n` as it was found when put right, on the film of `size` as it lies."""

    def changed(before: np.ndarray, row: np.ndarray) -> np.ndarray:
        after = before.copy()
        after[n] = row[0]
        return after

    def back(points: np.ndarray) -> np.ndarray:
        return turned_back(points, way, size)

    stages = {
        name: (changed(points, back(one.stages[name][0])), changed(scores, one.stages[name][1]))
        for name, (points, scores) in found.stages.items()
    }
    return replace(
        found,
        points_px=changed(found.points_px, back(one.points_px)),
        scores=changed(found.scores, one.scores),
        spread_px=changed(found.spread_px, one.spread_px),
        presence=changed(found.presence, one.presence),
        stages=stages,
    )


def made_gate(policy: str, orient: str, level: float) -> Gate:
    """A gate by the words of a command line. Raises ConfigError."""
    for key, word, words in (("--gate", policy, GATES), ("--orient", orient, ORIENTS)):
        if word not in words:
            raise ConfigError(f"there is no {word!r}", key=key, hint=nearest(word, words))
    if not LEVELS[0] <= level <= LEVELS[-1]:
        raise ConfigError(f"must be from {LEVELS[0]:g} to {LEVELS[-1]:g}, not {level:g}", key="--level")
    return Gate(policy, orient == "auto", level)
