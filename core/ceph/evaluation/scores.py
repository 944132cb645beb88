"""What runs have found on the films and landmarks that all of them share, read from their folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph.errors import ConfigError, DataError
from ceph.evaluation.statistics import units_of
from ceph.runfolder import (
    Predictions,
    labels,
    predicted_splits,
    predictions_file,
    read_fingerprint,
    read_predictions,
    read_seed,
    require_run,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
TRUTH_PX = 0.0011  # a truth that is written with three decimals and its own are one


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one config, one a seed; `errors_mm` [S, F, K] are NaN where a film has no truth.

    A table of points from elsewhere is a group of its own, its seed None.
    """

    name: str
    runs: tuple[Path, ...]
    seeds: tuple[int | None, ...]
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
class Table:
    """What a run has found on a split, and what it knows of the films: hashes of each and its marks, and its group.

    `run` may also be a table of points that no run of this project has found; its `seed` is None.
    """

    run: Path
    seed: int | None
    found: Predictions
    films: Mapping[str, str]
    groups: Mapping[str, str]

    def at(self, ids: Sequence[str], landmarks: Sequence[str], values: Floats) -> Floats:
        """The values [F, K, ...] of these films and landmarks."""
        row, column = ({name: i for i, name in enumerate(names)} for names in (self.found.ids, self.found.landmarks))
        return values[np.ix_([row[i] for i in ids], [column[k] for k in landmarks])]


def scored_splits(groups: Sequence[tuple[str, Sequence[Path]]]) -> list[str]:
    """The splits for which every run has predictions."""
    sets = [set(predicted_splits(run)) for _, runs in groups for run in runs if run.is_dir()]
    return sorted(set.intersection(*sets)) if sets else []


def choose_split(groups: Sequence[tuple[str, Sequence[Path]]]) -> str:
    """`validation`, or the only split that every run has scored."""
    there = scored_splits(groups)
    return there[0] if len(there) == 1 else "validation"


def read_scores(
    groups: Sequence[tuple[str, Sequence[Path]]], split: str, others: Mapping[Path, Table] | None = None
) -> Scores:
    """What the runs of each group have found on the films and landmarks that all of them share.

    `others` are tables of points that stand in a group in place of a run.
    Raises ConfigError where a run has no predictions of the split or a group has a seed twice. Raises DataError where
    a file is malformed (naming file and line), or two runs were scored against different truth (naming them and the
    film).
    """
    there = others or {}
    tables = [[there[run] if run in there else _read_run(run, split) for run in runs] for _, runs in groups]
    for (name, _), group in zip(groups, tables, strict=True):
        _refuse_a_seed_twice(name, group)
    every = [table for group in tables for table in group]
    ids = _common([table.found.ids for table in every])
    landmarks = _common([table.found.landmarks for table in every])
    if not ids or not landmarks:
        raise DataError(
            f"these runs have no {'landmark' if ids else 'film'} of {split} in common",
            hint="runs are compared on the same data set: see data.path in the config.yaml of each",
        )
    for table in every[1:]:
        _require_same_truth(every[0], table, ids, landmarks)
    errors_mm = {table.run: table.at(ids, landmarks, table.found.errors_mm) for table in every}
    somewhere = np.any([np.isfinite(errors) for errors in errors_mm.values()], axis=0)
    everywhere = np.all([np.isfinite(errors) for errors in errors_mm.values()], axis=0)
    notes = list(_notes(ids, landmarks, every))
    if lacking := int((somewhere & ~everywhere).sum()):
        notes.append(f"left out {lacking} point{'s' if lacking > 1 else ''} that not every run or table has")
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
                np.stack([np.where(everywhere, errors_mm[table.run], np.nan) for table in group]),
            )
            for (name, _), group in zip(groups, tables, strict=True)
        ),
        tuple(notes),
    )


def _common(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """What is in every list, in the order of the first."""
    in_all = set.intersection(*map(set, lists))
    return tuple(name for name in lists[0] if name in in_all)


def _refuse_a_seed_twice(name: str, group: Sequence[Table]) -> None:
    first: dict[int | None, Path] = {}
    for table in group:
        if table.seed in first:
            raise ConfigError(
                f"{name} has seed {table.seed} twice: {first[table.seed]} and {table.run}",
                hint="the same seed again is no new evidence; leave one of them out",
            )
        first[table.seed] = table.run


def _require_same_truth(first: Table, other: Table, ids: Sequence[str], landmarks: Sequence[str]) -> None:
    same = _equal(first.at(ids, landmarks, first.found.truth_px), other.at(ids, landmarks, other.found.truth_px))
    for i, film in enumerate(ids):
        known = first.films.get(film, ""), other.films.get(film, "")
        if first.found.landmarks != other.found.landmarks:  # marks of other landmarks have another digest
            known = known[0].rpartition(":")[0], known[1].rpartition(":")[0]
        if not same[i] or (all(known) and known[0] != known[1]):
            what = "the film or its marks" if same[i] else "the truth"
            raise DataError(
                f"{what} of {film} differ{'' if same[i] else 's'} between {first.run} and {other.run}",
                hint="score both against the same data and truth; see data.path and data.truth in their config.yaml",
            )


def _equal(a: Floats, b: Floats) -> NDArray[np.bool_]:
    """For each film, whether the points [F, K, 2] are the same, as exactly as a run writes them."""
    return np.asarray(((np.abs(a - b) < TRUTH_PX) | (np.isnan(a) & np.isnan(b))).all(axis=(1, 2)))


def _units(ids: Sequence[str], tables: Iterable[Table]) -> Integers:
    """Number the films [F] by the unit they belong to: those of one group, and those whose pixels are the same."""
    labels: list[set[tuple[str, str]]] = [set() for _ in ids]
    for table in tables:
        for i, film in enumerate(ids):
            known = ("pixels", table.films.get(film, "").rpartition(":")[0]), ("group", table.groups.get(film, ""))
            labels[i].update(label for label in known if label[1])
    return units_of(labels)


def _notes(ids: Sequence[str], landmarks: Sequence[str], tables: Sequence[Table]) -> Iterable[str]:
    films = len({film for table in tables for film in table.found.ids}) - len(ids)
    if films:
        yield f"left out {films} film{'s' if films > 1 else ''} that not every run has scored"
    symbols = sorted({symbol for table in tables for symbol in table.found.landmarks} - set(landmarks))
    if symbols:
        yield f"left out landmarks that not every run has: {' '.join(symbols)}"
    if not any(table.groups or table.films for table in tables):
        yield "the runs do not say which films are of one patient: each film counts as independent"


def _read_run(run: Path, split: str) -> Table:
    require_run(run)
    if not predictions_file(run, split).is_file():
        raise ConfigError(f"{run} has not scored {split}", hint=f"ceph evaluate {run} --split {split}")
    seen = read_fingerprint(run)
    found = read_predictions(run, split)
    films, groups = (labels(seen, part, split) for part in ("films", "groups"))
    return Table(run, read_seed(run), found, films, groups)
