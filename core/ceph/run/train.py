"""Train a run, go on with one, or only check a config, by putting all the parts together."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ceph import runfolder
from ceph.config.load import Resolved, resolve_run
from ceph.config.models import Config
from ceph.data.dataset import Films
from ceph.data.formats.base import DataSet
from ceph.data.loader import Loader
from ceph.data.plan import derive
from ceph.errors import ConfigError
from ceph.hooks import trace
from ceph.hooks.base import Origin, Run
from ceph.hooks.misuse import hooks_of
from ceph.hooks.trust import agree
from ceph.model.network import parts_of
from ceph.model.weights import describe_size, load_backbone_weights, read_weights, transfer
from ceph.report.progress import Silent
from ceph.run.assembly import (
    make_criterion,
    make_forward,
    make_model,
    make_optimizer,
    make_stations,
    make_targets,
)
from ceph.run.evaluator import Evaluator, make_monitor
from ceph.run.films import loader_workers
from ceph.run.prepare import AnyConfig, Prepared, of_a_new_run, prepare
from ceph.run.report import report_if_possible
from ceph.run.trained import load
from ceph.stop import stop_between_steps
from ceph.training import checkpoint
from ceph.training.engine import finished, fit, restore, save_last
from ceph.training.job import Job
from ceph.training.memory import LOADED, NETWORK, explained, predicting
from ceph.training.progress import Progress, Watcher
from ceph.training.ranks import Ranks, one_voice
from ceph.training.runtime import Runtime, flushed_denormals, start

log = logging.getLogger("ceph")


@dataclass(frozen=True)
class Result:
    """A finished run: its folder, its best checkpoint's figures on the validation split, and that epoch (from 0).

    `was_done`: it had been finished before, and nothing was trained.
    """

    folder: Path
    metrics: Mapping[str, Any]
    best_epoch: int
    was_done: bool = False


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
    resolved = of_a_new_run(config)
    prepared = prepare(resolved)
    settings, ranks = resolved.config, prepared.runtime.ranks
    default = runfolder.default_name(settings.model.backbone, tuple(resolved.plugins), settings.train.seed)
    where = ranks.agreed(Path(out) if out else default)
    with ExitStack() as stack:
        stack.enter_context(flushed_denormals())
        stack.enter_context(explained(f"running {where}"))
        if ranks.first:
            stack.enter_context(runfolder.created(where))
            stack.enter_context(runfolder.logging_to(where))
            for record in prepared.said:
                log.handle(record)
        stack.enter_context(recorded_by(ranks, where, prepared.data))
        torch.manual_seed(derive(settings.train.seed, "weights"))
        model = new_network(prepared)
        source, origin = source_of(settings, init_from), None
        if source is not None:
            told, origin = transfer_from(model, source, prepared.run)
            log.info("initial weights from %s", told)
        else:
            told = load_backbone_weights(model, settings.model.backbone, settings.model.weights)
            log.info("initial weights: %s; %s", told, describe_size(model))
        if ranks.first:
            write_description(resolved, prepared, where, source)
        job = build(prepared, model, where, origin)
        prepared.hooks.tell("run_start", run=job.run, model=job.model)
        return drive(job, Progress(), where, watcher or Silent(), prepared.data)


@one_voice()
def resume(
    folder: Path | str, *, without: Sequence[str] = (), epochs: int | None = None, watcher: Watcher | None = None
) -> Result:
    """Go on with a run exactly where its last checkpoint is; a finished run is left as it is.

    With `epochs` a finished run trains on to that many, by a new schedule that begins where it ended. `without` names
    plugins to leave out from here on. Raises CheckpointError where no good checkpoint is left, and ConfigError for
    `epochs` of a run that is not finished, or has trained as many.
    """
    where = Path(folder)
    runfolder.require_run(where)
    if runfolder.is_adapted(where):
        begin = f"start a new run from its weights: ceph run --init-from {where} ..."
        raise ConfigError(f"{where} was made by `ceph adapt`: it holds no training to go on with", hint=begin)
    if runfolder.read_members(where):
        from ceph.run.folds import resume_folds

        if without or epochs is not None:
            raise ConfigError(f"{where} is several runs, which go on as they began", hint=f"ceph run --resume {where}")
        return resume_folds(where)
    resolved = resolve_run(where, without=without)
    with ExitStack() as stack:
        stack.enter_context(flushed_denormals())
        stack.enter_context(explained(f"running {where}"))
        ranks = start(resolved.config.train.device, resolved.config.train.precision).ranks
        if ranks.first:
            stack.enter_context(runfolder.locked(where))  # no other run changes it any more
        with explained(f"reading the last checkpoint of {where}", LOADED):
            content, note = checkpoint.load_last(where / runfolder.CHECKPOINTS)
        trained = Progress.from_state(content["progress"])
        ended = finished(trained, resolved.config.train)
        done = ranks.agreed(figures_if_finished(where) if ended else None)
        if done and epochs is None:
            return Result(where, done, trained.best_epoch, was_done=True)
        if ranks.first:
            stack.enter_context(runfolder.logging_to(where))
        if note:
            log.warning(note)
        longer = () if epochs is None else new_schedule(where, epochs, trained.epoch, done=bool(done))
        resolved = resolve_run(where, without=without, settings=longer)
        prepared = prepare(resolved)
        runfolder.require_same_data(where, prepared.fingerprint)
        itself = Origin(prepared.run.landmarks, content["stations"])
        job = build(prepared, new_network(prepared), where, itself, evaluated=trained.best_epoch >= 0)
        prepared.hooks.tell("run_start", run=job.run, model=job.model)
        progress = restore(job, content, tuple(without))
        ranks.require_same((progress.epoch, progress.batch), "checkpoint")
        stack.enter_context(recorded_by(ranks, where, prepared.data))
        log.info("going on at epoch %d, batch %d", progress.epoch + 1, progress.batch)
        if longer:
            log.info("a new schedule from here to epoch %d: %s", epochs, ", ".join(longer))
        if without:
            save_last(job, progress)  # first: a checkpoint that has fewer plugins than the config can be gone on with
        if (without or longer) and ranks.first:
            rewrite_config(where, resolved, longer)
        return drive(job, progress, where, watcher or Silent(), prepared.data)


def figures_if_finished(where: Path) -> dict[str, Any] | None:
    """The validation figures of a run that is finished, else None."""
    ended = runfolder.read_state(where).state == "finished"
    return runfolder.read_figures(where).get("validation") if ended else None


def new_schedule(where: Path, epochs: int, trained: int, *, done: bool) -> tuple[str, ...]:
    """The settings by which a finished run, `trained` for so many epochs, goes on to `epochs`."""
    if not done:
        raise ConfigError(
            f"{where} is not finished, and a run goes on by its own schedule",
            key="train.epochs",
            hint=f"finish it first: ceph run --resume {where}",
        )
    if epochs <= trained:
        raise ConfigError(f"must be more than the {trained} that {where} has trained, not {epochs}", key="train.epochs")
    return f"train.epochs={epochs}", f"train.schedule_from={trained}", "train.stop_after=null"


def rewrite_config(where: Path, resolved: Resolved, changed: Sequence[str]) -> None:
    """Write the run's config.yaml anew; of what is not `changed` it tells the origins that it has told."""
    before = runfolder.read_settings(where)
    told = {setting.key: setting.origin for setting in before if setting.origin}
    for setting in changed:
        told[setting.partition("=")[0]] = "--resume, with --set train.epochs"
    files = {name: f"./{os.path.relpath(p.file, where)}" for name, p in resolved.plugins.items() if p.file}
    runfolder.write_text(where / runfolder.CONFIG, replace(resolved, provenance=told).dump(files))


def check(config: AnyConfig, init_from: Path | str | None = None) -> str:
    """Check everything that can be checked without training, and say what would be trained; `ceph run --dry-run`."""
    prepared = prepare(of_a_new_run(config))
    run, network = prepared.run, new_network(prepared)
    if (source := source_of(prepared.config, init_from)) is not None:
        transfer_from(network, source, run)
    lines = {
        "films": f"{len(run.samples)} train, {len(prepared.validation)} validation"
        + (f", {len(run.unmarked)} unmarked" if run.unmarked else ""),
        "landmarks": f"{len(run.landmarks)}: {' '.join(run.landmarks)}",
        "network": f"{run.config.model.backbone}, {describe_size(network)}, input {run.size[0]} x {run.size[1]} px",
        "loss": f"{prepared.config.loss.name} on {prepared.config.target_kind}",
        "training": f"{run.epochs} epochs of {run.steps_per_epoch} steps on {describe(prepared.runtime)}",
        "plugins": ", ".join(prepared.hooks.names) or "none",
    }
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())


@contextmanager
def recorded_by(ranks: Ranks, where: Path, data: DataSet) -> Iterator[None]:
    """In the first process of the job, keep the run's state, and at a good end write its report."""
    if not ranks.first:
        yield
        return
    with runfolder.recorded(where):
        yield
    report_if_possible(where, data)


def new_network(prepared: Prepared) -> nn.Module:
    """The network of a config, with random weights."""
    config, landmarks = prepared.config, len(prepared.run.landmarks)
    with explained(f"building {config.model.backbone}, {config.model.width} wide, for {landmarks} landmarks", NETWORK):
        return make_model(config, prepared.hooks, prepared.run)


def build(
    prepared: Prepared, model: nn.Module, where: Path, origin: Origin | None = None, *, evaluated: bool = False
) -> Job:
    """Everything around the network that training needs, of a run that has been `evaluated` before or not."""
    config, hooks, runtime = prepared.config, prepared.hooks, prepared.runtime
    run = replace(prepared.run, origin=origin)
    with explained(f"moving {describe_size(model)} to {describe(runtime)}", NETWORK):
        runtime.place(model)
    stations = make_stations(config, hooks, run)
    criterion = make_criterion(config, hooks, run)
    optimizer, schedule = make_optimizer(config, hooks, model, run)
    workers, pin = loader_workers(config, runtime), runtime.device.type == "cuda"
    evaluator = Evaluator(config, hooks, runtime, run.landmarks, stations)
    validation = Loader(prepared.validation, workers, pin=pin)
    also = {name: Loader(films, workers, pin=pin) for name, films in prepared.also.items()}

    def validate(module: nn.Module) -> dict[str, Any]:
        def scored(name: str, loader: Loader, films: Films) -> dict[str, Any]:
            return evaluator.figures(name, evaluator.split(module, loader, films), films.samples)

        films = min(config.evaluate.batch_size, len(prepared.validation))
        with explained(f"predicting a batch of {films} films at {run.size[0]}x{run.size[1]} px", predicting(films)):
            figures = scored("validation", validation, prepared.validation)
            others = {name: scored(name, loader, prepared.also[name]) for name, loader in also.items()}
        return {**figures, "also": others} if others else figures

    return Job(
        run=replace(run, folder=where),
        hooks=hooks,
        runtime=runtime,
        model=model,
        forward=make_forward(config, hooks, runtime, model),
        targets=make_targets(config, hooks, run),
        stations=stations,
        kind=config.target_kind,
        criterion=torch.compile(criterion) if config.train.compile else criterion,
        optimizer=optimizer,
        schedule=schedule,
        scaler=torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16"),
        loader=(training := Loader(prepared.train, workers, pin=pin)),
        loaders=(training, validation, *also.values()),
        validate=validate,
        monitor=make_monitor(config.train.monitor, run.landmarks, also=config.evaluate.also, evaluated=evaluated),
        checkpoints=where / runfolder.CHECKPOINTS,
        parts=parts_of(model),
    )


def drive(job: Job, progress: Progress, where: Path, watcher: Watcher, data: DataSet) -> Result:
    """Train to the end under signal handlers; then the figures and predictions of the best checkpoint."""
    ranks = job.runtime.ranks
    with ExitStack() as ends, stop_between_steps(patient=ranks.count > 1) as stop:
        for loader in job.loaders:
            ends.callback(loader.end)
        fit(job, progress, _Recorded(watcher, where, progress) if ranks.first else Silent(), stop)
    figures = ranks.agreed(load(where).evaluate("validation", own=data)[0] if ranks.first else {})
    result = Result(where, figures, progress.best_epoch)
    if not ranks.first:
        return result
    job.hooks.tell("run_end", run=job.run, result=result)
    if job.hooks.names and progress.timed[0]:
        cost = trace.summary(job.hooks.spent, *progress.timed)
        runfolder.write_cost(where, cost)
        log.info(trace.share_line(cost))
    log.info("done: validation MRE %s mm, best epoch %d", figures["mre_mm"], progress.best_epoch + 1)
    return result


@dataclass
class _Recorded:
    """A watcher that also keeps metrics.jsonl."""

    inner: Watcher
    where: Path
    progress: Progress

    def start(self, epochs: int, done: int) -> None:
        runfolder.write_records(self.where, self.progress.records)
        self.inner.start(epochs, done)

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        self.inner.step(epoch, done, total, loss)

    def epoch(self, record: Mapping[str, Any]) -> None:
        runfolder.write_records(self.where, self.progress.records)
        self.inner.epoch(record)


def write_description(resolved: Resolved, prepared: Prepared, where: Path, init_from: Path | None) -> None:
    """Make the folder stand alone: config.yaml, environment.json, data_fingerprint.json, copies of file plugins."""
    copies = runfolder.copy_plugins(where, {n: p.file for n, p in resolved.plugins.items() if p.file})
    runfolder.write_text(where / runfolder.CONFIG, resolved.dump(copies))
    plugins = {
        name: {
            "version": p.version,
            "source": p.distribution or p.source.name,
            "sha256": p.sha256,
            "hooks": list(hooks_of(p.plugin_class)),
        }
        for name, p in resolved.plugins.items()
    }
    agree({p.sha256: p.source for p in resolved.plugins.values() if p.file})
    found = runfolder.environment(plugins, describe(prepared.runtime), init_from)
    runfolder.write_environment(where, found)
    runfolder.write_fingerprint(where, prepared.fingerprint)


def describe(runtime: Runtime) -> str:
    """The device and the precision, for a person."""
    name = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else str(runtime.device)
    return f"{name}, {runtime.precision}" + (f", {runtime.ranks.count} processes" if runtime.ranks.count > 1 else "")


def source_of(config: Config, init_from: Path | str | None) -> Path | None:
    """The run, or the file, whose weights a whole network starts from; None where its backbone alone has first ones."""
    named = runfolder.DRAWN if init_from is None and config.model.weights == runfolder.DRAWN else init_from
    return None if named is None else runfolder.located(named)


def transfer_from(model: nn.Module, source: Path, run: Run) -> tuple[str, Origin | None]:
    """Start from the best checkpoint of a run, or from a file of weights; warns where its maps mean something else.

    Returns what was done, for the log, and what the run was.
    """
    if not source.is_dir():
        weights = read_weights(source, key="--init-from")
        return f"{source}: {transfer(model, weights, run.landmarks, run.landmarks)}", None
    runfolder.require_run(source)
    if members := runfolder.read_members(source):
        raise ConfigError(f"{source} is several runs", key="--init-from", hint=f"name one: {members[0]}")
    content = checkpoint.load(source / runfolder.CHECKPOINTS, checkpoint.BEST)
    if runfolder.is_adapted(source):
        log.warning("%s: the offsets of `ceph adapt` are not part of its weights and stay behind", source)
    now, before = run.config.target_kind, content.get("kind", run.config.target_kind)
    if now != before:
        log.warning(
            "%s draws each map as a %s, but the loss %s trains a %s: fine-tuning at a low rate can ruin it;"
            " keep the loss of that run with --set loss.name=...",
            *(source, before, run.config.loss.name, now),
        )
    theirs, parts = tuple(content["landmarks"]), content.get("parts", ())
    told = f"{source}: {transfer(model, content['model'], theirs, run.landmarks, parts)}"
    return told, Origin(theirs, content.get("stations", {}))
