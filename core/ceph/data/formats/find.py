"""Read a data folder: find its format by looking at it, and keep the landmarks that are wanted, in their order."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from ceph.data.copied import with_copies
from ceph.data.formats.aariz import Aariz
from ceph.data.formats.base import DataSet, Reader, Writer, picked
from ceph.data.formats.cldetection2023 import ClDetection2023
from ceph.data.formats.cldetection_csv import CSV_2023, CSV_2024
from ceph.data.formats.coco import Coco
from ceph.data.formats.cvat import Cvat
from ceph.data.formats.isbi2015 import Isbi2015
from ceph.data.formats.labelme import LabelMe
from ceph.data.formats.labelstudio import LabelStudio
from ceph.data.formats.plain_csv import PlainCsv, why_no_table
from ceph.data.formats.predicted import Predicted
from ceph.data.formats.spelling import place_of, unified
from ceph.data.names import shown
from ceph.data.plausible import doubts, head_doubts
from ceph.data.several import on_landmarks
from ceph.data.spacing import hint, plausible
from ceph.errors import ConfigError, DataError, Problem, nearest

logger = logging.getLogger("ceph")

FORMATS = (
    Aariz(),
    Isbi2015(),
    ClDetection2023(),
    CSV_2023,
    CSV_2024,
    Coco(),
    LabelStudio(),
    LabelMe(),
    Cvat(),
    PlainCsv(),
)
READERS: tuple[Reader, ...] = (*FORMATS, Predicted())
WRITERS: dict[str, Writer] = {writer.name: writer for writer in FORMATS}
AUTO = "auto"


def read(
    folder: Path,
    *,
    format: str = AUTO,  # noqa: A002 - the name of the config's key
    landmarks: Sequence[str] | None = None,
    mm_per_px: float | None = None,
    readers: Sequence[Reader] = READERS,
    shared: bool = False,
) -> DataSet:
    """Read the set in `folder` with the reader named `format`, or with the one of `readers` that knows its layout.

    `landmarks` are the symbols to keep, in the order wanted (None: all of the set's); with `shared` the set may lack
    some of them, and those are not valid in any film. `mm_per_px`, mm of a film pixel,
    overrides what the set says. Raises ConfigError where a setting is wrong and DataError where the files are.
    """
    if mm_per_px is not None and not plausible(mm_per_px):
        raise ConfigError(f"{mm_per_px:g} is no spacing of a film", key="data.mm_per_px", hint=hint(mm_per_px))
    root = _existing(folder)
    data = with_copies(_nameable(unified(_read(root, _reader(root, format, readers), mm_per_px))))
    for doubt in doubts(data.samples, data.landmarks, data.readers):
        logger.warning(shown(doubt))
    for doubt, _ in head_doubts(data.samples, data.landmarks):
        # Marked as something that `ceph data check` does not log, since it has a finding of its own for it.
        logger.warning("%s (ceph data check tells more)", shown(doubt), extra={"outside": ()})
    numbered = all(re.fullmatch(r"p\d+", symbol) for symbol in data.landmarks)
    if not data.named or (numbered and landmarks is not None and not set(landmarks) & set(data.landmarks)):
        return name(data, landmarks)
    if landmarks is None:
        return data
    return on_landmarks(data, landmarks) if shared else select(data, landmarks)


def _nameable(data: DataSet) -> DataSet:
    """`data` whose films have names that can be printed and kept in any file (`shown`)."""
    return replace(
        data,
        samples=tuple(
            replace(sample, id=shown(sample.id), group=shown(sample.group), machine=shown(sample.machine))
            for sample in data.samples
        ),
    )


def name(data: DataSet, landmarks: Sequence[str] | None) -> DataSet:
    """`data`, whose points are only numbered, with names for all of them; ConfigError where they are not as many."""
    count = len(data.landmarks)
    if landmarks is None or len(landmarks) != count or len(set(landmarks)) != count:
        given = "" if landmarks is None else f", and {len(set(landmarks))} names for them"
        raise ConfigError(
            f"this set has {count} points without names{given}",
            key="data.landmarks",
            hint=f"name all of them in their order, each once: `--set 'data.landmarks=[S, N, ...]'`, {count} symbols",
        )
    return replace(data, landmarks=tuple(landmarks), named=True)


def select(data: DataSet, landmarks: Sequence[str]) -> DataSet:
    """`data` with these landmarks only, in this order and called so; ConfigError names each unknown or given twice.

    A landmark may be given by another of its names than the set has (`spelling.place_of`).
    """
    problems = []
    for position, symbol in enumerate(landmarks):
        if place_of(symbol, data.landmarks) is None:
            hint = nearest(symbol, data.landmarks)
            problems.append(Problem(f"this set has no landmark {symbol!r}", "data.landmarks", hint=hint))
        elif symbol in landmarks[:position]:
            problems.append(Problem(f"{symbol!r} stands twice", "data.landmarks", hint="name each landmark once"))
    if not landmarks:
        problems.append(Problem("no landmark is left", "data.landmarks", hint=f"valid: {', '.join(data.landmarks)}"))
    if problems:
        raise ConfigError(problems)
    columns = [place for symbol in landmarks if (place := place_of(symbol, data.landmarks)) is not None]
    return replace(data, landmarks=tuple(landmarks), samples=tuple(picked(s, columns) for s in data.samples))


def _existing(folder: Path) -> Path:
    """`folder` made absolute, without links; ConfigError where there is none."""
    try:
        root = folder.expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"{str(folder)!r} cannot be opened ({reason})", key="data.path", hint="name the folder of the data set"
        ) from error
    if not root.is_dir():
        raise ConfigError(f"{folder} is a file", key="data.path", hint="name the folder of the data set")
    return root


def _reader(root: Path, name: str, readers: Sequence[Reader]) -> Reader:
    """The one reader that is named, or that takes the folder for its own."""
    by_name = {reader.name: reader for reader in readers}
    if name != AUTO:
        if name not in by_name:
            raise ConfigError(
                f"unknown format {name!r}", key="data.format", hint=nearest(name, [AUTO, *by_name]) if name else ""
            )
        return by_name[name]
    found = [reader for reader in readers if reader.matches(root)]
    # What was predicted may lie beside a set, and a plain table may be anybody's: other readers go before.
    for last in (Predicted.name, PlainCsv.name):
        found = [reader for reader in found if reader.name != last] or found
    if len(found) == 1:
        return found[0]
    if not found:
        sought = "".join(f"\n    {reader.name}: {reader.layout}" for reader in readers)
        raise DataError(
            f"{root}: is no data set of a known format",
            key="data.path",
            hint=f"{_elsewhere(root, readers, 'did you mean {}? ')}{why_no_table(root)}looked for{sought}",
        )
    names = [reader.name for reader in found]
    raise DataError(
        f"{root}: looks like several formats ({', '.join(names)})",
        key="data.path",
        hint=f"say which one, for example `--set data.format={names[0]}`",
    )


def _read(root: Path, reader: Reader, mm_per_px: float | None) -> DataSet:
    """What `reader`, taken at its word, reads; the error says so where the folder does not look like its format."""
    try:
        return reader.read(root, mm_per_px=mm_per_px)
    except DataError as error:
        if reader.matches(root):
            raise
        unlike = Problem(
            f"{root}: is not in the format {reader.name!r}",
            "data.path",
            hint=f"looked for {reader.layout}{_elsewhere(root, [reader], '; did you mean {}?')}",
        )
        raise DataError([unlike, *error.problems]) from error


def _elsewhere(root: Path, readers: Sequence[Reader], question: str) -> str:
    """Where a set lies close by, put into `question`, for a person who named a folder too high or too low."""
    for candidate in _neighbours(root):
        try:
            if any(reader.matches(candidate) for reader in readers):
                return question.format(candidate)
        except OSError:
            continue
    return ""


def _neighbours(root: Path) -> Iterator[Path]:
    """A few folders around `root`: its parents, and the first of its children in order."""
    yield from root.parents[:2]
    try:
        yield from sorted(path for path in islice(root.iterdir(), 200) if path.is_dir())
    except OSError:
        return
