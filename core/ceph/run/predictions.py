"""Points on films without truth: which films a call names, and what a run finds on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ceph.data.bare import BareFilm, bare_film, in_batches, load_bare
from ceph.data.dicom import dicom_spacing, is_dicom
from ceph.data.formats.base import Reader
from ceph.data.formats.find import READERS, read
from ceph.data.images import SUFFIXES, is_film, read_film, stem_of
from ceph.data.names import shown
from ceph.data.types import Points
from ceph.errors import ConfigError, DataError, Problem
from ceph.evaluation.look import OpenFilm
from ceph.report.overlay import overlay
from ceph.report.predictions import FilmPoints
from ceph.report.sheet import write_png
from ceph.report.strokes import tracing
from ceph.run.gate import OPEN, Gate, Judged
from ceph.run.trained import Trained

log = logging.getLogger("ceph")

BATCHES = 4  # that are predicted before their points are fetched from the device and kept


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
    `leave_out`, where their pictures go, are passed over. Raises ConfigError naming all paths that do not exist,
    folders without images, and files in `leave_out`.
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
        elif not path.exists():
            problems.append(Problem(f"there is no file or folder {path}"))
        elif leave_out is not None and path.parent.resolve() == leave_out.resolve():
            what = f"a picture would be written over a film: {path} lies in {leave_out}"
            problems.append(Problem(what, "--overlays", hint="name a folder of its own"))
        else:
            found.setdefault(path.resolve(), NamedFilm(path, Path(path.name), *_or_header(mm_per_px, path)))
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
    trained: Trained,
    films: Sequence[NamedFilm],
    progress: Callable[[int], None] = lambda _done: None,
    gate: Gate = OPEN,
) -> Predicted:
    """Points and scores of `films`; those that cannot be read are kept apart and do not stop the others.

    `progress` is told how many films were read; `gate` says what becomes of films that are no lateral cephalograms.
    """
    found = [each for part in in_parts(trained, films, progress, gate) for each in part]
    points = tuple(what for _, what in found if isinstance(what, FilmPoints))
    return Predicted(points, tuple((film, what) for film, what in found if isinstance(what, DataError)))


def part_size(trained: Trained) -> int:
    """How many films are predicted before their points are looked at."""
    return BATCHES * trained.config.evaluate.batch_size


def in_parts(
    trained: Trained,
    films: Sequence[NamedFilm],
    progress: Callable[[int], None] = lambda _done: None,
    gate: Gate = OPEN,
) -> Generator[list[tuple[NamedFilm, FilmPoints | DataError]]]:
    """What is found on `films`, a few batches at a time, in their order; of one that cannot be read, the error.

    Films are read ahead. `progress` is told how many were read.
    """
    if not films:
        return
    if (gate.policy == "refuse" or gate.orient) and trained.known.usual is None:
        log.warning("%s knows too few films by which to refuse others, or to put them right", trained.folder)
    paths, assumed = [film.path for film in films], 0
    with trained.predicting(len(films)):
        loaded = load_bare(paths, trained.ensemble.sizes, len(trained.landmarks), [film.mm_per_px for film in films])
        numbered = enumerate(loaded, 1)
        for start in range(0, len(films), size := part_size(trained)):
            part = films[start : start + size]
            some = _counted(islice(numbered, len(part)), progress)
            found = _part(trained, part, some, partial(bare_film, paths), gate)
            assumed += sum(isinstance(what, FilmPoints) and what.assumed_mm_per_px is not None for what in found)
            yield list(zip(part, found, strict=True))
    if assumed:
        trained.evaluator.warn_of_assumed(assumed)


def _counted(
    loaded: Iterable[tuple[int, BareFilm | DataError]], progress: Callable[[int], None]
) -> Iterator[BareFilm | DataError]:
    for number, one in loaded:
        progress(number)
        yield one


def _part(
    trained: Trained,
    films: Sequence[NamedFilm],
    loaded: Iterable[BareFilm | DataError],
    open_film: OpenFilm,
    gate: Gate,
) -> list[FilmPoints | DataError]:
    """What is found on some films."""
    seen: list[tuple[int, int] | DataError] = []

    def readable() -> Iterator[BareFilm]:
        for one in loaded:
            seen.append(one if isinstance(one, DataError) else one.size)
            if isinstance(one, BareFilm):
                yield one

    batches = in_batches(readable(), trained.config.evaluate.batch_size)
    if (first := next(batches, None)) is None:
        return [what for what in seen if isinstance(what, DataError)]
    found = trained.evaluator.predict(trained.ensemble, chain([first], batches), open_film, warn=False)
    read = [(film, size) for film, size in zip(films, seen, strict=True) if not isinstance(size, DataError)]
    paths, spacings = [film.path for film, _ in read], [film.mm_per_px for film, _ in read]
    found, judged = gate.judged(trained, paths, [size for _, size in read], spacings, found)
    known = trained.known.radii_px(found, gate.level, [one.mirrored for one in judged])
    radii = [None] * len(read) if known is None else list(known)
    looked = found.assumed_mm_per_px if found.assumed_mm_per_px is not None else np.full(len(found.scores), np.nan)
    assumed = [float(mm) if np.isfinite(mm) else None for mm in looked.round(5)]
    presence = [None if np.isnan(of_film).any() else of_film for of_film in found.presence]
    points = iter(zip(found.points_px, found.scores, assumed, radii, judged, presence, strict=True))
    return [
        what if isinstance(what, DataError) else _points(gate, film, what, *next(points))
        for film, what in zip(films, seen, strict=True)
    ]


def _points(
    gate: Gate,
    film: NamedFilm,
    size: tuple[int, int],
    points_px: Points,
    scores: Points,
    assumed: float | None,
    radii_px: Points | None,
    judged: Judged,
    presence: Points | None,
) -> FilmPoints | DataError:
    if judged.wrong and gate.policy == "refuse":
        return DataError(f"{film.path}: {judged.wrong}", hint="--gate warn predicts it all the same")
    turned = judged.way if judged.put_right else ""
    return FilmPoints(
        str(film.path),
        size,
        film.mm_per_px,
        points_px,
        scores,
        assumed,
        name=str(film.name),
        radii_px=radii_px,
        wrong=judged.wrong,
        turned=turned,
        presence=presence,
    )


def write_overlays(
    folder: Path,
    films: Iterable[tuple[NamedFilm, FilmPoints]],
    landmarks: Sequence[str],
    doubtful: Callable[[FilmPoints], Sequence[int]],
) -> None:
    """A PNG of each predicted film with its points, under its name below `folder`. Raises OSError.

    `doubtful` gives a film's doubtful landmarks.
    """
    taken: set[Path] = set()
    for named, found in films:
        name = named.name.with_name(f"{stem_of(named.name)}.png")
        number = 2
        while name in taken:
            name = name.with_name(f"{stem_of(named.name)}-{number}.png")
            number += 1
        taken.add(name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        said = found.wrong or (found.turned and f"put right, as it is {found.turned}")
        title, strokes = shown(": ".join(filter(None, (str(named.name), said)))), tracing(found.points_px, landmarks)
        marks = landmarks, found.scores, doubtful(found), title, found.mm_per_px, strokes, found.radii_px
        picture = overlay(read_film(named.path), found.points_px, *marks)
        write_png(picture, folder / name)
