"""The training loop: fit, train_epoch, train_step.

The plan of an epoch is fixed before its first step, every random draw comes from a seed of its own, and the state is
written between steps; so a run that was stopped at any step and resumed ends in the same weights, bit for bit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ceph.config.models import TrainConfig
from ceph.data.dataset import Item, Loader, to_batch
from ceph.data.plan import EpochPlan, derive, plan_epoch
from ceph.data.types import Batch
from ceph.errors import CephError, Interrupted, TrainingError
from ceph.hooks.base import Run
from ceph.hooks.verbs import Hooks
from ceph.model.codec import Codec, soft_points
from ceph.training import checkpoint
from ceph.training.loss import Criterion, masked_sums, weighted_mean
from ceph.training.optim import Schedule, initial_rates, set_rates
from ceph.training.runtime import Runtime, StopRequest

log = logging.getLogger("ceph")

Validate = Callable[[nn.Module], dict[str, Any]]  # the module to evaluate -> the figures of the validation split


class Watcher(Protocol):
    """Whoever shows a run to a person."""

    def start(self, epochs: int, done: int) -> None:
        """A run of `epochs` begins, or goes on after `done` of them."""

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """`done` of the epoch's `total` batches are trained; `loss` is their mean."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch is over; `record` is its line of metrics.jsonl."""


@dataclass(frozen=True, eq=False)
class Job:
    """All parts of a run, chosen and built; nothing here changes while it trains but the model and the optimiser."""

    run: Run
    hooks: Hooks
    runtime: Runtime
    model: nn.Module
    forward: Callable[[torch.Tensor], torch.Tensor]  # the model, compiled or wrapped; hooks get the model itself
    codec: Codec
    kind: str
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    loader: Loader
    validate: Validate
    monitor: Callable[[Mapping[str, Any]], float]  # figures -> a number, smaller is better
    checkpoints: Path
    rates: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.rates:
            object.__setattr__(self, "rates", initial_rates(self.optimizer))


@dataclass
class Progress:
    """How far a run is, and the tables of its running epoch; everything a resumed run must know beside the weights."""

    epoch: int = 0
    batch: int = 0  # micro-batches of this epoch that are trained
    step: int = 0  # optimiser steps of the run
    best: float = math.inf
    best_epoch: int = -1
    weights: torch.Tensor | None = None  # [N] float64: this epoch's sampling weights
    planned: bool = False
    drawn: int = 0  # films that the epoch's plan draws
    megapixels: float = 0.0  # network pixels of these
    index: list[torch.Tensor] = field(default_factory=list)  # [B] for each batch
    loss: list[torch.Tensor] = field(default_factory=list)  # [B, K], NaN where not valid
    errors_mm: list[torch.Tensor] = field(default_factory=list)  # [B, K], NaN where not valid
    records: list[dict[str, Any]] = field(default_factory=list)  # the lines of metrics.jsonl
    timed: tuple[int, float] = (0, 0.0)  # steps of this process and their seconds; no part of the state

    def note(self, seen: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> None:
        """Count one optimiser step and keep what its micro-batches showed: (index, loss, errors in mm) of each."""
        for index, loss, errors_mm in seen:
            self.index.append(index)
            self.loss.append(loss)
            self.errors_mm.append(errors_mm)
        self.batch += len(seen)
        self.step += 1

    def next_epoch(self) -> None:
        """Clear the tables and turn to the next epoch."""
        self.epoch, self.batch, self.planned, self.weights = self.epoch + 1, 0, False, None
        self.index, self.loss, self.errors_mm = [], [], []

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        tables = {
            name: torch.cat(parts).cpu() if parts else None
            for name, parts in (("index", self.index), ("loss", self.loss), ("errors_mm", self.errors_mm))
        }
        plain = {n: getattr(self, n) for n in ("epoch", "batch", "step", "best", "best_epoch", "planned", "records")}
        return {**plain, **tables, "weights": self.weights}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """What `state` gave, back."""
        tables = {n: [] if state[n] is None else [state[n]] for n in ("index", "loss", "errors_mm")}
        return cls(**{**state, **tables})


def fit(job: Job, progress: Progress, watcher: Watcher, stop: StopRequest) -> None:
    """Train to the last epoch, or until early stopping, `stop`, or a fault; each leaves a checkpoint to go on from."""
    settings = job.run.config.train
    watcher.start(last_epoch(settings), progress.epoch)
    try:
        if progress.step == 0 and not (job.checkpoints / checkpoint.LAST).exists():
            save_last(job, progress)
        while not finished(progress, settings):
            train_epoch(job, progress, watcher, stop)
            figures = evaluate_epoch(job, progress)
            watcher.epoch(progress.records[-1])
            keep_best(job, progress, figures)
            progress.next_epoch()
            save_last(job, progress)
            if stop and not finished(progress, settings):
                raise interrupted(job, progress, stop)
    except CephError as error:
        if not isinstance(error, Interrupted | TrainingError) and weights_are_finite(job.model):
            save_last(job, progress)
        raise


def train_epoch(job: Job, progress: Progress, watcher: Watcher, stop: StopRequest) -> None:
    """Train the rest of the running epoch."""
    settings = job.run.config.train
    job.model.train()
    job.hooks.tell("epoch_start", epoch=progress.epoch, model=job.model)
    plan = planned_epoch(job, progress)
    progress.drawn, progress.megapixels = plan.films, plan.pixels / 1e6
    total = len(plan.batches)
    entries = plan.part(job.runtime.rank, job.runtime.ranks, progress.batch)
    items = job.loader.load(entries)
    watch_every = 1 if job.runtime.device.type == "cpu" else settings.check_every
    began, before = perf_counter(), progress.step
    while progress.batch < total:
        first, count = progress.batch, min(settings.accumulate, total - progress.batch)
        job.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(derive(settings.seed, "step", progress.epoch, first))
        set_rates(job.optimizer, job.rates, job.schedule(progress.epoch + first / total))
        loss = train_step(job, progress, items, count)
        if progress.step % watch_every == 0 or progress.batch == total:
            watcher.step(progress.epoch, progress.batch, total, float(loss))
        if stop and progress.batch < total:
            save_last(job, progress)
            raise interrupted(job, progress, stop)
    progress.timed = (progress.timed[0] + progress.step - before, progress.timed[1] + perf_counter() - began)


def train_step(job: Job, progress: Progress, items: Iterator[Item], count: int) -> torch.Tensor:
    """One optimiser step over `count` micro-batches; returns their mean loss, detached."""
    settings = job.run.config.train
    total: torch.Tensor = torch.zeros((), device=job.runtime.device)
    finite = torch.ones((), dtype=torch.bool, device=job.runtime.device)
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for _ in range(count):
        batch = to_batch(next(items), job.runtime.device, epoch=progress.epoch, step=progress.step)
        loss, raw, errors_mm = batch_loss(job, batch)
        job.scaler.scale(loss / count).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() / count
        finite &= torch.isfinite(raw).all()
        unknown = ~batch.valid
        seen.append((batch.index, raw.masked_fill(unknown, math.nan), errors_mm.masked_fill(unknown, math.nan)))
    job.scaler.unscale_(job.optimizer)
    if settings.clip_norm:
        nn.utils.clip_grad_norm_(job.model.parameters(), settings.clip_norm)
    if progress.step % settings.check_every == 0 or job.runtime.device.type == "cpu":
        films = torch.cat([index for index, _, _ in seen])
        require_finite(job, progress, films, finite)  # before the plugins are blamed for what they were given
        job.hooks.check()
        require_finite(job, progress, films, torch.isfinite(total))
    job.scaler.step(job.optimizer)
    job.scaler.update()
    progress.note(seen)
    job.hooks.tell("step_end", step=progress.step, model=job.model, loss=total)
    return total


def batch_loss(job: Job, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The training loss of a micro-batch, a scalar; its raw criterion [B, K] and errors [B, K] in mm, detached."""
    hooks, size = job.hooks, (batch.image.shape[-2], batch.image.shape[-1])
    with job.runtime.autocast():
        pred = job.forward(batch.image)
    pred = pred.float()
    target = job.codec.encode(batch.points, size, (pred.shape[-2], pred.shape[-1]))
    pixels = hooks.product("pixel_weights", tuple(pred.shape), batch=batch, pred=pred.detach(), target=target)
    loss = job.criterion(pred, target, pixels).masked_fill(~batch.valid, 0.0)
    raw = loss.detach()
    weights = hooks.product("landmark_weights", tuple(raw.shape), batch=batch, loss=raw)
    value = weighted_mean(*masked_sums(loss, batch.valid, weights))
    if hooks.answers("loss_terms"):
        points = soft_points(pred, job.kind, size)
        for term in hooks.merge("loss_terms", batch=batch, pred=pred, points=points).values():
            value = value + term
    return value, raw, training_errors_mm(job, batch, pred.detach())


@torch.no_grad()
def training_errors_mm(job: Job, batch: Batch, pred: torch.Tensor) -> torch.Tensor:
    """Errors [B, K] in mm of the points as they are now decoded from the training maps."""
    found = soft_points(pred, job.kind, (batch.image.shape[-2], batch.image.shape[-1]))
    distance: torch.Tensor = torch.linalg.vector_norm(found - batch.points, dim=-1)
    return distance * batch.mm_per_px[:, None]


def planned_epoch(job: Job, progress: Progress) -> EpochPlan:
    """The plan of the running epoch; sampling weights are asked for once and then belong to the run's state."""
    settings, epoch = job.run.config.train, progress.epoch
    if not progress.planned:
        weights = job.hooks.product("sample_weights", (len(job.run.samples),), epoch=epoch, samples=job.run.samples)
        progress.weights = None if weights is None else weights.detach().double().cpu()
        progress.planned = True
        job.hooks.check()

    def batch_shape(index: int) -> tuple[int, int]:
        shape: tuple[int, int] = job.hooks.one(
            "batch_shape", lambda: job.run.size, epoch=epoch, index=index, size=job.run.size, seed=settings.seed
        )
        return shape

    table: NDArray[np.float64] | None = None if progress.weights is None else progress.weights.numpy()
    return plan_epoch(
        len(job.run.samples),
        settings.batch_size,
        seed=settings.seed,
        epoch=epoch,
        size=job.run.size,
        weights=table,
        batch_shape=batch_shape if job.hooks.answers("batch_shape") else None,
        constant_pixels=settings.constant_pixels,
    )


def evaluate_epoch(job: Job, progress: Progress) -> dict[str, Any]:
    """Validate, tell the plugins, and write the epoch's record."""
    module = job.hooks.one("eval_model", lambda: job.model, model=job.model)
    figures = job.validate(module)
    loss, errors_mm = epoch_tables(job, progress)
    job.hooks.tell(
        "epoch_end", epoch=progress.epoch, samples=job.run.samples, loss=loss, errors_mm=errors_mm, metrics=figures
    )
    job.hooks.check()
    progress.records.append(
        {
            "epoch": progress.epoch,
            "step": progress.step,
            "films": progress.drawn,
            "megapixels": progress.megapixels,
            "lr": [rate * job.schedule(progress.epoch + 1) for rate in job.rates],
            "loss": float(torch.nanmean(loss)),
            "train_mre_mm": float(torch.nanmean(errors_mm)),
            "validation": figures,
        }
    )
    return figures


def epoch_tables(job: Job, progress: Progress) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss and error in mm of each training film and landmark over its draws, [N, K] each; NaN where not drawn."""
    index = torch.cat(progress.index).cpu()
    shape = (len(job.run.samples), len(job.run.landmarks))

    def mean(parts: list[torch.Tensor]) -> torch.Tensor:
        values = torch.cat(parts).double().cpu()
        known = ~values.isnan()
        total = torch.zeros(shape, dtype=torch.float64).index_add_(0, index, values.nan_to_num())
        return (total / torch.zeros(shape, dtype=torch.float64).index_add_(0, index, known.double())).float()

    return mean(progress.loss), mean(progress.errors_mm)


def keep_best(job: Job, progress: Progress, figures: Mapping[str, Any]) -> None:
    """Write `best` when the monitored figure is better than ever; it holds the weights that were evaluated."""
    value = job.monitor(figures)
    if value >= progress.best and progress.best_epoch >= 0:
        return
    progress.best, progress.best_epoch = value, progress.epoch
    module = job.hooks.one("eval_model", lambda: job.model, model=job.model)
    content = {
        "model": module.state_dict(),
        "landmarks": list(job.run.landmarks),
        "kind": job.kind,
        "epoch": progress.epoch,
        "value": value,
    }
    checkpoint.save(job.checkpoints, checkpoint.BEST, content)


def save_last(job: Job, progress: Progress) -> None:
    """Write `last`: raw weights and all state."""
    content = {
        "model": job.model.state_dict(),
        "optimizer": job.optimizer.state_dict(),
        "scaler": job.scaler.state_dict(),
        "plugins": job.hooks.state_dict(),
        "progress": progress.state(),
        "landmarks": list(job.run.landmarks),
    }
    checkpoint.save(job.checkpoints, checkpoint.LAST, content)


def restore(job: Job, content: Mapping[str, Any], without: tuple[str, ...] = ()) -> Progress:
    """Put a `last` checkpoint back into the job's model, optimiser and plugins; returns its progress."""
    job.model.load_state_dict(content["model"])
    job.optimizer.load_state_dict(content["optimizer"])
    job.scaler.load_state_dict(content["scaler"])
    job.hooks.load_state_dict(content["plugins"], without=without)
    return Progress.from_state(content["progress"])


def last_epoch(settings: TrainConfig) -> int:
    """The epoch before which a run ends."""
    return min(settings.epochs, settings.stop_after or settings.epochs)


def finished(progress: Progress, settings: TrainConfig) -> bool:
    """Whether all epochs are trained, or the monitored figure has not improved for `early_stopping` of them."""
    patience = settings.early_stopping
    tired = patience is not None and progress.best_epoch >= 0 and progress.epoch - 1 - progress.best_epoch >= patience
    return tired or progress.epoch >= last_epoch(settings)


def weights_are_finite(model: nn.Module) -> bool:
    """Whether a checkpoint of these weights is worth writing."""
    return all(bool(torch.isfinite(p).all()) for p in model.parameters())


def require_finite(job: Job, progress: Progress, films: torch.Tensor, finite: torch.Tensor) -> None:
    """Stop before a loss that is not finite reaches the weights, naming the films [B] of the step."""
    if bool(finite):
        return
    names = ", ".join(job.run.samples[film].id for film in films.tolist())
    raise TrainingError(
        f"the loss is not finite at step {progress.step} (epoch {progress.epoch}); films: {names}",
        hint="a lower train.lr, train.precision=fp32, or a look at these films; the last checkpoint is older",
    )


def interrupted(job: Job, progress: Progress, stop: StopRequest) -> Interrupted:
    """What a person reads after Ctrl-C."""
    folder = job.checkpoints.parent
    return Interrupted(
        f"stopped by a signal at epoch {progress.epoch}, batch {progress.batch}; the checkpoint is written",
        signal=stop.signal,
        hint=f"go on with: ceph run --resume {folder}",
    )
