"""The training loop: fit, train_epoch, train_step.

The plan of an epoch is fixed before its first step, every random draw comes from a seed of its own, and the state is
written between steps; so a run that was stopped at any step and resumed ends in the same weights, bit for bit.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ceph.config.models import TrainConfig
from ceph.data.dataset import Item, to_batch
from ceph.data.plan import EpochPlan, derive, plan_epoch
from ceph.data.types import Batch
from ceph.errors import CephError, CheckpointError, Interrupted, TrainingError
from ceph.model.codec import float_maps, soft_points
from ceph.training import checkpoint, nonfinite
from ceph.training.job import Job
from ceph.training.loss import masked_sums, weighted_mean
from ceph.training.memory import LOADED, explained
from ceph.training.optim import set_rates
from ceph.training.progress import Progress, Rows, Unread, Watcher, epoch_tables, landmark_weights
from ceph.training.ranks import connected
from ceph.training.runtime import StopRequest


def fit(job: Job, progress: Progress, watcher: Watcher, stop: StopRequest) -> None:
    """Train to the last epoch, or until early stopping, `stop`, or a fault; each leaves a checkpoint to go on from."""
    settings = job.run.config.train
    watcher.start(last_epoch(settings), progress.epoch)
    trained: dict[str, Any] | None = None  # the state before an evaluation: after a fault of that it is done again
    try:
        # A worker's death may be told at any line.
        with job.hooks.blamed(), connected(), explained(_describe(settings, job.run.size)):
            if progress.step == 0 and not (job.checkpoints / checkpoint.LAST).exists():
                save_last(job, progress)
            while not finished(progress, settings):
                train_epoch(job, progress, watcher, stop)
                nonfinite.require_finite_weights(job, progress)
                trained = copy.deepcopy(memory(job, progress))
                figures = evaluate_epoch(job, progress)
                watcher.epoch(progress.records[-1])
                keep_best(job, progress, figures)
                progress.next_epoch()
                trained = None
                save_last(job, progress)
                end_if_asked(job, progress, stop, done=finished(progress, settings))
    except CephError as error:
        if not isinstance(error, Interrupted | TrainingError) and nonfinite.weights_are_finite(job.model):
            save_last(job, progress, trained)
        raise


def train_epoch(job: Job, progress: Progress, watcher: Watcher, stop: StopRequest) -> None:
    """Train the rest of the running epoch."""
    settings = job.run.config.train
    job.model.train()
    job.hooks.tell("epoch_start", epoch=progress.epoch, model=job.model)
    plan = planned_epoch(job, progress)
    progress.drawn, progress.megapixels, progress.sizes = plan.films, plan.pixels / 1e6, plan.sizes
    total, ranks = len(plan.batches), job.runtime.ranks
    items = job.loader.load(plan.part(ranks.rank, ranks.count, progress.batch))
    watch_every = 1 if job.runtime.device.type == "cpu" else settings.check_every
    began, before = perf_counter(), progress.step
    while progress.batch < total:
        first = progress.batch
        batches = plan.batches[first : first + settings.accumulate]
        job.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(derive(settings.seed, "step", progress.epoch, first))
        set_rates(job.optimizer, job.rates, job.schedule(progress.epoch + first / total))
        loss = train_step(job, progress, items, [len(b) for b in batches], last=first + len(batches) == total)
        if progress.step % watch_every == 0 or progress.batch == total:
            watcher.step(progress.epoch, progress.batch, total, float(loss))
        end_if_asked(job, progress, stop, done=progress.batch == total)
    progress.timed = (progress.timed[0] + progress.step - before, progress.timed[1] + perf_counter() - began)


def train_step(
    job: Job, progress: Progress, items: Iterator[Item], films: Sequence[int], *, last: bool
) -> torch.Tensor:
    """One optimiser step over micro-batches of so many `films`; returns their mean loss, detached.

    A step whose numbers are not finite stops the run, or is counted but changes nothing (`train.non_finite`).
    """
    settings, ranks = job.run.config.train, job.runtime.ranks
    total: torch.Tensor = torch.zeros((), device=job.runtime.device)
    finite = torch.ones(2, dtype=torch.bool, device=job.runtime.device)
    seen: list[Rows] = []
    statistics = [b.clone() for b in job.model.buffers()] if settings.non_finite == "skip" else []
    for count in films:
        with explained(f"loading a batch of {count} films"):
            batch = to_batch(next(items), job.runtime.device, epoch=progress.epoch, step=progress.step)
        if not ranks.share(count):  # a film that another process trains: it stands in and counts for nothing
            batch = dataclasses.replace(batch, valid=torch.zeros_like(batch.valid))
        with explained(f"training a batch of {len(batch.index)} films at {_size(batch)} px"):
            loss, rows, whole = batch_loss(job, batch)
            job.scaler.scale(loss / len(films)).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() / len(films)
        finite &= whole
        seen.append(ranks.gathered(rows, count))
    total = ranks.averaged(total)
    job.scaler.unscale_(job.optimizer)
    norm = nn.utils.clip_grad_norm_(job.model.parameters(), settings.clip_norm or math.inf)
    found = torch.stack((*finite, torch.isfinite(total), torch.isfinite(norm) | job.scaler.is_enabled()))
    progress.unread.append(Unread(progress.step, torch.cat([rows[0] for rows in seen]), found))
    sound = not nonfinite.is_due(job, progress, last=last) or nonfinite.is_sound(job, progress)
    if sound:
        job.scaler.step(job.optimizer)
    job.scaler.update()
    progress.note(seen if sound else [(i, *(torch.full_like(p, math.nan) for p in parts)) for i, *parts in seen])
    if not settings.sync_batchnorm:
        ranks.copy_buffers(job.model)
    if sound:
        job.hooks.tell("step_end", step=progress.step, model=job.model, loss=total)
    else:
        for buffer, before in zip(job.model.buffers(), statistics, strict=True):
            buffer.copy_(before)
    return total


def batch_loss(job: Job, batch: Batch) -> tuple[torch.Tensor, Rows, torch.Tensor]:
    """The training loss of a micro-batch, a scalar; its rows, detached; whether maps and criterion are finite, [2].

    Of several processes each gives its part of the loss of the whole micro-batch; the parts average to it.
    """
    hooks, ranks, size = job.hooks, job.runtime.ranks, (batch.image.shape[-2], batch.image.shape[-1])
    with job.runtime.autocast():
        pred = float_maps(job.forward(batch.image))
    target = job.codec.encode(batch.points, size, (pred.shape[-2], pred.shape[-1]))
    pixels = hooks.product("pixel_weights", tuple(pred.shape), batch=batch, pred=pred.detach(), target=target)
    loss = job.criterion(pred, target, pixels).masked_fill(~batch.valid, 0.0)
    raw = loss.detach()
    weights = hooks.product("landmark_weights", tuple(raw.shape), batch=batch, loss=raw)
    numerator, denominator = masked_sums(loss, batch.valid, weights)
    value = weighted_mean(numerator, ranks.averaged(denominator))
    if hooks.answers("loss_terms"):
        points, share = soft_points(pred, job.kind, size), ranks.share_of(batch.valid.sum())
        for term in hooks.merge("loss_terms", batch=batch, pred=pred, points=points).values():
            value = value + term * share
    weighed = torch.ones_like(raw) if weights is None else weights.detach().expand_as(raw)
    parts = (raw, training_errors_mm(job, batch, pred.detach()), weighed)
    finite = torch.isfinite(raw).all()
    maps = torch.isfinite(pred.detach()).all() if hooks.answers("pixel_weights") else torch.ones_like(finite)
    rows = (batch.index, *(part.masked_fill(~batch.valid, math.nan) for part in parts))
    return value, rows, torch.stack((maps, finite))


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
    loss, errors_mm = epoch_tables(progress, len(job.run.samples))
    job.hooks.tell(
        "epoch_end", epoch=progress.epoch, samples=job.run.samples, loss=loss, errors_mm=errors_mm, metrics=figures
    )
    job.hooks.check()
    weighed = landmark_weights(progress, job.run.landmarks) if job.hooks.answers("landmark_weights") else {}
    progress.records.append(
        {
            "epoch": progress.epoch,
            "step": progress.step,
            "films": progress.drawn,
            "megapixels": progress.megapixels,
            "skipped_steps": progress.skipped,
            "sizes": progress.sizes,
            "landmark_weights": weighed,
            "lr": [rate * job.schedule(progress.epoch + 1) for rate in job.rates],
            "loss": float(torch.nanmean(loss)),
            "train_mre_mm": float(torch.nanmean(errors_mm)),
            "validation": figures,
        }
    )
    return figures


def keep_best(job: Job, progress: Progress, figures: Mapping[str, Any]) -> None:
    """Write `best` when the monitored figure is better than ever; it holds the weights that were evaluated."""
    value = job.monitor(figures)
    if value >= progress.best and progress.best_epoch >= 0:
        return
    progress.best, progress.best_epoch = value, progress.epoch
    if not job.runtime.ranks.first:
        return
    module = job.hooks.one("eval_model", lambda: job.model, model=job.model)
    content = {
        "model": module.state_dict(),
        "codec": job.codec.state_dict() if hasattr(job.codec, "state_dict") else {},
        "landmarks": list(job.run.landmarks),
        "kind": job.kind,
        "epoch": progress.epoch,
        "value": value,
    }
    checkpoint.save(job.checkpoints, checkpoint.BEST, content)


def save_last(job: Job, progress: Progress, remembered: Mapping[str, Any] | None = None) -> None:
    """Write `last`: raw weights and all state, which are the same in all processes; `remembered`: an older `memory`."""
    if not job.runtime.ranks.first:
        return
    content = {
        "model": job.model.state_dict(),
        "optimizer": job.optimizer.state_dict(),
        "scaler": job.scaler.state_dict(),
        "landmarks": list(job.run.landmarks),
        **(remembered or memory(job, progress)),
    }
    checkpoint.save(job.checkpoints, checkpoint.LAST, content)


def memory(job: Job, progress: Progress) -> dict[str, Any]:
    """What a checkpoint holds beside the weights and the optimiser: the state of plugins and the progress."""
    return {"plugins": job.hooks.state_dict(), "progress": progress.state()}


@explained("putting the checkpoint into the network and the optimiser", LOADED)
def restore(job: Job, content: Mapping[str, Any], without: tuple[str, ...] = ()) -> Progress:
    """Put a `last` checkpoint back into the job's model, optimiser and plugins; returns its progress.

    Raises CheckpointError where it is of another network, optimiser or set of plugins.
    """
    try:
        job.model.load_state_dict(content["model"])
        job.optimizer.load_state_dict(content["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the checkpoint does not fit the run's network and optimiser: {_first_lines(error)}",
            hint="restore the plugin or the package that builds them, or start a new run from these weights: "
            f"ceph run --init-from {job.checkpoints.parent}",
        ) from error
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


def end_if_asked(job: Job, progress: Progress, stop: StopRequest, *, done: bool) -> None:
    """After a signal to any process, unless all is `done`: write the checkpoint and raise Interrupted in all."""
    number = job.runtime.ranks.greatest(stop.signal)
    if not number or done:
        return
    save_last(job, progress)
    job.runtime.ranks.greatest(0)  # nobody leaves before it is written: torchrun then ends the others
    raise Interrupted(
        f"stopped by a signal at epoch {progress.epoch + 1}, batch {progress.batch}; the checkpoint is written",
        signal=number,
        hint=f"go on with: ceph run --resume {job.checkpoints.parent}",
    )


def _describe(settings: TrainConfig, size: tuple[int, int]) -> str:
    return f"training with batches of {settings.batch_size} films at {size[0]}x{size[1]} px"


def _size(batch: Batch) -> str:
    return "x".join(map(str, batch.image.shape[-2:]))


def _first_lines(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines()[:3])
