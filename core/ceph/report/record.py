"""What a run folder holds, put together for its report; what is missing is empty, and what is damaged is noted."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ceph import runfolder
from ceph.data.files import read_text
from ceph.data.names import bare
from ceph.errors import CephError, DataError
from ceph.runfolder import Predictions, Setting, State, mapping

T = TypeVar("T")

TABLE_BYTES = 2 * 2**20


@dataclass(frozen=True)
class Table:
    """A CSV file that is not the core's own, so a plugin's: the header and the rows below it."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def numbers(self, column: int) -> list[float]:
        """A column's numbers; NaN where a cell is none."""
        return [_number(row[column]) for row in self.rows]


@dataclass(frozen=True, eq=False)
class Record:
    """A run folder, read."""

    folder: Path
    state: State | None
    settings: tuple[Setting, ...]
    environment: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]  # the lines of metrics.jsonl
    figures: Mapping[str, Any]  # by split
    splits: Mapping[str, Predictions]  # validation first
    cost: Mapping[str, Any]  # of the plugins
    films: Mapping[str, int]  # how many of each split the run has seen
    untrained: tuple[str, ...]  # landmarks that no training film had
    tables: tuple[Table, ...]
    log: tuple[tuple[str, str], ...]  # (level, message)
    notes: tuple[str, ...]  # what could not be read
    adapted_from: str = ""  # the run of which `ceph adapt` made this one
    members: tuple[str, ...] = ()  # the runs of a folder of several

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    def setting(self, *path: str) -> str:
        """The value of a key as it is written in config.yaml; "" where it is not there."""
        return next((setting.value for setting in self.settings if setting.path == path), "")

    @property
    def plugins(self) -> Mapping[str, Any]:
        """What environment.json says of each plugin, by name."""
        return mapping(self.environment, "plugins")


def read_record(folder: Path) -> Record:
    """Read a run folder."""
    notes: list[str] = []

    def read(reader: Callable[[Path], T], otherwise: T, place: Path = folder) -> T:
        try:
            return reader(place)
        except FileNotFoundError:
            return otherwise
        except (CephError, OSError, ValueError, csv.Error) as error:
            told = error.problems[0] if isinstance(error, CephError) else error
            notes.append(str(told) if place == folder else f"{place.name}: {told}")
            return otherwise

    names = runfolder.predicted_splits(folder)
    scored = {name: read(partial(runfolder.read_predictions, split=name), None) for name in names}
    own = {runfolder.predictions_file(folder, name) for name in names}
    tables = [read(read_table, None, file) for file in sorted(folder.glob("*.csv")) if file not in own]
    nothing: dict[str, Any] = {}
    nobody: tuple[Path, ...] = ()
    fingerprint = read(runfolder.read_fingerprint, nothing)
    seen, untrained = mapping(fingerprint, "films"), fingerprint.get(runfolder.UNTRAINED)
    adapted = read(runfolder.read_adapted, nothing)
    is_run = runfolder.is_run(folder)
    return Record(
        folder,
        read(runfolder.standing, None) if is_run else None,
        read(runfolder.read_settings, ()) if is_run else (),
        read(runfolder.read_environment, nothing),
        read(runfolder.read_records, ()),
        read(runfolder.read_figures, nothing),
        {name: found for name, found in scored.items() if found is not None},
        read(runfolder.read_cost, nothing),
        {split: len(mapping(seen, split)) for split in seen},
        tuple(map(str, untrained)) if isinstance(untrained, list) else (),
        tuple(table for table in tables if table is not None and table.rows),
        read(runfolder.read_log, ()),
        tuple(notes),
        str(adapted.get("from", "")),
        tuple(member.name for member in read(runfolder.read_members, nobody)),
    )


def read_table(file: Path) -> Table:
    """A CSV file with a header. Raises DataError or csv.Error where it is none, or is too large to look at."""
    header, *rows = csv.reader(io.StringIO(read_text(file, limit=TABLE_BYTES), newline=""), strict=True)
    if any(len(row) != len(header) for row in rows):
        raise DataError(f"{file}: has rows of different lengths")
    return Table(file.name, tuple(header), tuple(tuple(map(bare, row)) for row in rows))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
