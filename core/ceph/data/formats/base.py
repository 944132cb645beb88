"""What a reader and a writer of a data format are, and what all of them do alike with points and problems."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ceph.data.files import listing
from ceph.data.spacing import hint, plausible
from ceph.data.types import Flags, Points, Sample
from ceph.errors import ConfigError, DataError, Problem

logger = logging.getLogger("ceph")

SHOWN = 20  # problems of one set that are printed; the rest is counted
OUTSIDE_SHOWN = 5


@dataclass(frozen=True, eq=False)
class DataSet:
    """A set of films as read: K `landmarks` (symbols in order), R `readers` (first axis of a Sample's points).

    `named` is False where the set only numbers its points: the landmarks are then p1, p2, ... until they are named.
    """

    landmarks: tuple[str, ...]
    samples: tuple[Sample, ...]
    readers: tuple[str, ...]
    format: str
    named: bool = True


def broken_promise(data: DataSet) -> str:
    """What of a set is not as DataSet and Sample promise, in words; empty where all is.

    For readers that strangers write: a wrong shape is told here, not by the line of ours that stumbles over it.
    """
    for what, names in (("landmarks", data.landmarks), ("readers", data.readers)):
        if not isinstance(names, tuple) or not names or not all(isinstance(n, str) and n for n in names):
            return f"{what} {names!r:.60} where a tuple of names is promised"
        if len(set(names)) < len(names):
            return (
                f"{what} of which two have one name: {', '.join(n for n in dict.fromkeys(names) if names.count(n) > 1)}"
            )
    if not isinstance(data.samples, tuple):
        return f"samples {type(data.samples).__name__} where a tuple is promised"
    for number, sample in enumerate(data.samples, start=1):
        if not isinstance(sample, Sample):
            return f"samples of which number {number} is {type(sample).__name__}, not Sample"
        wrong = _flaw(sample, (len(data.readers), len(data.landmarks)))
        if wrong:
            return f"film {sample.id!r} with {wrong}"
    return ""


def _flaw(sample: Sample, marks: tuple[int, int]) -> str:
    """What of a film is not as promised; `marks` are R readers and K landmarks."""
    for name in ("id", "split", "group", "machine", "spacing_source"):
        if not isinstance(getattr(sample, name), str):
            return f"{name} {getattr(sample, name)!r} where a text is promised"
    if not isinstance(sample.path, Path):
        return f"path {sample.path!r} where a pathlib.Path is promised"
    sides = sample.size if isinstance(sample.size, tuple) else ()
    if len(sides) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in sides):
        return f"size {sample.size!r} where (H, W), two positive whole numbers, is promised"
    spacing = sample.mm_per_px
    if not isinstance(spacing, (int, float, np.floating)) or not 0 < spacing < math.inf:
        return f"mm_per_px {spacing!r} where a number above zero is promised"
    if not plausible(float(spacing)):
        return f"mm_per_px {spacing:g}: {hint(float(spacing))}"
    promised: list[tuple[str, object, tuple[int, ...], type[np.generic]]] = [
        ("points", sample.points, (*marks, 2), np.floating),
        ("valid", sample.valid, marks, np.bool_),
    ]
    if sample.absent is not None:
        promised.append(("absent", sample.absent, marks[1:], np.bool_))
    for name, array, shape, kind in promised:
        if not isinstance(array, np.ndarray) or array.shape != shape or not np.issubdtype(array.dtype, kind):
            given = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            axes = {"points": "[readers, landmarks, 2]", "absent": "[landmarks]"}.get(name, "[readers, landmarks]")
            return f"{name} {given} where an array of {kind.__name__} {list(shape)}, {axes}, is promised"
    return "" if np.isfinite(sample.points[sample.valid]).all() else "a point that is valid but not finite"


@runtime_checkable
class Reader(Protocol):
    """Reads one format. `name` is what `data.format` calls it; `layout` says in a line what the folder must hold."""

    name: str
    layout: str

    def matches(self, folder: Path) -> bool:
        """Whether `folder` looks like this format, by its names and how its annotation files begin; reads no film."""
        ...

    def read(self, folder: Path, *, mm_per_px: float | None) -> DataSet:
        """Read the set in `folder`, an absolute path without links.

        `mm_per_px`, mm of a film pixel, overrides what the set says of its films. Raises DataError naming file and
        field, and ConfigError with the key `data.mm_per_px` where the spacing of a film is unknown.
        """
        ...


@runtime_checkable
class Writer(Protocol):
    """Writes one format: the mirror image of its Reader, in one class with it.

    `landmarks` are all that the format knows, None where it takes any names, and () where it only numbers them;
    `readers` likewise, () for a format of one reader who has no name. `complete`: it holds splits, groups, machines,
    spacings and their sources itself; else a table of films (`film_table`) is written beside it. One that has a place
    for labels of a film names them in `labels`.
    """

    name: str
    complete: bool

    @property
    def landmarks(self) -> tuple[str, ...] | None:
        """The landmarks of the format."""
        ...

    @property
    def readers(self) -> tuple[str, ...] | None:
        """The readers of the format."""
        ...

    def place(self, sample: Sample, number: int) -> str:
        """Where the film stands in the folder, without its ending; `number` counts the set's films from 1."""
        ...

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write the annotations of `data` into `folder`, where its `films` (path in the folder, by id) are already."""
        ...


def settle(points: Points, size: tuple[int, int]) -> tuple[Points, Flags, Flags]:
    """Tell marked, missing and impossible points apart.

    `points` [R, K, 2] in film px, NaN or (-1, -1) where missing; `size` (H, W). Returns the points, NaN where not
    valid; `valid` [R, K]; and `outside` [R, K], which were marked off the film and are not valid either.
    """
    H, W = size
    x, y = points[..., 0], points[..., 1]
    marked = ~np.isnan(points).any(axis=-1) & ~(points == -1).all(axis=-1)
    # NaN compares false; the film reaches half a pixel beyond the centres of its outer pixels.
    on_film = (x >= -0.5) & (x <= W - 0.5) & (y >= -0.5) & (y <= H - 0.5)
    valid = marked & on_film
    return np.where(valid[..., None], points, np.nan), valid, marked & ~on_film


def picked(sample: Sample, columns: Sequence[int]) -> Sample:
    """`sample` with the landmarks in these columns only, in this order."""
    outside, copied = (None if flags is None else flags[:, columns] for flags in (sample.outside, sample.copied))
    points, valid = sample.points[:, columns], sample.valid[:, columns]
    absent = None if sample.absent is None else sample.absent[columns]
    return replace(sample, points=points, valid=valid, outside=outside, copied=copied, absent=absent)


@dataclass
class Findings:
    """Gathers what is wrong with the files of a set, so that a person sees all of it at once."""

    problems: list[Problem] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    unspaced: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Keep a DataError raised inside and go on after the block."""
        try:
            yield
        except DataError as error:
            self.problems.extend(error.problems)

    def settle(
        self, film: str, points: Points, size: tuple[int, int], readers: Sequence[str], landmarks: Sequence[str]
    ) -> tuple[Points, Flags, Flags]:
        """`settle` for one film, noting the points that lie outside it."""
        points, valid, outside = settle(marks := points, size)
        for r, k in np.argwhere(outside):
            x, y = marks[r, k]
            self.outside.append(
                f"{landmarks[k]} of film {film} ({readers[r]}: x {x:g}, y {y:g}; film {size[1]} x {size[0]})"
            )
        return points, valid, outside

    def spacing(self, film: str, mm_per_px: float | None) -> float:
        """`mm_per_px` of one film; NaN, noted, where it is unknown (`report` raises then)."""
        if mm_per_px is None:
            self.unspaced.append(film)
            return math.nan
        return mm_per_px

    def leave_out(self, what: str) -> None:
        """Note something that is in the set but of no use here, such as a rectangle."""
        self.left_out[what] = self.left_out.get(what, 0) + 1

    def report(self) -> None:
        """Raise all problems as one DataError, then unknown spacings as one ConfigError; else log what was left out."""
        if self.problems:
            shown = self.problems[:SHOWN]
            if more := len(self.problems) - len(shown):
                shown.append(Problem(f"and {more} more problems of this kind in the set"))
            raise DataError(shown)
        if self.unspaced:
            others = f" (and of {len(self.unspaced) - 1} more)" if len(self.unspaced) > 1 else ""
            raise ConfigError(
                f"the mm per pixel of film {self.unspaced[0]}{others} is unknown",
                key="data.mm_per_px",
                hint="give the mm of one film pixel, for example `--set data.mm_per_px=0.1`; nothing is assumed",
            )
        for what, count in self.left_out.items():
            logger.warning("left out: %s%s", what, f" ({count} times)" if count > 1 else "")
        if self.outside:
            shown_outside = "; ".join(self.outside[:OUTSIDE_SHOWN])
            more = len(self.outside) - OUTSIDE_SHOWN
            logger.warning(
                "%d points lie outside their film and are left out: %s%s",
                len(self.outside),
                shown_outside,
                f"; and {more} more" if more > 0 else "",
                extra={"outside": tuple(self.outside)},  # all of them, for `ceph data check`
            )


@dataclass(frozen=True)
class Marks:
    """The annotation files of some films: by reader, the folder, and the files there by film."""

    folders: Mapping[str, Path]
    files: Mapping[str, Mapping[str, Path]]

    @classmethod
    def find(cls, root: Path, folders: Mapping[str, Path], suffix: str) -> Marks:
        """List the readers' `folders` that are there."""
        present = {reader: folder for reader, folder in folders.items() if folder.is_dir()}
        return cls(present, {reader: listing(root, folder, (suffix,)) for reader, folder in present.items()})

    def of(self, film: str, path: Path, suffix: str) -> dict[str, Path]:
        """The annotation of the film in `path` by each reader; DataError names the first that is missing."""
        for reader, files in self.files.items():
            if film not in files:
                raise DataError(
                    f"{path}: has no annotation {self.folders[reader] / (film + suffix)}",
                    hint="add it, or take the film out of the folder",
                )
        return {reader: files[film] for reader, files in self.files.items()}
