"""Score points that any tool has found, out of a table, as those of a run are: the same films, truth and figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ceph import runfolder
from ceph.config.load import resolve, resolve_run
from ceph.config.models import Config
from ceph.data.cache import digests
from ceph.data.formats.base import DataSet, picked
from ceph.data.formats.points import OnFilms, on_films, read_points
from ceph.data.types import Flags, Sample
from ceph.errors import ConfigError, nearest
from ceph.evaluation.floor import floor_figures
from ceph.evaluation.metrics import intervals, radial_errors_mm, summarise
from ceph.evaluation.scores import Table
from ceph.evaluation.statistics import units_of
from ceph.measuring.agreement import measurement_figures
from ceph.run.assembly import make_hooks
from ceph.run.films import plain_truth, read_data

log = logging.getLogger("ceph")

NAMED = 8  # films or landmarks that a warning names


@dataclass(frozen=True, eq=False)
class Scored:
    """Points of a table on films of a split, with the truth and the errors; `digests` are of the films' pixels."""

    split: str
    truth: str
    readers: tuple[str, ...]
    found: runfolder.Predictions
    samples: tuple[Sample, ...]
    digests: tuple[str, ...]


def evaluate(
    *, predictions: Path | str, data: Path | str | None = None, split: str | None = None, settings: Sequence[str] = ()
) -> tuple[dict[str, Any], str]:
    """Figures of the points in the table `predictions` (CSV) on the set in the folder `data`, and the split's name.

    Without `split` the table's films must be of one; `settings` are `KEY=VALUE` texts as for `--set`, such as
    `data.truth=senior`. Films and landmarks that stand on one side only, or have no truth, are warned of. Raises
    ConfigError, and DataError where the table is malformed or has a point outside its film.
    """
    return figures_of(scored := _score_with(Path(predictions), None, data, split, settings)), scored.split


def table_beside(
    file: Path, run: Path | None, *, data: Path | str | None, split: str | None, settings: Sequence[str] = ()
) -> tuple[Table, str]:
    """The points in `file` as `read_scores` takes them, on the set of `run` or in `data`; and their split."""
    scored = _score_with(file, run, data, split, settings)
    marks = runfolder.fingerprint(scored.samples, scored.digests, scored.found.landmarks)
    films, groups = (runfolder.labels(marks, part, scored.split) for part in ("films", "groups"))
    return Table(file, None, scored.found, films, groups), scored.split


def figures_of(scored: Scored) -> dict[str, Any]:
    """The figures of a split, as `ceph evaluate` of a run gives them."""
    errors_mm = scored.found.errors_mm
    labels = [{("group", s.group), ("pixels", d)} for s, d in zip(scored.samples, scored.digests, strict=True)]
    figures = summarise(errors_mm, scored.found.landmarks, scored.truth)
    figures["interval_95"] = intervals(errors_mm, units := units_of(labels))
    of = scored.found.points_px, scored.found.truth_px, scored.samples, scored.found.landmarks
    floor = floor_figures(*of, scored.readers, scored.truth, units)
    return {**figures, **floor, **measurement_figures(*of, scored.readers)}


def _score_with(
    file: Path, run: Path | None, data: Path | str | None, split: str | None, settings: Sequence[str]
) -> Scored:
    folder = None if data is None else Path(data)
    if run is None:
        resolved = resolve(data=folder, settings=settings, reading=True)
    else:
        resolved = resolve_run(run, data=folder, settings=settings)
    if run is None and resolved.config.data.path is None:
        raise ConfigError(f"nothing says which films the points in {file} are of", key="--data", hint="--data FOLDER")
    return score(file, read_data(resolved.config, make_hooks(resolved)), resolved.config, split)


def score(file: Path, data: DataSet, config: Config, split: str | None) -> Scored:
    """The points in `file` on the films of a split of `data`, against the truth that `config` names."""
    laid = on_films(read_points(file), data.samples, data.landmarks)
    name = split or _split_of(laid, file)
    chosen = [n for n, sample in enumerate(laid.samples) if sample.split == name]
    if not chosen:
        there = sorted({sample.split for sample in data.samples})
        what = f"{file} has no films of {name}" if name in there else f"the set has no split {name!r}"
        raise ConfigError(what, key="--split", hint=nearest(name, there))
    columns, truth = [data.landmarks.index(symbol) for symbol in laid.landmarks], plain_truth(config, data)
    samples = tuple(picked(laid.samples[n], columns) for n in chosen)
    truth_px, known = (np.stack([truth(sample, 0)[part] for sample in samples]) for part in (0, 1))
    points_px, spacing = laid.points_px[chosen], np.array([sample.mm_per_px for sample in samples])
    errors_mm = radial_errors_mm(points_px, truth_px, known, spacing)
    ids, unknown = tuple(sample.id for sample in samples), np.full(errors_mm.shape, np.nan)
    found = runfolder.Predictions(ids, laid.landmarks, points_px, unknown, truth_px, errors_mm)
    _warn(file, laid, [s.id for s in data.samples if s.split == name], data.landmarks, found)
    return Scored(
        name, config.data.truth, data.readers, found, samples, tuple(digests([sample.path for sample in samples]))
    )


def _split_of(laid: OnFilms, file: Path) -> str:
    splits = sorted({sample.split for sample in laid.samples})
    if len(splits) > 1:
        raise ConfigError(f"{file} has films of {', '.join(splits)}", key="--split", hint=f"--split {splits[0]}")
    return splits[0]


def _warn(
    file: Path, laid: OnFilms, films: Sequence[str], landmarks: Sequence[str], found: runfolder.Predictions
) -> None:
    """Warn of all that is not scored."""
    pointed, true = (np.asarray(np.isfinite(points).all(axis=-1)) for points in (found.points_px, found.truth_px))
    films_true, landmarks_true = (np.asarray(true.any(axis=axis)) for axis in (1, 0))
    lacking = np.asarray((pointed & ~true & films_true[:, None] & landmarks_true).any(axis=0))
    for what, names in (
        ("films that the set does not have", laid.strange_films),
        ("landmarks that the set does not have", laid.strange_landmarks),
        ("films without points", [film for film in films if film not in found.ids]),
        ("landmarks without points", [symbol for symbol in landmarks if symbol not in found.landmarks]),
        ("films without truth", [film for film, marked in zip(found.ids, films_true, strict=True) if not marked]),
        ("landmarks without truth in any film", _columns(found, ~landmarks_true)),
        ("landmarks without truth in some films", _columns(found, lacking)),
        ("landmarks without a point in some films", _columns(found, np.asarray((~pointed & true).any(axis=0)))),
    ):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            log.warning("%s: not scored: %s: %s%s", file, what, ", ".join(names[:NAMED]), more)


def _columns(found: runfolder.Predictions, chosen: Flags) -> list[str]:
    return [symbol for symbol, one in zip(found.landmarks, chosen, strict=True) if one]
