"""Train a run, go on with one, or only check a config, by putting all the parts together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
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
from ceph.data.check.quick import quick_check
from ceph.data.dataset import Films, Loader
from ceph.data.plan import derive, steps_per_epoch
from ceph.errors import ConfigError, Interrupted
from ceph.hooks import trace
from ceph.hooks.base import Run
from ceph.hooks.verbs import Hooks
from ceph.model.weights import describe_size, load_backbone_weights, read_weights, transfer
from ceph.report.progress import Silent
from ceph.run_report import report_if_possible
from ceph.trained import load
from ceph.training import checkpoint
from ceph.training import folder as run_folder
from ceph.training.engine import finished, fit, restore, save_last
from ceph.training.job import Job
from ceph.training.memory import FREE, LOADED, NETWORK, explained, predicting
from ceph.training.progress import Progress, Watcher
from ceph.training.ranks import Ranks, one_voice
from ceph.training.runtime import Runtime, flushed_denormals, start, stop_on_signals

log = logging.getLogger("ceph")

AnyConfig = Resolved | Mapping[str, Any] | Path | str


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
        stack.enter_context(explained(f"running {where}"))
        stack.enter_context(written_by(ranks, where, run_folder.created))
        torch.manual_seed(derive(settings.train.seed, "weights"))
        model = new_network(prepared)
        if init_from is not None:
            log.info("initial weights from %s", transfer_from(model, Path(init_from), prepared.run))
        else:
            source = load_backbone_weights(model, settings.model.backbone, settings.model.weights)
            log.info("initial weights: %s; %s", source, describe_size(model))
        if ranks.first:
            write_description(resolved, prepared, where, init_from)
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
        stack.enter_context(explained(f"running {where}"))
        ranks = start(resolved.config.train.device, resolved.config.train.precision).ranks
        stack.enter_context(written_by(ranks, where, run_folder.locked))
        resolved = resolve(where / run_folder.CONFIG, without=without)  # no other run changes it any more
        with explained(f"reading the last checkpoint of {where}", LOADED):
            content, note = checkpoint.load_last(where / "checkpoints")
        if note:
            log.warning(note)
        prepared = prepare(resolved)
        run_folder.require_same_data(where, prepared.fingerprint)
        job = build(prepared, new_network(prepared), where)
        prepared.hooks.tell("run_start", run=job.run)
        progress = restore(job, content, tuple(without))
        ranks.require_same((progress.epoch, progress.batch), "checkpoint")
        log.info("going on at epoch %d, batch %d", progress.epoch + 1, progress.batch)
        if without and not finished(progress, job.run.config.train):
            save_last(job, progress)  # first: a checkpoint that has fewer plugins than the config can be gone on with
            if ranks.first:
                run_folder.leave_out(where, without)
        return drive(job, progress, where, watcher or Silent())


def check(config: AnyConfig) -> str:
    """Check everything that can be checked without training, and say what would be trained; `ceph run --dry-run`."""
    prepared = prepare(as_resolved(config))
    run, network = prepared.run, new_network(prepared)
    lines = {
        "films": f"{len(prepared.train)} train, {len(prepared.validation)} validation",
        "landmarks": f"{len(run.landmarks)}: {' '.join(run.landmarks)}",
        "network": f"{run.config.model.backbone}, {describe_size(network)}, input {run.size[0]} x {run.size[1]} px",
        "loss": f"{prepared.config.loss.name} on {prepared.config.target_kind}",
        "training": f"{run.epochs} epochs of {run.steps_per_epoch} steps on {describe(prepared.runtime)}",
        "plugins": ", ".join(prepared.hooks.names) or "none",
    }
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())


@contextmanager
def written_by(ranks: Ranks, where: Path, held: Callable[[Path], AbstractContextManager[None]]) -> Iterator[None]:
    """Hold the run folder and log to it, in the first process of the job; the others only train."""
    if not ranks.first:
        yield
        return
    with held(where), run_folder.logging_to(where):
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


def new_network(prepared: Prepared) -> nn.Module:
    """The network of a config, with random weights."""
    config, landmarks = prepared.config, len(prepared.run.landmarks)
    with explained(f"building {config.model.backbone}, {config.model.width} wide, for {landmarks} landmarks", NETWORK):
        return make_model(config, prepared.hooks, prepared.run)


def build(prepared: Prepared, model: nn.Module, where: Path) -> Job:
    """Everything around the network that training needs."""
    config, hooks, runtime, run = prepared.config, prepared.hooks, prepared.runtime, prepared.run
    with explained(f"moving {describe_size(model)} to {describe(runtime)}", NETWORK):
        runtime.place(model)
    codec = make_codec(config, hooks, run)
    criterion = make_criterion(config, hooks, run)
    optimizer, schedule = make_optimizer(config, hooks, model, run)
    workers, pin = loader_workers(config, runtime), runtime.device.type == "cuda"
    evaluator = Evaluator(config, hooks, runtime, run.landmarks, codec)
    validation = Loader(prepared.validation, workers, pin=pin)

    def validate(module: nn.Module) -> dict[str, Any]:
        films = min(config.evaluate.batch_size, len(prepared.validation))
        with explained(f"predicting a batch of {films} films at {run.size[0]}x{run.size[1]} px", predicting(films)):
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


def write_description(resolved: Resolved, prepared: Prepared, where: Path, init_from: Path | str | None) -> None:
    """Make the folder stand alone: config.yaml, environment.json, data_fingerprint.json, copies of file plugins."""
    copies = run_folder.copy_plugins(where, {n: p.file for n, p in resolved.plugins.items() if p.file})
    run_folder.write_text(where / run_folder.CONFIG, resolved.dump(copies))
    plugins = {
        name: {"version": p.version, "source": p.distribution or p.source.name, "sha256": p.sha256}
        for name, p in resolved.plugins.items()
    }
    found = run_folder.environment(plugins, describe(prepared.runtime), init_from)
    run_folder.write_json(where / "environment.json", found)
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
