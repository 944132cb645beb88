"""Cross-validation: a run for each fold, none chosen by the films that score it, and one folder that is all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ceph import runfolder
from ceph.config.dump import dump_yaml
from ceph.config.load import Resolved, resolve_run
from ceph.config.models import FoldConfig
from ceph.data.cache import digests
from ceph.data.formats.splits import OUT_OF_FOLD
from ceph.errors import ConfigError
from ceph.evaluation.folds import FOLDED, GROUP, folds_of
from ceph.fanout.record import describe, open_record, read_record
from ceph.fanout.train import Say, Workforce, raise_failures, train_all
from ceph.fanout.workers import Task
from ceph.run.assembly import make_hooks
from ceph.run.films import make_films, read_data
from ceph.run.prepare import AnyConfig, of_a_new_run, prepare
from ceph.run.report import report_if_possible
from ceph.run.train import Result, write_description
from ceph.run.trained import load
from ceph.training.engine import LAST, last_epoch

RECORD, CALL = "folds.json", "folds.yaml"  # what the folder is kept to; the config that each fold's run is given
By = Literal["group", "machine", "set"]


def folds(
    config: AnyConfig,
    *,
    out: Path | str,
    folds: int = 5,
    by: By = "group",
    jobs: int | None = None,
    on: Literal["local", "ray"] = "local",
    say: Say = lambda _: None,
) -> Result:
    """Train a run for each fold of the films of train and validation; `out` then predicts by the mean of their maps.

    The run of fold i has the seed `train.seed` + i, and its best epoch is its last. By `machine` or `set` each of these
    is a fold, and `folds` counts for nothing. What is there of an earlier call is gone on with. Returns the figures of
    all films, each found by the run that held it out. Raises ConfigError or DataError before anything is written,
    CephError naming the runs that failed, and Interrupted.
    """
    out, resolved = Path(out), of_a_new_run(config)
    if resolved.config.data.fold is not None:
        raise ConfigError("is what folds are made of", key="data.fold", hint="leave it out; see --folds and --by")
    resolved = divided(resolved, FoldConfig(of=folds, by=by) if by == GROUP else by)
    made = [Path(out / name).exists() for name in (RECORD, runfolder.CONFIG)]
    if made == [False, True]:
        raise ConfigError(f"{out} already holds a run", key="--out", hint="give the folds another folder")
    prepared = prepare(_held_out(resolved, 0))
    record = open_record(out / RECORD, describe(resolved, {"": resolved}, resolved.plugins))
    with held(out):
        if not all(made):
            films = make_films(read_data(resolved.config, prepared.hooks), OUT_OF_FOLD, resolved.config)
            seen = runfolder.fingerprint(films.samples, films.digests, prepared.run.landmarks)
            untrained = {runfolder.UNTRAINED: prepared.fingerprint[runfolder.UNTRAINED]}
            write_description(resolved, replace(prepared, fingerprint={**seen, **untrained}), out, None)
            runfolder.write_text(out / CALL, dump_yaml(resolve_run(out).own_values(), {}))
            runfolder.write_members(out, names(resolved))
        return go_on(out, resolved, record, Workforce(resolved.config.train.device, jobs, on), say)


def resume_folds(out: Path, say: Say = lambda _: None) -> Result:
    """Go on with the folds of `out` that have not finished. Raises as `folds` does."""
    resolved, record = resolve_run(out), read_record(out / RECORD)
    if not record:
        raise ConfigError(f"{out} is an ensemble of finished runs: there is nothing to go on with")
    with held(out):
        return go_on(out, resolved, record, Workforce(resolved.config.train.device), say)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold the folder for this process, with its log."""
    out.mkdir(parents=True, exist_ok=True)
    with runfolder.locked(out), runfolder.logging_to(out):
        yield


def divided(resolved: Resolved, fold: FoldConfig | By) -> Resolved:
    """The config with its folds; of machines or sets there are as many as the films have. Raises DataError."""
    if not isinstance(fold, FoldConfig):
        samples = [s for s in read_data(resolved.config, make_hooks(resolved)).samples if s.split in FOLDED]
        numbers = folds_of(samples, digests([sample.path for sample in samples]), fold)
        fold = FoldConfig(of=int(numbers.max()) + 1, by=fold)
    data = resolved.config.data.model_copy(update={"fold": fold})
    told = {**resolved.provenance, "data.fold.of": "--folds", "data.fold.by": "--by", "data.fold.number": "default"}
    return replace(resolved, config=resolved.config.model_copy(update={"data": data}), provenance=told)


def _held_out(resolved: Resolved, number: int) -> Resolved:
    """The config of one fold's run, as far as its films go."""
    data = resolved.config.data
    fold = None if data.fold is None else data.fold.model_copy(update={"number": number})
    return replace(resolved, config=resolved.config.model_copy(update={"data": data.model_copy(update={"fold": fold})}))


def names(resolved: Resolved) -> list[str]:
    """The runs of the folds, in order."""
    fold = resolved.config.data.fold
    return [f"fold-{number}" for number in range(fold.of if fold else 0)]


def go_on(out: Path, resolved: Resolved, record: dict[str, Any], force: Workforce, say: Say) -> Result:
    """Train what is missing, score the films out of fold, and write the report."""
    settings, fold = resolved.config.train, resolved.config.data.fold
    figures = runfolder.read_figures(out).get(OUT_OF_FOLD)
    tasks = [
        Task(name, settings.seed + number, out / runfolder.INSIDE / name, _words(out, number), cwd=Path.cwd())
        for number, name in enumerate(names(resolved))
    ]
    done = figures is not None and all(task.is_done() for task in tasks)
    if not done:
        with runfolder.recorded(out):
            what = f"{len(tasks)} folds by {fold.by if fold else GROUP}, seeds {settings.seed} to {tasks[-1].seed}"
            raise_failures(train_all(tasks, force, record, out / RECORD, say, what=what))
            figures, _ = load(out).evaluate(OUT_OF_FOLD)
        report_if_possible(out)
    return Result(out, figures or {}, last_epoch(settings) - 1, was_done=done)


def _words(out: Path, number: int) -> tuple[str, ...]:
    settings = (f"data.fold.number={number}", f"train.monitor={LAST}", "train.early_stopping=null")
    return ("run", str(out / CALL), *(word for setting in settings for word in ("--set", setting)))
