"""What a run folder holds, read for its report; what is missing is empty, and what is damaged is noted."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.files import read_text
from ceph.data.strict_json import parse_json, read_json
from ceph.data.types import Points
from ceph.errors import CephError, DataError

Floats = NDArray[np.float64]

PREDICTIONS = "predictions-"
TABLE_BYTES = 2 * 2**20
_SETTING = re.compile(
    r'(?P<indent> *)(?P<key>"(?:\\.|[^"\\])*"|[^"#:]+):(?P<value>(?:"(?:\\.|[^"\\])*"|[^"#])*)(?:#(?P<origin>.*))?'
)
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) (?P<message>.*)")


@dataclass(frozen=True)
class Setting:
    """A line of config.yaml: the names of its key, the value as written ("" for a section), and where it came from."""

    path: tuple[str, ...]
    value: str
    origin: str


@dataclass(frozen=True, eq=False)
class Scored:
    """A split that was scored: points [F, K, 2] in film px and errors [F, K] in mm, NaN where there is no truth."""

    split: str
    ids: tuple[str, ...]
    landmarks: tuple[str, ...]
    found_px: Points
    truth_px: Points
    errors_mm: Floats


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
    settings: tuple[Setting, ...]
    environment: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]  # the lines of metrics.jsonl
    figures: Mapping[str, Any]  # metrics.json: by split
    splits: tuple[Scored, ...]
    cost: Mapping[str, Any]  # hooks.json
    films: Mapping[str, int]  # how many of each split the run has seen
    tables: tuple[Table, ...]
    log: tuple[tuple[str, str], ...]  # (level, message) of log.txt
    notes: tuple[str, ...]  # what could not be read

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

    def read(name: str, reader: Any, otherwise: Any) -> Any:
        try:
            return reader(folder / name) if (folder / name).is_file() else otherwise
        except (CephError, OSError, ValueError, csv.Error) as error:
            notes.append(str(error) if name in str(error) else f"{name}: {error}")
            return otherwise

    figures = mapping(read("metrics.json", _json, {}))
    seen = mapping(read("data_fingerprint.json", _json, {}), "films")
    scored, tables = [], []
    for file in sorted(folder.glob("*.csv")):
        if file.name.startswith(PREDICTIONS):
            scored.append(read(file.name, read_predictions, None))
        else:
            tables.append(read(file.name, read_table, None))
    splits = [split for split in scored if split is not None]
    return Record(
        folder,
        read("config.yaml", read_settings, ()),
        mapping(read("environment.json", _json, {})),
        read("metrics.jsonl", read_epochs, ()),
        figures,
        tuple(sorted(splits, key=lambda split: (split.split != "validation", split.split))),
        mapping(read("hooks.json", _json, {})),
        {split: len(mapping(seen, split)) for split in seen},
        tuple(table for table in tables if table is not None and table.rows),
        read("log.txt", read_log, ()),
        tuple(notes),
    )


def mapping(value: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at `path` inside of a value; empty where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def number(value: Any, *path: str) -> float:
    """The number at `path` inside of a value; NaN where there is none."""
    *parents, name = path
    found = mapping(value, *parents).get(name)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else math.nan


def _json(file: Path) -> Any:
    return read_json(file).value


def read_epochs(file: Path) -> tuple[Mapping[str, Any], ...]:
    """The epochs of metrics.jsonl. Raises DataError for a line that is no JSON."""
    return tuple(mapping(parse_json(line, file)) for line in read_text(file, limit=2**27).splitlines() if line.strip())


def read_settings(file: Path) -> tuple[Setting, ...]:
    """The lines of a run's config.yaml, which is block YAML with a key a line and its origin behind it."""
    found: list[Setting] = []
    path: tuple[str, ...] = ()
    for line in read_text(file).splitlines():
        match = _SETTING.fullmatch(line)
        if match is None or len(match["indent"]) // 2 > len(path):
            raise DataError(f"{file}: is not as a run writes its config: {line[:80]!r}")
        path = (*path[: len(match["indent"]) // 2], match["key"].strip('"'))
        found.append(Setting(path, match["value"].strip(), (match["origin"] or "").strip()))
    return tuple(found)


def read_log(file: Path) -> tuple[tuple[str, str], ...]:
    """(level, message) of each line of log.txt that begins an entry; a damaged character is replaced."""
    lines = file.read_text("utf-8", errors="replace").splitlines()
    found = (_LOGGED.fullmatch(line) for line in lines)
    return tuple((match["level"], match["message"]) for match in found if match)


def read_table(file: Path) -> Table:
    """A CSV file with a header. Raises DataError or csv.Error where it is none, or is too large to look at."""
    header, *rows = csv.reader(io.StringIO(read_text(file, limit=TABLE_BYTES), newline=""), strict=True)
    if any(len(row) != len(header) for row in rows):
        raise DataError(f"{file}: has rows of different lengths")
    return Table(file.name, tuple(header), tuple(map(tuple, rows)))


def read_predictions(file: Path) -> Scored:
    """A file of predictions. Raises DataError or csv.Error where it is none."""
    cells: dict[tuple[str, str], Sequence[float]] = {}
    for row in csv.DictReader(io.StringIO(read_text(file, limit=2**27), newline=""), strict=True):
        try:
            cells[row["image_id"], row["symbol"]] = [
                float(row[name] or "nan") for name in ("x_px", "y_px", "true_x_px", "true_y_px", "error_mm")
            ]
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{file}: is not as a run writes its predictions ({error})") from error
    if not cells:
        raise DataError(f"{file}: holds no predictions")
    ids, landmarks = (tuple(dict.fromkeys(key[part] for key in cells)) for part in (0, 1))
    nothing = (math.nan,) * 5
    values = np.array([[cells.get((film, symbol), nothing) for symbol in landmarks] for film in ids])
    split = file.stem.removeprefix(PREDICTIONS)
    return Scored(split, ids, landmarks, values[..., 0:2], values[..., 2:4], values[..., 4])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
