"""Train, resume, load, evaluate: what the command line does, from Python, by putting all the parts together."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ceph.assembly import (
    Evaluator,
    loader_workers,
    make_augmentation,
    make_codec,
    make_criterion,
    make_films,
    make_hooks,
    make_model,
    make_monitor,
    make_optimizer,
    make_truth,
    read_data,
)
from ceph.config.load import Resolved, from_values, resolve
from ceph.config.models import Config
from ceph.data.augment import refuse_albumentationsx
from ceph.data.bare import in_batches, load_bare, readable
from ceph.data.check.quick import quick_check, trained_on
from ceph.data.dataset import Films, Loader, in_order
from ceph.data.plan import derive, steps_per_epoch
from ceph.data.types import Points
from ceph.errors import CephError, ConfigError, Interrupted, nearest
from ceph.evaluation.metrics import intervals
from ceph.evaluation.predict import Prediction
from ceph.evaluation.statistics import units_of
from ceph.hooks import trace
from ceph.hooks.base import Run
from ceph.hooks.verbs import Hooks
from ceph.model.weights import describe_size, load_backbone_weights, read_weights, transfer
from ceph.report.figures import write_figures
from ceph.report.findings import Films as KnownFilms
from ceph.report.html import FILE as REPORT
from ceph.report.html import write_html
from ceph.report.progress import Silent
from ceph.report.record import read_record
from ceph.training import checkpoint
from ceph.training import folder as run_folder
from ceph.training.engine import finished, fit, restore
from ceph.training.job import Job
from ceph.training.memory import explained
from ceph.training.progress import Progress, Watcher
from ceph.training.ranks import Ranks, one_voice
from ceph.training.runtime import Runtime, flushed_denormals, start, stop_on_signals

log = logging.getLogger("ceph")

AnyConfig = Resolved | Mapping[str, Any] | Path | str
TRAINING_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Result:
    """A finished run: its folder, its best checkpoint's figures on the validation split, and that epoch (from 0)."""

    folder: Path
    metrics: Mapping[str, Any]
    best_epoch: int


@one_voice()
def train(
    config: AnyConfig,
    *,
    out: Path | str | None = None,
    init_from: Path | str | None = None,
    watcher: Watcher | None = None,
) -> Result:
    """Train what `config` says (resolved, a mapping, or a file) in a new run folder `out`.

    `init_from` is a run, or a file of weights, to start from. Raises ConfigError or DataError before anything is
    written, and another CephError when the run fails.
    """
    resolved = as_resolved(config)
    prepared = prepare(resolved)
    settings, ranks = resolved.config, prepared.runtime.ranks
    default = run_folder.default_name(settings.model.backbone, tuple(resolved.plugins), settings.train.seed)
    where = ranks.agreed(Path(out) if out else default)
    with ExitStack() as stack:
        stack.enter_context(flushed_denormals())
        if ranks.first:
            run_folder.create(where)
        stack.enter_context(written_by(ranks, where))
        torch.manual_seed(derive(settings.train.seed, "weights"))
        model = make_model(settings, prepared.hooks, prepared.run)
        if init_from is not None:
            log.info("initial weights from %s", transfer_from(model, Path(init_from), prepared.run))
        else:
            source = load_backbone_weights(model, settings.model.backbone, settings.model.weights)
            log.info("initial weights: %s; %s", source, describe_size(model))
        if ranks.first:
            write_description(resolved, prepared, where)
        job = build(prepared, model, where)
        prepared.hooks.tell("run_start", run=job.run)
        return drive(job, Progress(), where, watcher or Silent())


@one_voice()
def resume(folder: Path | str, *, without: Sequence[str] = (), watcher: Watcher | None = None) -> Result:
    """Go on with a run exactly where its last checkpoint is; a finished run is left as it is.

    `without` names plugins to leave out from here on. Raises CheckpointError where no good checkpoint is left.
    """
    where = Path(folder)
    run_folder.require_run(where)
    resolved = resolve(where / run_folder.CONFIG, without=without)
    with ExitStack() as stack:
        stack.enter_context(flushed_denormals())
        ranks = start(resolved.config.train.device, resolved.config.train.precision).ranks
        stack.enter_context(written_by(ranks, where))
        content, note = checkpoint.load_last(where / "checkpoints")
        if note:
            log.warning(note)
        prepared = prepare(resolved)
        run_folder.require_same_data(where, prepared.fingerprint)
        job = build(prepared, make_model(resolved.config, prepared.hooks, prepared.run), where)
        prepared.hooks.tell("run_start", run=job.run)
        progress = restore(job, content, tuple(without))
        ranks.require_same((progress.epoch, progress.batch), "checkpoint")
        log.info("going on at epoch %d, batch %d", progress.epoch, progress.batch)
        return drive(job, progress, where, watcher or Silent())


def check(config: AnyConfig) -> str:
    """Check everything that can be checked without training, and say what would be trained; `ceph run --dry-run`."""
    prepared = prepare(as_resolved(config))
    run, network = prepared.run, make_model(prepared.config, prepared.hooks, prepared.run)
    lines = {
        "films": f"{len(prepared.train)} train, {len(prepared.validation)} validation",
        "landmarks": f"{len(run.landmarks)}: {' '.join(run.landmarks)}",
        "network": f"{run.config.model.backbone}, {describe_size(network)}, input {run.size[0]} x {run.size[1]} px",
        "loss": f"{prepared.config.loss.name} on {prepared.config.target_kind}",
        "training": f"{run.epochs} epochs of {run.steps_per_epoch} steps on {describe(prepared.runtime)}",
        "plugins": ", ".join(prepared.hooks.names) or "none",
    }
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())


def load(folder: Path | str, *, settings: Sequence[str] = ()) -> Trained:
    """The best checkpoint of a run, ready to predict; `settings` are `KEY=VALUE` texts as for `--set`."""
    where = Path(folder)
    run_folder.require_run(where)
    return Trained(where, resolve(where / run_folder.CONFIG, settings=settings))


@contextmanager
def written_by(ranks: Ranks, where: Path) -> Iterator[None]:
    """Hold the run folder and log to it, in the first process of the job; the others only train."""
    if not ranks.first:
        yield
        return
    with run_folder.locked(where), run_folder.logging_to(where):
        yield


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a config comes to before anything is built or written: hooks asked, data read, machine chosen."""

    config: Config
    hooks: Hooks
    runtime: Runtime
    run: Run
    train: Films
    validation: Films
    fingerprint: Mapping[str, Any]


def as_resolved(config: AnyConfig) -> Resolved:
    """Resolve a file or a mapping; what is resolved already is taken as it is."""
    if isinstance(config, Resolved):
        return config
    return from_values(config) if isinstance(config, Mapping) else resolve(Path(config))


def prepare(resolved: Resolved) -> Prepared:
    """Read the data and check the run: all that `ceph run --dry-run` does. Test splits are not looked at."""
    refuse_albumentationsx()
    config = resolved.config
    runtime = start(config.train.device, config.train.precision)
    hooks = make_hooks(resolved)
    if not runtime.ranks.first:  # one process writes, logs and tells those that only observe
        log.disabled = True
        hooks.leave_out_observers()
    refuse_more_ranks(config, runtime.ranks)
    data = read_data(config, hooks)
    training = make_films(
        data, "train", config, truth=make_truth(config, data, hooks), augmentation=make_augmentation(config, hooks)
    )
    validation = make_films(data, "validation", config)
    run = Run(
        landmarks=data.landmarks,
        size=config.data.size,
        epochs=config.train.epochs,
        steps_per_epoch=steps_per_epoch(len(training), config.train.batch_size, config.train.accumulate),
        seed=config.train.seed,
        samples=tuple(training.samples),
        device=runtime.device,
        config=config,
    )
    make_monitor(config.train.monitor, run.landmarks)
    hooks.tell("check_run", run=run)
    used, digests = [*training.samples, *validation.samples], [*training.digests, *validation.digests]
    for line in quick_check(used, digests, data.landmarks):
        log.warning("%s (ceph data check tells more)", line)
    fingerprint = run_folder.fingerprint(used, digests, data.landmarks)
    runtime.ranks.require_same((config, fingerprint), "config and films")
    return Prepared(config, hooks, runtime, run, training, validation, fingerprint)


def refuse_more_ranks(config: Config, ranks: Ranks) -> None:
    """Refuse what works in one process only, and warn of processes without work."""
    if ranks.count == 1:
        return
    if config.train.compile:
        raise ConfigError("works in one process only so far", key="train.compile", hint="--set train.compile=false")
    if config.train.batch_size < ranks.count:
        log.warning("a batch of %d films leaves some of %d processes idle", config.train.batch_size, ranks.count)


def build(prepared: Prepared, model: nn.Module, where: Path) -> Job:
    """Everything around the network that training needs."""
    config, hooks, runtime, run = prepared.config, prepared.hooks, prepared.runtime, prepared.run
    with explained(f"moving the network to {describe(runtime)}"):
        runtime.place(model)
    codec = make_codec(config, hooks, run)
    criterion = make_criterion(config, hooks, run)
    optimizer, schedule = make_optimizer(config, hooks, model, run)
    workers, pin = loader_workers(config, runtime), runtime.device.type == "cuda"
    evaluator = Evaluator(config, hooks, runtime, run.landmarks, codec)
    validation = Loader(prepared.validation, workers, pin=pin)

    def validate(module: nn.Module) -> dict[str, Any]:
        with explained(f"predicting {config.evaluate.batch_size} films at {run.size[0]}x{run.size[1]} px"):
            found = evaluator.split(module, validation, len(prepared.validation))
        return evaluator.figures(found, prepared.validation.samples)

    return Job(
        run=replace(run, folder=where),
        hooks=hooks,
        runtime=runtime,
        model=model,
        forward=torch.compile(model)
        if config.train.compile
        else runtime.ranks.wrap(model, sync_batchnorm=config.train.sync_batchnorm),
        codec=codec,
        kind=config.target_kind,
        criterion=torch.compile(criterion) if config.train.compile else criterion,
        optimizer=optimizer,
        schedule=schedule,
        scaler=torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16"),
        loader=Loader(prepared.train, workers, pin=pin),
        validate=validate,
        monitor=make_monitor(config.train.monitor, run.landmarks),
        checkpoints=where / "checkpoints",
    )


def drive(job: Job, progress: Progress, where: Path, watcher: Watcher) -> Result:
    """Train to the end under signal handlers; then the figures and predictions of the best checkpoint."""
    ranks = job.runtime.ranks
    done = ranks.agreed(run_folder.read_metrics(where).get("validation"))
    if done and finished(progress, job.run.config.train):
        return Result(where, done, progress.best_epoch)
    try:
        with stop_on_signals(patient=ranks.count > 1) as stop:
            fit(job, progress, _Recorded(watcher, where, progress) if ranks.first else Silent(), stop)
    except Exception as error:
        log.log(logging.INFO if isinstance(error, Interrupted) else logging.ERROR, "stopped: %s", error)
        raise
    figures = ranks.agreed(load(where).evaluate("validation")[0] if ranks.first else {})
    result = Result(where, figures, progress.best_epoch)
    if not ranks.first:
        return result
    job.hooks.tell("run_end", run=job.run, result=result)
    if job.hooks.names and progress.timed[0]:
        cost = trace.summary(job.hooks.spent, *progress.timed)
        run_folder.write_json(where / trace.FILE, cost)
        log.info(trace.share_line(cost))
    log.info("done: validation MRE %s mm, best epoch %d", figures["mre_mm"], progress.best_epoch + 1)
    report_if_possible(where)
    return result


def report(folder: Path | str, figures: Path | str | None = None) -> list[Path]:
    """Write report.html of a run anew, from what its folder holds; `figures` is a folder for pictures of it.

    Returns the files written. Where the films cannot be read, the page says so and shows the rest. Raises ConfigError
    where `folder` is no run or a file cannot be written.
    """
    where = Path(folder)
    run_folder.require_run(where)
    record, films = read_record(where), known_films(where)
    written = [write_html(record, films)]
    return written if figures is None else [*written, *write_figures(record, films, Path(figures))]


def report_if_possible(folder: Path) -> None:
    """Write report.html; a fault there is a warning, since what it shows is done and written."""
    try:
        report(folder)
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("report.html was not written (%s: %s); try: ceph report %s", type(error).__name__, error, folder)


def known_films(folder: Path) -> KnownFilms:
    """The films of the run's data set, or why they are not to be found."""
    try:
        resolved = resolve(folder / run_folder.CONFIG)
        data = read_data(resolved.config, make_hooks(resolved))
    except CephError as error:
        return KnownFilms(missing="; ".join(problem.what for problem in error.problems))
    return KnownFilms({(s.split, s.id): s for s in data.samples}, data.readers, data.landmarks)


@dataclass
class _Recorded:
    """A watcher that also keeps metrics.jsonl."""

    inner: Watcher
    where: Path
    progress: Progress

    def start(self, epochs: int, done: int) -> None:
        run_folder.write_records(self.where / "metrics.jsonl", self.progress.records)
        self.inner.start(epochs, done)

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        self.inner.step(epoch, done, total, loss)

    def epoch(self, record: Mapping[str, Any]) -> None:
        run_folder.write_records(self.where / "metrics.jsonl", self.progress.records)
        self.inner.epoch(record)


def write_description(resolved: Resolved, prepared: Prepared, where: Path) -> None:
    """Make the folder stand alone: config.yaml, environment.json, data_fingerprint.json, copies of file plugins."""
    copies = run_folder.copy_plugins(where, {n: p.file for n, p in resolved.plugins.items() if p.file})
    run_folder.write_text(where / run_folder.CONFIG, resolved.dump(copies))
    plugins = {
        name: {"version": p.version, "source": p.distribution or p.source.name, "sha256": p.sha256}
        for name, p in resolved.plugins.items()
    }
    run_folder.write_json(where / "environment.json", run_folder.environment(plugins, describe(prepared.runtime)))
    run_folder.write_json(where / run_folder.FINGERPRINT, prepared.fingerprint)


def describe(runtime: Runtime) -> str:
    """The device and the precision, for a person."""
    name = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else str(runtime.device)
    return f"{name}, {runtime.precision}" + (f", {runtime.ranks.count} processes" if runtime.ranks.count > 1 else "")


def transfer_from(model: nn.Module, source: Path, run: Run) -> str:
    """Start from the best checkpoint of a run, or from a file of weights; warns where its maps mean something else."""
    if not source.is_dir():
        return f"{source}: {transfer(model, read_weights(source, key='--init-from'), run.landmarks, run.landmarks)}"
    run_folder.require_run(source)
    content = checkpoint.load(source / "checkpoints", checkpoint.BEST)
    now, before = run.config.target_kind, content.get("kind", run.config.target_kind)
    if now != before:
        log.warning(
            "%s draws each map as a %s, but the loss %s trains a %s: fine-tuning at a low rate can ruin it;"
            " keep the loss of that run with --set loss.name=...",
            *(source, before, run.config.loss.name, now),
        )
    return f"{source}: {transfer(model, content['model'], tuple(content['landmarks']), run.landmarks)}"


class Trained:
    """The best checkpoint of a run."""

    def __init__(self, folder: Path, resolved: Resolved) -> None:
        self.folder, self.resolved, self.config = folder, resolved, resolved.config
        content = checkpoint.load(folder / "checkpoints", checkpoint.BEST)
        self.landmarks = tuple(content["landmarks"])
        self.hooks = make_hooks(resolved)
        self.runtime = start(self.config.train.device, self.config.train.precision)
        settings = self.config.train
        self.run = Run(
            self.landmarks,
            self.config.data.size,
            settings.epochs,
            0,
            settings.seed,
            (),
            self.runtime.device,
            self.config,
        )
        with flushed_denormals():
            self.model = make_model(self.config, self.hooks, self.run)
            self.model.load_state_dict(content["model"])
            self.runtime.place(self.model).eval()

    @cached_property
    def evaluator(self) -> Evaluator:
        """What turns this model into figures."""
        codec = make_codec(self.config, self.hooks, self.run)
        return Evaluator(self.config, self.hooks, self.runtime, self.landmarks, codec)

    def predict(self, images: Sequence[Path | str | NDArray[np.uint8]]) -> tuple[Points, NDArray[np.float64]]:
        """Points [N, K, 2] in pixels of each film and scores [N, K], in the order of `landmarks`.

        `images` are files, or grey arrays [H, W] uint8. Raises DataError for one that cannot be read.
        """
        if not len(images):
            return np.zeros((0, len(self.landmarks), 2)), np.zeros((0, len(self.landmarks)))
        sizes = self.evaluator.sizes
        films = readable(load_bare(images, sizes, len(self.landmarks)))
        with flushed_denormals():
            items = in_batches(films, self.config.evaluate.batch_size)
            found = self.evaluator.predict(self.model, items, len(sizes))
        return found.points_px, found.scores

    def evaluate(self, split: str | None = None, data: Path | None = None) -> tuple[dict[str, Any], str]:
        """Figures of a split, and its name (default: validation, or the only split that `data` has).

        Without `data` the run's own set is read, and figures and predictions are written into the run folder;
        with it nothing is.
        """
        config = self.config
        found = read_data(config, self.hooks, data)
        if found.landmarks != self.landmarks:
            raise ConfigError(
                f"the run knows {len(self.landmarks)} landmarks, this set has {len(found.landmarks)}",
                key="data.landmarks",
            )
        there = sorted({sample.split for sample in found.samples})
        name = split or ("validation" if "validation" in there or len(there) != 1 else there[0])
        if name not in there:
            raise ConfigError(f"the set has no split {name!r}", key="--split", hint=nearest(name, there))
        films = make_films(found, name, config)
        seen = run_folder.read_object(self.folder / run_folder.FINGERPRINT)["films"]
        for line in trained_on(films.samples, films.digests, seen):
            log.warning(line)
        loader = Loader(films, loader_workers(config, self.runtime))
        sizes = self.evaluator.sizes
        items = loader.load(in_order(len(films), config.evaluate.batch_size, sizes))
        with flushed_denormals():
            prediction = self.evaluator.predict(self.model, items, len(sizes))
        figures = self.evaluator.figures(prediction, films.samples)
        labels = [{("group", s.group), ("pixels", d)} for s, d in zip(films.samples, films.digests, strict=True)]
        figures["interval_95"] = intervals(prediction.errors_mm, units_of(labels))
        if data is None:
            self._write(name, figures, prediction, films)
            if (self.folder / REPORT).exists():  # not before the run has ended
                report_if_possible(self.folder)
        return figures, name

    def _write(self, split: str, figures: dict[str, Any], prediction: Prediction, films: Films) -> None:
        ids = [sample.id for sample in films.samples]
        run_folder.write_json(self.folder / "metrics.json", {**run_folder.read_metrics(self.folder), split: figures})
        run_folder.write_predictions(self.folder / f"predictions-{split}.csv", prediction, ids, self.landmarks)
        if split not in TRAINING_SPLITS:
            scored = run_folder.fingerprint(films.samples, films.digests, self.landmarks)
            run_folder.add_fingerprint(self.folder, scored)
            run_folder.note_opened(self.folder, split)
