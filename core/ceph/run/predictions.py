"""Points on films without truth: which films a call names, and what a run finds on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from ceph.data.bare import BareFilm, bare_film, in_batches, load_bare
from ceph.data.dicom import dicom_spacing, is_dicom
from ceph.data.formats.base import Reader
from ceph.data.formats.find import READERS, read
from ceph.data.images import SUFFIXES, is_film, read_film, stem_of
from ceph.data.names import shown
from ceph.errors import ConfigError, DataError, Problem
from ceph.report.overlay import overlay
from ceph.report.predictions import FilmPoints
from ceph.report.sheet import write_png
from ceph.report.strokes import tracing
from ceph.run.trained import Trained

log = logging.getLogger("ceph")


@dataclass(frozen=True)
class NamedFilm:
    """A film that a call names: its path as it was given, its name below the folder given, mm of a pixel if known.

    `note` is why it is not known, where the film's header says something of it that cannot be used.
    """

    path: Path
    name: Path
    mm_per_px: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Predicted:
    """What was found on the films that could be read, in their order, and the others with what is wrong."""

    films: tuple[FilmPoints, ...]
    broken: tuple[tuple[NamedFilm, DataError], ...]


def readers_of(trained: Trained) -> tuple[Reader, ...]:
    """The formats of data sets that are known, with those of the run's plugins."""
    return (*READERS, *trained.hooks.merge("dataset_formats").values())


def find_films(
    paths: Sequence[Path],
    *,
    readers: Sequence[Reader] = (),
    mm_per_px: float | None = None,
    leave_out: Path | None = None,
) -> list[NamedFilm]:
    """The films that `paths` name: files as they are, and all images in folders, however deep, sorted.

    A film's spacing is `mm_per_px`, else what the data set says whose folder is given (in a format that one of
    `readers` knows), else what its DICOM header says; it is never assumed. Hidden files and those in the folder
    `leave_out` are passed over. Raises ConfigError naming all paths that do not exist, and folders without images.
    """
    problems: list[Problem] = []
    found: dict[Path, NamedFilm] = {}
    for path in paths:
        if path.is_dir():
            films = list(_in_folder(path, leave_out))
            if not films:
                problems.append(
                    Problem(f"{path}: holds no film", hint=f"films end in {', '.join(SUFFIXES)}, or are DICOM files")
                )
            known = {} if mm_per_px is not None else _spacings(path, readers)
            for film in films:
                mm = mm_per_px if mm_per_px is not None else known.get(film.resolve())
                found.setdefault(film.resolve(), NamedFilm(film, film.relative_to(path), *_or_header(mm, film)))
        elif path.exists():
            found.setdefault(path.resolve(), NamedFilm(path, Path(path.name), *_or_header(mm_per_px, path)))
        else:
            problems.append(Problem(f"there is no file or folder {path}"))
    if problems:
        raise ConfigError(problems)
    return list(found.values())


def _in_folder(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        left_out = leave_out is not None and path.resolve().is_relative_to(leave_out.resolve())
        if not hidden and not left_out and path.is_file() and is_film(path):
            yield path


def _spacings(folder: Path, readers: Sequence[Reader]) -> dict[Path, float]:
    """The mm per px of each film of the data set in `folder`; empty where it is none, or does not say."""
    if not any(reader.matches(folder) for reader in readers):
        return {}
    try:
        return {sample.path.resolve(): sample.mm_per_px for sample in read(folder, readers=readers).samples}
    except ConfigError:
        return {}  # the set does not say, and nothing is assumed
    except DataError as error:
        log.warning("%s: no spacing is known, as this data set cannot be read: %s", folder, error.problems[0].what)
        return {}


def _or_header(mm_per_px: float | None, film: Path) -> tuple[float | None, str]:
    """`mm_per_px`, else what a DICOM film states, None for other films; and why it is of no use."""
    if mm_per_px is not None or not is_dicom(film):
        return mm_per_px, ""
    try:
        spacing, _, why = dicom_spacing(film)
    except DataError as error:
        return None, f" ({error.problems[0].what})"
    return spacing, why and f" ({film}: {why})"


def predict_films(
    trained: Trained, films: Sequence[NamedFilm], progress: Callable[[int], None] = lambda _done: None
) -> Predicted:
    """Points and scores of `films`; those that cannot be read are kept apart and do not stop the others.

    `progress` is told how many films were read.
    """
    kept: list[tuple[NamedFilm, tuple[int, int]]] = []
    broken: list[tuple[NamedFilm, DataError]] = []
    paths = [film.path for film in films]

    def readable(loaded: Iterable[BareFilm | DataError]) -> Iterator[BareFilm]:
        for done, (film, one) in enumerate(zip(films, loaded, strict=True), 1):
            progress(done)
            if isinstance(one, DataError):
                broken.append((film, one))
            else:
                kept.append((film, one.size))
                yield one

    with trained.predicting(len(films)):
        loaded = load_bare(paths, trained.ensemble.sizes, len(trained.landmarks), [film.mm_per_px for film in films])
        batches = in_batches(readable(loaded), trained.config.evaluate.batch_size)
        first = next(batches, None)
        if first is None:
            return Predicted((), tuple(broken))
        found = trained.evaluator.predict(trained.ensemble, chain([first], batches), partial(bare_film, paths))
    looked = found.assumed_mm_per_px if found.assumed_mm_per_px is not None else np.full(len(kept), np.nan)
    assumed = [float(mm) if np.isfinite(mm) else None for mm in looked.round(5)]
    points = zip(kept, found.points_px, found.scores, assumed, strict=True)
    return Predicted(
        tuple(
            FilmPoints(str(film.path), size, film.mm_per_px, xy, score, mm) for (film, size), xy, score, mm in points
        ),
        tuple(broken),
    )


def write_overlays(
    folder: Path,
    films: Sequence[NamedFilm],
    predicted: Sequence[FilmPoints],
    landmarks: Sequence[str],
    doubts: Mapping[str, Sequence[int]],
) -> None:
    """A PNG of each predicted film with its points, under its name below `folder`. Raises OSError.

    `doubts` are the doubtful landmarks by film.
    """
    names = {str(film.path): film.name for film in films}
    taken: set[Path] = set()
    for found in predicted:
        name = names[found.film].with_name(f"{stem_of(names[found.film])}.png")
        number = 2
        while name in taken:
            name = name.with_name(f"{stem_of(names[found.film])}-{number}.png")
            number += 1
        taken.add(name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        film, doubtful = read_film(Path(found.film)), doubts.get(found.film, ())
        title, mm, strokes = shown(str(names[found.film])), found.mm_per_px, tracing(found.points_px, landmarks)
        picture = overlay(film, found.points_px, landmarks, found.scores, doubtful, title, mm, strokes)
        write_png(picture, folder / name)
