"""Move a run to another place: an offset for each landmark, learned from a few films that were marked there."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ceph import runfolder
from ceph.config.load import Resolved, resolve_run
from ceph.data.check.quick import trained_on
from ceph.data.dataset import Films
from ceph.data.files import read_text
from ceph.data.plausible import impossible
from ceph.data.types import Points, Sample
from ceph.errors import ConfigError, DataError, Problem, nearest
from ceph.evaluation.difficulty import Shape, difficulty
from ceph.evaluation.difficulty import learn as learn_shape
from ceph.evaluation.gate import Usual
from ceph.evaluation.offsets import (
    Gain,
    Offsets,
    errors_by_others,
    expected,
    learn,
    mean_shape,
    mirrored,
    turned,
    turns,
    ways,
)
from ceph.evaluation.radius import Radii, learn_of_few
from ceph.evaluation.stations import HeadOffsets
from ceph.run import held_out
from ceph.run.averaged import Averaged
from ceph.run.films import films_of, plain_truth, read_data
from ceph.run.report import report_if_possible
from ceph.run.trained import HELD_OUT, TRAINING_SPLITS, Trained, load
from ceph.training import checkpoint

log = logging.getLogger("ceph")

LEAST_FILMS, FEW_FILMS = 3, 5
HEAD = (0.7, 1.4)  # how large a head can be, against the mean one of the run


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What `films` have taught, and what it is expected to bring; `folder` is None where no gain is shown.

    `radii` are of its points, None where too few are marked.
    """

    films: tuple[str, ...]
    landmarks: tuple[str, ...]
    offsets: Offsets
    gain: Gain
    radii: Radii | None
    folder: Path | None

    @property
    def strange(self) -> tuple[str, ...]:
        """The films that were left out, since they lie far from where all others agree."""
        return tuple(film for film, out in zip(self.films, self.offsets.strange, strict=True) if out)


def adapt(
    run: Path | str,
    data: Path | str,
    *,
    out: Path | str,
    films: int | None = None,
    ids: Sequence[str] | None = None,
    settings: Sequence[str] = (),
) -> Adaptation:
    """Learn from the marked films of `data` what its readers mean by each landmark; write `run` with it as run `out`.

    All marked films count, whatever their split: the first so many (`films`), or those of `ids`. `settings` are
    `KEY=VALUE` texts as for `--set`; of the run's own set they keep nothing (its spacing, its format). Where the films
    do not show a gain, nothing is written. Raises ConfigError for a wrong call, DataError for films that cannot teach.
    """
    where, target = runfolder.located(run), Path(out)
    runfolder.require_run(where)
    if runfolder.is_adapted(where):
        origin = str(runfolder.read_adapted(where).get("from", ""))
        raise ConfigError(f"{where} is adapted itself", hint=f"adapt the run that it was made of, {origin}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is there already", key="--out", hint="name a new folder")
    resolved = resolve_run(where, data=Path(data), settings=(*settings, "data.fold=null"))
    members = tuple(load(member) for member in runfolder.read_members(where))
    trained = Averaged(where, resolved, members) if members else Trained(where, resolved)
    if len(trained.landmarks) < 2:
        raise ConfigError(f"{where} finds a single landmark: it takes two to say how a head lies")
    marked = _marked(trained, films, ids)
    shape, usual, heads = _known(where, trained.landmarks)
    found = trained.found(held_out.ADAPT, marked)
    mm = np.array([sample.mm_per_px for sample in marked.samples])[:, None, None]
    points, truth, valid = found.points_px * mm, np.where(found.valid[..., None], found.truth_px, 0) * mm, found.valid
    _refuse_mirrored(marked.samples, truth, valid, shape)
    turn = turns(points, shape)
    for sample, size in zip(marked.samples, 1 / np.abs(turn), strict=True):
        if not HEAD[0] < size < HEAD[1]:
            log.warning("%s: its head is %.2f times that of the run's films: is its spacing right?", sample.path, size)
    offsets = learn(turned(truth - points, turn) * valid[..., None], valid, usual)
    ids = tuple(sample.id for sample in marked.samples)
    for sample, out_of_place in zip(marked.samples, offsets.strange, strict=True):
        if out_of_place:
            log.warning("%s: left out, its points lie elsewhere than those of all others: mislabelled?", sample.path)
    used = len(ids) - int(offsets.strange.sum())
    _require_enough(used)
    if used < FEW_FILMS:
        log.warning("only %d films: what they gain is uncertain; 5 to 10 tell much more", used)
    before, after = errors_by_others(points, truth, valid, shape, offsets.strange, usual)
    gain, heads = expected(before, after), trained.known.shape or heads
    hard = difficulty(found.scores, found.spread_px * mm[..., 0], heads.apart_mm(points))
    radii = learn_of_few(after, hard, trained.known.radii)
    made = Adaptation(ids, trained.landmarks, offsets, gain, radii, target if gain.shown else None)
    if gain.shown:
        _write(made, trained, resolved, marked, shape, heads, target)
    return made


def read_ids(file: Path) -> tuple[str, ...]:
    """The ids of films in a file, one a line. Raises ConfigError where it cannot be read or holds none."""
    try:
        ids = tuple(dict.fromkeys(line.strip() for line in read_text(file).splitlines() if line.strip()))
    except (OSError, DataError) as error:
        raise ConfigError(f"cannot read {file}: {error}", key="--ids") from None
    if not ids:
        raise ConfigError(f"{file} names no film", key="--ids", hint="write the id of a film in each line")
    return ids


def _require_enough(films: int) -> None:
    if films < LEAST_FILMS:
        raise DataError(
            f"{films} marked film{'' if films == 1 else 's'} to learn from: too few to tell a habit from chance",
            key="--data",
            hint="mark at least 3, better 5 to 10",
        )


def _marked(trained: Trained, count: int | None, ids: Sequence[str] | None) -> Films:
    """The films to learn from. Raises ConfigError for ids that are not there, DataError where too few are marked."""
    config = trained.config
    found = read_data(config, trained.hooks, shared=trained.landmarks)
    truth = plain_truth(config, found)
    samples = [sample for sample in found.samples if truth(sample, 0)[1].any()]
    if ids is not None:
        by_id = {sample.id: sample for sample in samples}
        unknown = [Problem(f"no marked film {i!r}", "--ids", hint=nearest(i, by_id)) for i in ids if i not in by_id]
        if unknown:
            raise ConfigError(unknown)
        samples = [by_id[i] for i in ids]
    samples = samples[:count]
    _require_enough(len(samples))
    films = films_of(samples, found, config)
    for problem in impossible(samples, found.landmarks):
        log.warning(problem.what)
    known = runfolder.read_fingerprint(trained.folder)
    seen = {split: runfolder.labels(known, "films", split) for split in TRAINING_SPLITS}
    for line in trained_on(samples, films.digests, seen):
        log.warning(line)
    return films


def _known(run: Path, landmarks: Sequence[str]) -> tuple[Points, NDArray[np.float64], Shape]:
    """Of films held out: the mean shape [K, 2] in mm of what the run has found, where it errs (`ways`), how heads lie.

    Raises ConfigError, DataError.
    """
    there = [split for split in HELD_OUT if runfolder.predictions_file(run, split).is_file()]
    if not there:
        raise ConfigError(f"{run} has found nothing on its validation films yet", hint=f"ceph evaluate {run}")
    found = runfolder.read_predictions(run, there[0])
    if set(found.landmarks) != set(landmarks):
        raise DataError(f"{run}: its predictions are not of the landmarks of its network", hint=f"ceph evaluate {run}")
    apart_px = np.linalg.norm(found.points_px - found.truth_px, axis=-1)
    mm_per_px = np.nanmedian(found.errors_mm / np.where(apart_px > 0.1, apart_px, np.nan), axis=1)
    films, order = np.isfinite(mm_per_px), [found.landmarks.index(symbol) for symbol in landmarks]
    points, truth = ((px * mm_per_px[:, None, None])[films][:, order] for px in (found.points_px, found.truth_px))
    shape = mean_shape(points)
    moves = turned(truth - points, turns(points, shape))
    valid = ~np.isnan(moves[..., 0])
    return shape, ways(np.nan_to_num(moves), valid), learn_shape(truth)


def _refuse_mirrored(samples: Sequence[Sample], truth: Points, valid: np.ndarray[Any, Any], shape: Points) -> None:
    wrong = [
        Problem(
            f"{sample.path}: its points show a head that faces the other way", hint="mirror the film and its points"
        )
        for sample, points, there in zip(samples, truth, valid, strict=True)
        if there.sum() > 2 and mirrored(points, there, shape)
    ]
    if wrong:
        raise DataError(wrong)


def _write(
    made: Adaptation, trained: Trained, resolved: Resolved, films: Films, shape: Points, heads: Shape, target: Path
) -> None:
    station = HeadOffsets(torch.from_numpy(shape), torch.from_numpy(made.offsets.offsets_mm))
    names = [member.folder.name for member in trained.members]
    environment = runfolder.read_environment(trained.folder)
    now = runfolder.environment(environment.get("plugins", {}), str(trained.runtime.device), trained.folder)
    now |= {"licence": environment["licence"]} if "licence" in environment else {}
    known = runfolder.read_fingerprint(trained.folder)
    taught = runfolder.fingerprint(films.samples, films.digests, made.landmarks)
    seen = {p: {**runfolder.mapping(known, p), held_out.ADAPT: _joined(taught[p])} for p in ("films", "groups")}
    with ExitStack() as stack:
        stack.enter_context(runfolder.created(target))
        runfolder.write_adapted(target, _told(made, trained.folder, resolved))
        stack.enter_context(runfolder.recorded(target))
        copies = runfolder.copy_plugins(target, {n: p.file for n, p in resolved.plugins.items() if p.file})
        runfolder.write_text(target / runfolder.CONFIG, resolved.dump(copies))
        runfolder.write_environment(target, now)
        runfolder.write_fingerprint(target, {**known, **seen})
        for name in names:
            runfolder.copy_run(trained.folder / runfolder.INSIDE / name, target / runfolder.INSIDE / name)
            (target / runfolder.INSIDE / name / runfolder.HELD_OUT).unlink(missing_ok=True)  # radii of the old place
        if names:
            runfolder.write_members(target, names)
        if made.radii is not None:
            gate = trained.known.usual or Usual(heads, math.nan, np.full(len(made.landmarks), math.nan))
            usual = replace(gate, shape=heads.moved(made.offsets.offsets_mm, shape))
            held_out.write(target, held_out.ADAPT, made.landmarks, made.radii, usual)
        for place in [Path(runfolder.INSIDE, name) for name in names] or [Path()]:  # each run alone is adapted as well
            content = checkpoint.load(trained.folder / place / runfolder.CHECKPOINTS, checkpoint.BEST)
            content["stations"] = {**content["stations"], "adapt": station.state_dict()}
            checkpoint.save(target / place / runfolder.CHECKPOINTS, checkpoint.BEST, content)
    report_if_possible(target)


def _joined(by_split: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {film: mark for films in by_split.values() for film, mark in films.items()}


def _told(made: Adaptation, origin: Path, resolved: Resolved) -> dict[str, Any]:
    """What adapt.json keeps."""
    learned = made.offsets
    return {
        "from": str(origin.resolve()),
        "data": str(resolved.config.data.place),
        "truth": resolved.config.data.truth,
        "films": list(made.films),
        "left_out": list(made.strange),
        "expected": asdict(made.gain),
        "landmarks": {
            symbol: {
                "x_mm": x,
                "y_mm": y,
                "films": int(learned.films[k]),
                "scatter_mm": float(learned.scatter_mm[k]),
                "kept": float(learned.kept[k]),
            }
            for k, (symbol, (x, y)) in enumerate(zip(made.landmarks, learned.offsets_mm.tolist(), strict=True))
        },
    }
