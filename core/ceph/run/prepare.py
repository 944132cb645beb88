"""Before anything is built or written: the hooks asked, the data read and checked, the machine chosen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ceph import runfolder
from ceph.config.load import Resolved, from_values, resolve
from ceph.config.models import Config
from ceph.data.augment import refuse_albumentationsx
from ceph.data.check.quick import quick_check, trained_on
from ceph.data.dataset import Films
from ceph.data.formats.base import DataSet
from ceph.data.plan import steps_per_epoch, unmarked_in
from ceph.data.plausible import impossible
from ceph.data.truth import MEAN
from ceph.data.types import Sample
from ceph.errors import ConfigError, DataError, Problem
from ceph.hooks.base import Run
from ceph.hooks.verbs import Hooks
from ceph.run.assembly import make_hooks
from ceph.run.evaluator import make_monitor
from ceph.run.films import also_films, make_films, plain_truth, read_data, training_films
from ceph.training.memory import FREE, explained
from ceph.training.ranks import Ranks
from ceph.training.runtime import Runtime, start

log = logging.getLogger("ceph")

FEW_VALIDATION = 5
AnyConfig = Resolved | Mapping[str, Any] | Path | str


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a config comes to before anything is built or written: hooks asked, data read, machine chosen."""

    config: Config
    hooks: Hooks
    runtime: Runtime
    data: DataSet
    run: Run
    train: Films
    validation: Films
    also: Mapping[str, Films]
    fingerprint: Mapping[str, Any]
    said: tuple[logging.LogRecord, ...] = ()  # of the films and by plugins, for the log of a new run


def as_resolved(config: AnyConfig) -> Resolved:
    """Resolve a file or a mapping; what is resolved already is taken as it is."""
    if isinstance(config, Resolved):
        return config
    return from_values(config) if isinstance(config, Mapping) else resolve(Path(config))


def of_a_new_run(config: AnyConfig) -> Resolved:
    """Resolve it. Raises ConfigError where it is that of a run that has trained on."""
    resolved = as_resolved(config)
    if resolved.config.train.schedule_from:
        raise ConfigError(
            "the schedule of a new run begins at 0; `--resume` alone sets another",
            key="train.schedule_from",
            hint="--set train.schedule_from=0",
        )
    return resolved


@explained("reading the data set and the plugins", FREE)
def prepare(resolved: Resolved) -> Prepared:
    """Read the data and check the run: all that `ceph run --dry-run` does. Test splits are not looked at."""
    refuse_albumentationsx()
    config = resolved.config
    runtime = start(config.train.device, config.train.precision)
    hooks = make_hooks(resolved)
    if not runtime.ranks.first:  # one process writes, logs and tells those that only observe
        log.disabled = True
        hooks.leave_out_observers()
    with runfolder.heard() as said:  # before there is a log
        refuse_more_ranks(config, runtime.ranks)
        data = read_data(config, hooks)
        training = training_films(data, config, hooks)
        validation = make_films(data, "validation", config)
        refuse_doubtful(config, [*training.samples, *validation.samples], data.landmarks)
        untrained = not_learned(data, training, validation, config, hooks)
        run = described(config, data, training, runtime)
        make_monitor(config.train.monitor, run.landmarks, also=config.evaluate.also)
        hooks.tell("check_run", run=run)
        used, digests = [*training.samples, *validation.samples], [*training.digests, *validation.digests]
        for line in quick_check(used, digests, data.landmarks):
            log.warning("%s (ceph data check tells more)", line)
        fingerprint = {**runfolder.fingerprint(used, digests, data.landmarks), runfolder.UNTRAINED: list(untrained)}
        runtime.ranks.require_same((config, fingerprint), "config and films")
        also = also_films(config, hooks, data.landmarks)
        for films in also.values():
            for line in trained_on(films.samples, films.digests, fingerprint["films"]):
                log.warning(line)
    return Prepared(config, hooks, runtime, data, run, training, validation, also, fingerprint, tuple(said))


def described(config: Config, data: DataSet, training: Films, runtime: Runtime) -> Run:
    """What plugins may know of the run. An epoch is as long as its marked films last, beside unmarked ones or not."""
    marked, batch = len(training) - training.unmarked, config.train.batch_size
    batch -= unmarked_in(batch, config.data.unmarked_share) if training.unmarked else 0
    return Run(
        landmarks=data.landmarks,
        size=config.data.size,
        epochs=config.train.epochs,
        steps_per_epoch=steps_per_epoch(marked, batch, config.train.accumulate),
        seed=config.train.seed,
        samples=tuple(training.samples[:marked]),
        unmarked=tuple(training.samples[marked:]),
        device=runtime.device,
        config=config,
        readers=data.readers,
    )


def refuse_doubtful(config: Config, samples: Sequence[Sample], landmarks: Sequence[str]) -> None:
    """Refuse points that cannot be right, unless `data.doubtful_points` says to train on them; then warn of them."""
    problems = impossible(samples, landmarks)
    if problems and config.data.doubtful_points == "refuse":
        train = "mend them, take these films out, or, if they are meant so: --set data.doubtful_points=train"
        raise DataError([*problems, Problem("nothing trains on such points", "data.doubtful_points", hint=train)])
    for problem in problems:
        log.warning(problem.what)


def not_learned(data: DataSet, training: Films, validation: Films, config: Config, hooks: Hooks) -> tuple[str, ...]:
    """The landmarks that no training film has by `data.truth`, of which a warning tells.

    Raises DataError where no film of a split has any; few validation films are a warning.
    """
    truth = plain_truth(config, data)
    marked = {
        films.samples[0].split: np.stack(
            [s.valid.any(axis=0) if own else truth(s, 0)[1] for s in films.samples]  # a plugin may take any reader
        )
        for films, own in ((training, hooks.answers("truth")), (validation, False))
    }
    for split, flags in marked.items():
        if not flags.any():
            by = "" if config.data.truth == MEAN else f" by {config.data.truth}"
            raise DataError(
                f"none of the {len(flags)} films of {split} has a marked landmark{by}",
                key="data.path",
                hint="add annotations, or see data.truth and data.landmarks: nothing trains or is scored without",
            )
    if (scored := int(marked["validation"].any(axis=1).sum())) < FEW_VALIDATION:
        log.warning(
            "%d validation film%s with points: too few to choose the best epoch by, or to say how good a run is",
            *(scored, "s" if scored > 1 else ""),
        )
    untrained = tuple(s for k, s in enumerate(data.landmarks) if not marked["train"][:, k].any())
    if untrained:
        log.warning(runfolder.NOT_LEARNED, ", ".join(untrained))
    return untrained


def refuse_more_ranks(config: Config, ranks: Ranks) -> None:
    """Refuse what works in one process only, and warn of processes without work."""
    if ranks.count == 1:
        return
    if config.train.compile:
        raise ConfigError("works in one process only so far", key="train.compile", hint="--set train.compile=false")
    if config.train.batch_size < ranks.count:
        log.warning("a batch of %d films leaves some of %d processes idle", config.train.batch_size, ranks.count)
