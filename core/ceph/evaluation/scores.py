"""What runs have found on the films and landmarks that all of them share, read from their folders."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph.data.files import read_text
from ceph.data.strict_json import Field, read_json
from ceph.errors import ConfigError, DataError
from ceph.evaluation.runs import read_seed
from ceph.evaluation.statistics import units_of

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HEADER = ["image_id", "symbol", "x_px", "y_px", "score", "true_x_px", "true_y_px", "error_mm"]


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one config, one a seed; `errors_mm` [S, F, K] are NaN where a film has no truth."""

    name: str
    runs: tuple[Path, ...]
    seeds: tuple[int, ...]
    errors_mm: Floats


@dataclass(frozen=True, eq=False)
class Scores:
    """Groups of runs on the films [F] and landmarks [K] that all have scored.

    Films of equal `units` [F] are one piece of evidence; `notes` say what was left out, or is not known.
    """

    split: str
    ids: tuple[str, ...]
    landmarks: tuple[str, ...]
    units: Integers
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Table:
    """predictions-<split>.csv of a run: `errors_mm` [F, K] and `truth_px` [F, K, 2], NaN where there is no truth."""

    run: Path
    seed: int
    ids: tuple[str, ...]
    landmarks: tuple[str, ...]
    errors_mm: Floats
    truth_px: Floats
    films: Mapping[str, str]
    groups: Mapping[str, str]

    def at(self, ids: Sequence[str], landmarks: Sequence[str], values: Floats) -> Floats:
        """The values [F, K, ...] of these films and landmarks."""
        row, column = ({name: i for i, name in enumerate(names)} for names in (self.ids, self.landmarks))
        return values[np.ix_([row[i] for i in ids], [column[k] for k in landmarks])]


def scored_splits(groups: Sequence[tuple[str, Sequence[Path]]]) -> list[str]:
    """The splits for which every run has predictions."""
    sets = [{f.stem.partition("-")[2] for f in run.glob("predictions-*.csv")} for _, runs in groups for run in runs]
    return sorted(set.intersection(*sets)) if sets else []


def choose_split(groups: Sequence[tuple[str, Sequence[Path]]]) -> str:
    """`validation`, or the only split that every run has scored."""
    there = scored_splits(groups)
    return there[0] if len(there) == 1 else "validation"


def read_scores(groups: Sequence[tuple[str, Sequence[Path]]], split: str) -> Scores:
    """What the runs of each group have found on the films and landmarks that all of them share.

    Raises ConfigError where a run has no predictions of the split or a group has a seed twice. Raises DataError where
    a file is malformed (naming file and line), or two runs were scored against different truth (naming them and the
    film).
    """
    tables = [[_read_run(run, split) for run in runs] for _, runs in groups]
    for (name, _), group in zip(groups, tables, strict=True):
        _refuse_a_seed_twice(name, group)
    every = [table for group in tables for table in group]
    ids = _common([table.ids for table in every])
    landmarks = _common([table.landmarks for table in every])
    if not ids or not landmarks:
        raise DataError(
            f"these runs have no {'landmark' if ids else 'film'} of {split} in common",
            hint="runs are compared on the same data set: see data.path in the config.yaml of each",
        )
    for table in every[1:]:
        _require_same_truth(every[0], table, ids, landmarks)
    return Scores(
        split,
        ids,
        landmarks,
        _units(ids, every),
        tuple(
            Group(
                name,
                tuple(table.run for table in group),
                tuple(table.seed for table in group),
                np.stack([table.at(ids, landmarks, table.errors_mm) for table in group]),
            )
            for (name, _), group in zip(groups, tables, strict=True)
        ),
        tuple(_notes(ids, landmarks, every)),
    )


def _common(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """What is in every list, in the order of the first."""
    in_all = set.intersection(*map(set, lists))
    return tuple(name for name in lists[0] if name in in_all)


def _refuse_a_seed_twice(name: str, group: Sequence[_Table]) -> None:
    first: dict[int, Path] = {}
    for table in group:
        if table.seed in first:
            raise ConfigError(
                f"{name} has seed {table.seed} twice: {first[table.seed]} and {table.run}",
                hint="the same seed again is no new evidence; leave one of them out",
            )
        first[table.seed] = table.run


def _require_same_truth(first: _Table, other: _Table, ids: Sequence[str], landmarks: Sequence[str]) -> None:
    same = _equal(first.at(ids, landmarks, first.truth_px), other.at(ids, landmarks, other.truth_px))
    for i, film in enumerate(ids):
        known = first.films.get(film, ""), other.films.get(film, "")
        if first.landmarks != other.landmarks:  # marks of other landmarks have another digest
            known = known[0].rpartition(":")[0], known[1].rpartition(":")[0]
        if not same[i] or (all(known) and known[0] != known[1]):
            what = "the film or its marks" if same[i] else "the truth"
            raise DataError(
                f"{what} of {film} differ{'' if same[i] else 's'} between {first.run} and {other.run}",
                hint="score both against the same data and truth; see data.path and data.truth in their config.yaml",
            )


def _equal(a: Floats, b: Floats) -> NDArray[np.bool_]:
    """For each film, whether the points [F, K, 2] are the same."""
    return np.asarray(((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=(1, 2)))


def _units(ids: Sequence[str], tables: Iterable[_Table]) -> Integers:
    """Number the films [F] by the unit they belong to: those of one group, and those whose pixels are the same."""
    labels: list[set[tuple[str, str]]] = [set() for _ in ids]
    for table in tables:
        for i, film in enumerate(ids):
            known = ("pixels", table.films.get(film, "").rpartition(":")[0]), ("group", table.groups.get(film, ""))
            labels[i].update(label for label in known if label[1])
    return units_of(labels)


def _notes(ids: Sequence[str], landmarks: Sequence[str], tables: Sequence[_Table]) -> Iterable[str]:
    films = len({film for table in tables for film in table.ids}) - len(ids)
    if films:
        yield f"left out {films} film{'s' if films > 1 else ''} that not every run has scored"
    symbols = sorted({symbol for table in tables for symbol in table.landmarks} - set(landmarks))
    if symbols:
        yield f"left out landmarks that not every run has: {' '.join(symbols)}"
    if not any(table.groups or table.films for table in tables):
        yield "the runs do not say which films are of one patient: each film counts as independent"


def _read_run(run: Path, split: str) -> _Table:
    file = run / f"predictions-{split}.csv"
    if not file.is_file():
        raise ConfigError(f"{run} has not scored {split}", hint=f"ceph evaluate {run} --split {split}")
    fingerprint = run / "data_fingerprint.json"
    whole = read_json(fingerprint) if fingerprint.is_file() else Field({}, fingerprint)
    ids, landmarks, errors, truth = _read_predictions(file)
    return _Table(
        run,
        read_seed(run),
        ids,
        landmarks,
        errors,
        truth,
        _labels(whole, "films", split),
        _labels(whole, "groups", split),
    )


def _labels(fingerprint: Field, part: str, split: str) -> dict[str, str]:
    """`{film: label}` of a split, empty where the run has none."""
    splits = fingerprint.get(part)
    films = splits.get(split) if splits is not None else None
    if films is None:
        return {}
    if not isinstance(films.value, dict):
        films.fail("must be an object")
    return {film: films[film].text() for film in films.value}


def _read_predictions(file: Path) -> tuple[tuple[str, ...], tuple[str, ...], Floats, Floats]:
    """Films, landmarks, errors [F, K] in mm and true points [F, K, 2] of predictions-<split>.csv."""
    cells: dict[tuple[str, str], tuple[float, float, float]] = {}
    ids: dict[str, int] = {}
    landmarks: dict[str, int] = {}
    for line, row in _rows(file):
        film, symbol = row[:2]
        if (film, symbol) in cells:
            raise _wrong(file, line, f"{symbol} of {film} stands there twice")
        ids.setdefault(film, line)
        landmarks.setdefault(symbol, line)
        for name, text in zip(HEADER[2:5], row[2:5], strict=True):
            _number(file, line, name, text)
        if any(row[5:]) and not all(row[5:]):
            raise _wrong(file, line, "the truth and its error must be given together, or not at all")
        x, y, error = (
            _number(file, line, name, text) if text else math.nan
            for name, text in zip(HEADER[5:], row[5:], strict=True)
        )
        if error < 0:
            raise _wrong(file, line, f"error_mm must not be negative: {row[7]}")
        cells[film, symbol] = x, y, error
    missing = next(((i, k) for i in ids for k in landmarks if (i, k) not in cells), None)
    if not cells or missing:
        raise DataError(f"{file}: {f'{missing[1]} of {missing[0]} is missing' if missing else 'holds no predictions'}")
    values = np.array([[cells[i, k] for k in landmarks] for i in ids])
    return tuple(ids), tuple(landmarks), values[:, :, 2], values[:, :, :2]


def _rows(file: Path) -> Iterable[tuple[int, list[str]]]:
    """The rows below the header, with the number of their line."""
    lines = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
    try:
        header = next(lines, [])
        if header != HEADER:
            raise _wrong(file, 1, f"the header must be {','.join(HEADER)}")
        for row in lines:
            if len(row) != len(HEADER):
                raise _wrong(file, lines.line_num, f"{len(row)} values where there must be {len(HEADER)}")
            yield lines.line_num, row
    except csv.Error as error:
        raise _wrong(file, lines.line_num, f"is not CSV: {error}") from error


def _number(file: Path, line: int, name: str, text: str) -> float:
    """The finite number that a cell holds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(file, line, f"{name} must be a number, not {text[:40]!r}")
    return value


def _wrong(file: Path, line: int, what: str) -> DataError:
    return DataError(f"{file}:{line}: {what}")
