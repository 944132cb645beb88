"""`ceph-films.csv`: what the format of a set has no place for, a line a film; every reader takes it into account.

    film,id,split,group,machine,mm_per_px,spacing_source,absent

`film` is the film's file without its ending; `absent` lists the landmarks that are not on the film (`UMT; LMT`; one
with a semicolon in its name stands in double quotes). Any other column may be missing and any cell empty: then what the
set itself says holds.
"""

from __future__ import annotations

import csv
import io
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ceph.data.files import inside, read_text
from ceph.data.formats.splits import ORDER
from ceph.data.formats.tables import Row, number_text, parse_rows, write_rows
from ceph.data.types import Sample
from ceph.errors import ConfigError, DataError, Place, nearest

TABLE = "ceph-films.csv"
ABSENT = "absent"  # of a film: the landmarks that are not on it; `UMT absent` is what a tool's flag, tag or choice says
COLUMNS = ("film", "id", "split", "group", "machine", "mm_per_px", "spacing_source", ABSENT)


@dataclass(frozen=True)
class Facts:
    """What is known of a film beside its points; empty, or None, where nothing is."""

    id: str = ""
    split: str = ""
    group: str = ""
    machine: str = ""
    mm_per_px: float | None = None
    source: str = ""
    absent: tuple[str, ...] = ()


_elsewhere: ContextVar[Path | None] = ContextVar("_elsewhere", default=None)


@contextmanager
def table_at(file: Path | None) -> Iterator[None]:
    """Inside, the table of each set that is read is `file` (None: its folder's own)."""
    token = _elsewhere.set(file)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def read_table(folder: Path) -> dict[str, Facts]:
    """The facts by film of the table in `folder`; none where there is no table. DataError names a wrong line."""
    file = _elsewhere.get() or folder / TABLE
    if not file.is_file():
        if _elsewhere.get():
            raise ConfigError(f"there is no file {file}", key="data.films_table", hint=f"name a file like {TABLE}")
        return {}
    columns, rows = parse_rows(read_text(file if _elsewhere.get() else inside(folder, file)), file, ("film",))
    for column in columns:
        if column not in COLUMNS:
            raise DataError(
                f"unknown column {reprlib.repr(column)}", place=Place(str(file), 1, 1), hint=nearest(column, COLUMNS)
            )
    found: dict[str, Facts] = {}
    for row in rows:
        if row["film"] in found:
            row.fail(f"film {reprlib.repr(row['film'])} stands twice")
        found[row["film"]] = facts_of(row)
    return found


def facts_of(row: Row) -> Facts:
    """The facts in the columns of a table; DataError where one cannot be."""
    split = row.get("split")
    if split and split not in ORDER:
        row.fail(f"unknown split {reprlib.repr(split)}", hint=nearest(split, ORDER))
    identity = row.get("id")
    if identity and not plain_name(identity):
        row.fail(f"id {reprlib.repr(identity)} is no name of a film", hint="as a file's name without its folder")
    return Facts(
        identity,
        split,
        row.get("group"),
        row.get("machine"),
        row.spacing("mm_per_px"),
        row.get("spacing_source"),
        tuple(_unlisted(row.get(ABSENT))),
    )


def _unlisted(text: str) -> Iterator[str]:
    """The names in a cell that lists them."""
    for names in csv.reader(io.StringIO(text, newline=""), delimiter=";", skipinitialspace=True):
        yield from filter(None, map(str.strip, names))


def _listed(names: Iterable[str]) -> str:
    """A cell that lists `names`."""
    cells = ((name, '"' + name.replace('"', '""') + '"') for name in names)
    return "; ".join(quoted if ";" in name or name.startswith('"') else name for name, quoted in cells)


def plain_name(name: str) -> bool:
    """Whether `name` can be a file's name on any system: no folder, not hidden, printable, not too long."""
    return (
        0 < len(name.encode("utf-8", "surrogateescape")) <= 200
        and name.isprintable()
        and not name.startswith(".")
        and not name.endswith((" ", "."))
        and not set(name) & set('/\\:*?"<>|')
        and name == name.strip()
    )


def write_table(folder: Path, films: Iterable[tuple[str, Sample]], landmarks: Sequence[str]) -> None:
    """Write the facts of `films`: the name of each film's file without its ending, and the film."""
    rows = [
        (name, sample.id if sample.id != name else "", *facts_cells(sample), _listed(absent_of(sample, landmarks)))
        for name, sample in films
    ]
    said = any(row[-1] for row in rows)
    write_rows(folder / TABLE, COLUMNS if said else COLUMNS[:-1], rows if said else [row[:-1] for row in rows])


def absent_of(sample: Sample, landmarks: Sequence[str]) -> tuple[str, ...]:
    """The landmarks that the set says are not on the film."""
    return () if sample.absent is None else tuple(np.array(landmarks)[sample.absent].tolist())


def said_absent(text: str) -> str:
    """The landmark of a tool's flag, tag or choice such as `UMT absent`; empty where it says something else."""
    symbol, _, word = text.strip().rpartition(" ")
    return symbol.strip() if word.lower() == ABSENT else ""


def facts_cells(sample: Sample) -> tuple[str, ...]:
    """The cells of a film in the columns from `split` on."""
    group = sample.group if sample.group != sample.id else ""
    return sample.split, group, sample.machine, number_text(sample.mm_per_px), sample.spacing_source


def spacing_of(film: str, native: Facts, told: Facts, given: float | None) -> tuple[float | None, str]:
    """The mm per pixel of a film and where it is from: given, else told by the table, else `native`, by the set itself.

    Raises DataError where table and set contradict each other.
    """
    if given is not None:
        return given, "given"
    if told.mm_per_px is None:
        return native.mm_per_px, "" if native.mm_per_px is None else native.source
    if native.mm_per_px is not None and abs(native.mm_per_px - told.mm_per_px) > 1e-6 * native.mm_per_px:
        raise DataError(
            f"film {film} has {native.mm_per_px:g} mm per pixel by the set itself, {told.mm_per_px:g} by {TABLE}",
            hint="correct one of the two",
        )
    return told.mm_per_px, told.source or TABLE
