"""Turn a set of one format into another: films as they are, points exactly, and a word about whatever has no place."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ceph.data.dicom import is_dicom
from ceph.data.files import regular
from ceph.data.formats.base import DataSet, Reader, Writer, picked
from ceph.data.formats.cldetection_csv import numbered
from ceph.data.formats.film_table import TABLE, absent_of, plain_name, write_table
from ceph.data.formats.find import AUTO, READERS, WRITERS, read
from ceph.data.formats.find import name as name_landmarks
from ceph.data.formats.locate import Films
from ceph.data.formats.records import ONE_READER
from ceph.data.formats.splits import ORDER
from ceph.data.images import read_film
from ceph.data.truth import MEAN, combine
from ceph.data.types import Sample
from ceph.errors import ConfigError, DataError, nearest
from ceph.files import building

SHOWN = 8  # names of one kind that a message lists
EXACT_PX = 1e-6  # points that are read back may differ by this much: percent and half pixels are no exact floats


@dataclass(frozen=True)
class Conversion:
    """What was written: the `format` it was read as, how many films, how many of them as PNG, and what is lost.

    `table` is the file that was written beside the format's own, empty where those hold everything.
    """

    format: str
    films: int
    redrawn: int
    lost: tuple[str, ...]
    table: str


def convert(
    source: Path,
    target: Path,
    to: str,
    *,
    format: str = AUTO,  # noqa: A002 - as in `find.read`
    mm_per_px: float | None = None,
    landmarks: Sequence[str] | None = None,
    truth: str = MEAN,
    link: bool = False,
    readers: Sequence[Reader] = READERS,
) -> Conversion:
    """Write the set in `source` as format `to` into the new folder `target`.

    Film files are copied byte for byte (`link`: hard-linked), DICOM films become PNG without their header. What the
    format has no place for (splits, groups, machines, spacings) goes into a table beside it that every reader here
    takes into account; what is lost all the same is told. `truth` makes one reader of several where the format holds
    one. The result is read back and compared before it gets its name. Raises ConfigError where the call is wrong and
    DataError where the set is.
    """
    if to not in WRITERS:
        raise ConfigError(f"unknown format {to!r}", key="--to", hint=nearest(to, WRITERS))
    writer = WRITERS[to]
    target = target.expanduser().absolute()
    if target.is_relative_to(source.expanduser().absolute()):
        raise ConfigError(f"{target} lies in the set itself", hint="name a new folder beside it")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is there already and not empty", hint="name a new folder")
    data = read(source, format=format, landmarks=landmarks, mm_per_px=mm_per_px, readers=readers)
    fitted, lost = fit(data, writer, truth)
    lost = [*_unread(source, data), *_beside(source, data.format, readers), *lost]
    try:
        with building(target) as work:
            redrawn = _write(fitted, writer, work, link=link)
            _compare(fitted, _read_back(work.resolve(), fitted, writer))
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {(error.strerror or str(error)).lower()}") from error
    return Conversion(data.format, len(fitted.samples), redrawn, tuple(lost), "" if writer.complete else TABLE)


def fit(data: DataSet, writer: Writer, truth: str = MEAN) -> tuple[DataSet, list[str]]:
    """The part of `data` that the format has a place for, and a sentence for each thing that it has not."""
    for sample in data.samples:
        if not plain_name(sample.id):
            raise DataError(f"{sample.path}: {sample.id!r} is no name for a file", hint="rename the film")
        if sample.split not in ORDER:
            raise DataError(f"{sample.path}: no format has a split {sample.split!r}", hint=f"valid: {', '.join(ORDER)}")
    lost: list[str] = []
    data = replace(
        data, samples=tuple(replace(s, spacing_source=s.spacing_source or data.format) for s in data.samples)
    )
    data = _fit_readers(data, writer, truth, lost)
    data = _fit_landmarks(data, writer, lost)
    held = getattr(writer, "labels", ())
    counts = Counter(name for sample in data.samples for name in sample.labels if name not in held)
    lost += [f"{name} of {count} films" for name, count in sorted(counts.items())]
    kept = ({name: s.labels[name] for name in s.labels if name in held} for s in data.samples)
    data = replace(data, samples=tuple(replace(s, labels=k) for s, k in zip(data.samples, kept, strict=True)))
    if bare := [sample.id for sample in data.samples if not sample.valid.any()]:
        lost.append(f"films without a marked landmark: {_some(bare)}")
        data = replace(data, samples=tuple(sample for sample in data.samples if sample.valid.any()))
    if not data.samples:
        raise ConfigError(f"nothing of this set has a place in {writer.name}", key="--to", hint="; ".join(lost))
    return data, lost


def _fit_readers(data: DataSet, writer: Writer, truth: str, lost: list[str]) -> DataSet:
    allowed = writer.readers
    if allowed is None or (set(data.readers) <= set(allowed) and allowed):
        return data
    if len(data.readers) <= len(allowed):
        names = allowed[: len(data.readers)]
        pairs = zip(data.readers, names, strict=True)
        lost.append(f"the names of the readers: {', '.join(f'{old} is written as {new}' for old, new in pairs)}")
        return replace(data, readers=names)
    name = allowed[0] if allowed else ONE_READER
    if data.readers == (name,):
        return data
    if len(data.readers) == 1:
        lost.append(f"the name of the reader, {data.readers[0]}")
        return replace(data, readers=(name,))
    what = "their mean" if truth == MEAN else truth
    lost.append(f"the {len(data.readers)} readers {_some(data.readers)}: one is written, {what}")
    samples = []
    for sample in data.samples:
        points, valid = combine(sample.points, sample.valid, truth, data.readers)
        samples.append(replace(sample, points=points[None], valid=valid[None], outside=None, copied=None))
    return replace(data, readers=(name,), samples=tuple(samples))


def _fit_landmarks(data: DataSet, writer: Writer, lost: list[str]) -> DataSet:
    marked = np.any([sample.valid.any(axis=0) for sample in data.samples], axis=0)
    if never := [symbol for symbol, there in zip(data.landmarks, marked, strict=True) if not there]:
        lost.append(f"landmarks that no film has marked: {_some(never)}")
    keep = [k for k, there in enumerate(marked) if there]
    if writer.landmarks:
        known = set(writer.landmarks)
        if strange := [data.landmarks[k] for k in keep if data.landmarks[k] not in known]:
            lost.append(f"landmarks that {writer.name} does not have: {_some(strange)}")
        keep = [k for k in keep if data.landmarks[k] in known]
    names = tuple(data.landmarks[k] for k in keep)
    if writer.landmarks == () and any(name != f"p{k}" for k, name in enumerate(names, 1)):
        lost.append(f"the names of the landmarks; give them when it is read: data.landmarks=[{', '.join(names)}]")
    return replace(data, landmarks=names, samples=tuple(picked(s, keep) for s in data.samples))


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _unread(source: Path, data: DataSet) -> list[str]:
    """Films that lie in the set but that nothing in it annotates."""
    root = source.expanduser().resolve()
    rest = sorted(set(Films(root).paths) - {sample.path for sample in data.samples})
    names = [path.relative_to(root).as_posix() for path in rest]
    return [f"{len(rest)} films without an annotation: {_some(names)}"] if rest else []


def _beside(source: Path, name: str, readers: Sequence[Reader]) -> list[str]:
    """What lies in the set and is not read, by the reader's own word."""
    pattern, what = next((getattr(reader, "beside", ("", "")) for reader in readers if reader.name == name), ("", ""))
    count = sum(1 for _ in source.glob(pattern)) if pattern else 0
    return [f"{what} of {count} films, which are not read"] if count else []


def _write(data: DataSet, writer: Writer, folder: Path, *, link: bool) -> int:
    """Write films, annotations and the table of films; returns how many films were written as PNG."""
    films: dict[str, str] = {}
    redrawn = 0
    for number, sample in enumerate(data.samples, 1):
        suffix = ".png" if is_dicom(sample.path) else sample.path.suffix
        films[sample.id] = f"{writer.place(sample, number)}{suffix}"
        target = folder / films[sample.id]
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise DataError(f"{sample.path}: another film is {films[sample.id]} already", hint="rename one of them")
        redrawn += _place(sample, target, link=link)
    writer.write(data, folder, films)
    if not writer.complete:
        names = numbered(len(data.landmarks)) if writer.landmarks == () else data.landmarks
        write_table(folder, [(Path(films[sample.id]).stem, sample) for sample in data.samples], names)
    return redrawn


def _place(sample: Sample, target: Path, *, link: bool) -> bool:
    """Put a film's file at `target`; whether it had to be written as PNG."""
    if is_dicom(sample.path):
        Image.fromarray(read_film(sample.path)).save(target)
        return True
    regular(sample.path)
    if link:
        try:
            target.hardlink_to(sample.path)
        except OSError as error:
            raise ConfigError(
                f"cannot link {sample.path}: {(error.strerror or str(error)).lower()}",
                key="--link",
                hint="leave it out, to copy the films",
            ) from error
    else:
        shutil.copyfile(sample.path, target)
    return False


def _read_back(folder: Path, data: DataSet, writer: Writer) -> DataSet:
    """What was written of `data`, with the names of its landmarks where the format only numbers them."""
    reader = next(reader for reader in READERS if reader.name == writer.name)
    found = reader.read(folder, mm_per_px=None)
    return name_landmarks(found, data.landmarks) if writer.landmarks == () else found


def _compare(written: DataSet, found: DataSet) -> None:
    """Raise DataError where a set that was read back differs from what was written."""
    back = {sample.id: sample for sample in found.samples}
    rows = [found.readers.index(reader) for reader in written.readers if reader in found.readers]
    columns = [found.landmarks.index(symbol) for symbol in written.landmarks if symbol in found.landmarks]
    complete = len(rows) == len(written.readers) and len(columns) == len(written.landmarks)
    if not complete or back.keys() != {sample.id for sample in written.samples}:
        raise DataError("the set that was written is not the one that is read back: films, readers or landmarks differ")
    for sample in written.samples:
        other = back[sample.id]
        points = other.points[np.ix_(rows, columns)]
        if not np.allclose(points, sample.points, rtol=0, atol=EXACT_PX, equal_nan=True):
            raise DataError(f"{sample.path}: its points are read back otherwise than they were written")
        if absent_of(sample, written.landmarks) != absent_of(picked(other, columns), written.landmarks):
            raise DataError(f"{sample.path}: its absent landmarks are read back otherwise than they were written")
        for key in ("split", "group", "machine", "size", "mm_per_px", "spacing_source", "labels"):
            if getattr(other, key) != getattr(sample, key):
                raise DataError(f"{sample.path}: {key} is {getattr(sample, key)!r}, read back {getattr(other, key)!r}")
