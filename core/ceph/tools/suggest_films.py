"""Which unmarked films to mark next: those on which a run is least at one with itself, and no two that look alike.

On each film up to three things are measured, as means over its landmarks in pixels of the network's image: `members`,
how far the farthest run of a folder of several is from their mean; `looks`, how far the second look moved a point of
the first; `radius`, within which the truth should lie (where none are known `spread`, of the maps). Films are ranked by
each, and a film's `doubt` is its mean rank, from 0 to 1. They are taken one by one, the largest doubt first; that of
a film counts less the more it looks like one that is taken already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph import runfolder
from ceph.data.cache import digests
from ceph.data.geometry import letterbox_scale
from ceph.data.images import film_size, read_film
from ceph.data.unmarked import SPLIT as UNMARKED
from ceph.errors import ConfigError, DataError
from ceph.evaluation.predict import Prediction
from ceph.run.gate import Gate
from ceph.run.members import farthest_px
from ceph.run.predictions import NamedFilm, find_films, readers_of
from ceph.run.trained import Trained, load
from ceph.threads import in_threads

Floats = NDArray[np.float64]

THUMB = 32  # px, a side of the picture by which films are compared
PAIRS = 200  # films of which the usual distance is taken


@dataclass(frozen=True)
class Next:
    """A film to be marked: its `doubt`, 0..1, and what was `measured` on it, in px of the network's image."""

    film: Path
    doubt: float
    measured: Mapping[str, float]


@dataclass(frozen=True)
class Passed:
    """How many films were asked of, and those that were passed over, with why."""

    films: int
    over: tuple[tuple[Path, str], ...]


def suggest_films(run: Path | str, folder: Path, count: int) -> tuple[list[Next], Passed]:
    """The `count` films below `folder` whose marking would teach a run, or a folder of several, most; first the first.

    Films that the run has seen marked are passed over, as are those that cannot be read or are no lateral cephalograms.
    Raises ConfigError where `run` is no run, or no film is left.
    """
    trained = load(run)
    found = find_films([folder], readers=readers_of(trained))
    over = dict.fromkeys(known_films(trained, found), "the run has seen it")
    thumbs = dict(zip((film.path for film in found), in_threads(thumb_of, found), strict=True))
    over |= {path: thumb for path, thumb in thumbs.items() if isinstance(thumb, str) and path not in over}
    films = [film for film in found if film.path not in over]
    if films:
        paths, spacings = [film.path for film in films], [film.mm_per_px for film in films]
        sizes = [film_size(path) for path in paths]
        prediction = trained.found_on(paths, spacings)
        prediction, judged = Gate("warn").judged(trained, paths, sizes, spacings, prediction)
        over |= {path: one.wrong for path, one in zip(paths, judged, strict=True) if one.wrong}
    if not films or len(over) == len(found):
        why = next(iter(over.values()))
        raise ConfigError(f"none of the {len(found)} films of {folder} is left: {why}", key="--films")
    measured = measure(trained, films, sizes, prediction)
    left = [n for n, path in enumerate(paths) if path not in over]
    measured = {name: values[left] for name, values in measured.items()}
    doubt = np.mean([ranks(values) for values in measured.values()], axis=0)
    order = spread_out(doubt, np.array([thumbs[paths[n]] for n in left]), count)
    chosen = [Next(paths[left[i]], float(doubt[i]), {name: float(v[i]) for name, v in measured.items()}) for i in order]
    return chosen, Passed(len(found), tuple(over.items()))


def known_films(trained: Trained, films: Sequence[NamedFilm]) -> list[Path]:
    """Those of the films that are, byte for byte, marked films that the run trained on or was scored with."""
    seen = runfolder.read_fingerprint(trained.folder)
    splits = set(runfolder.mapping(seen, "films")) - {UNMARKED}
    known = {marks.partition(":")[0] for split in splits for marks in runfolder.labels(seen, "films", split).values()}
    paths = [film.path for film in films]
    return [path for path, digest in zip(paths, digests(paths), strict=True) if digest in known]


def measure(
    trained: Trained, films: Sequence[NamedFilm], sizes: Sequence[tuple[int, int]], found: Prediction
) -> dict[str, Floats]:
    """What is measured on each film, [N] in px of the network's image, by name."""
    zoom = np.array([letterbox_scale(size, trained.config.data.size) for size in sizes])
    radii_px = trained.known.radii_px(found)
    name, sure_px = ("spread", found.spread_px) if radii_px is None else ("radius", radii_px)
    measured = {name: np.nanmean(sure_px, axis=1) * zoom}
    if "refiner" in found.stages:
        before = list(found.stages)[list(found.stages).index("refiner") - 1]
        moved = np.linalg.norm(found.stages["refiner"][0] - found.stages[before][0], axis=-1)
        measured["looks"] = moved.mean(axis=1) * zoom
    if trained.members:
        apart = farthest_px(trained, [f.path for f in films], [f.mm_per_px for f in films], found.points_px)
        measured["members"] = np.nanmean(apart, axis=1) * zoom
    return measured


def ranks(values: Floats) -> Floats:
    """The share of the others that each of the values exceeds, 0..1, those that are equal by half."""
    below = (values[:, None] > values).sum(axis=1) + 0.5 * ((values[:, None] == values).sum(axis=1) - 1)
    return np.asarray(below / max(1, len(values) - 1))


def thumb_of(film: NamedFilm) -> Floats | str:
    """A film as a vector of length 1 by which it is compared, without its brightness and contrast; or why not."""
    try:
        small = cv2.resize(read_film(film.path), (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float64)
    except DataError as error:
        return error.problems[0].what
    flat = (small - small.mean()).ravel()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-9))


def spread_out(doubt: Floats, looks: Floats, count: int) -> list[int]:
    """The places of `count` films, by `doubt` [N] and how they look [N, D]: each weighed by how far it is from those.

    The distance to the nearest that is taken counts up to the usual one of two films.
    """
    some = looks[:PAIRS]
    apart = np.linalg.norm(some[:, None] - some, axis=-1)[np.triu_indices(len(some), 1)]
    usual = float(np.median(apart)) if apart.size else 1.0
    near, taken = np.full(len(doubt), np.inf), list[int]()
    for _ in range(min(count, len(doubt))):
        worth = (doubt + 1e-3) * np.minimum(1.0, near / max(usual, 1e-9))
        worth[taken] = -1.0
        taken.append(int(worth.argmax()))
        near = np.minimum(near, np.linalg.norm(looks - looks[taken[-1]], axis=-1))
    return taken
