"""The training loop: fit, train_epoch, train_step.

The plan of an epoch is fixed before its first step, every random draw comes from a seed of its own, and the state is
written between steps; so a run that was stopped at any step and resumed ends in the same weights, bit for bit.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
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
from ceph.hooks.sampling import begun_state
from ceph.model.codec import float_maps, soft_points
from ceph.model.network import seen_by_parts
from ceph.stop import StopRequest
from ceph.training import checkpoint, nonfinite
from ceph.training.job import Job
from ceph.training.loss import ratio, weighted_mean
from ceph.training.memory import LOADED, explained
from ceph.training.optim import set_rates
from ceph.training.progress import Progress, Rows, Unread, Watcher, epoch_tables, landmark_weights
from ceph.training.ranks import connected
from ceph.training.seen import Seen, image_size, masked

log = logging.getLogger("ceph")

LAST = "last"  # of `train.monitor`: every epoch is better than those before
ADDED = ("landmark_losses", "loss_terms")  # the hooks that add to the loss


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
                module, figures = evaluate_epoch(job, progress)
                watcher.epoch(progress.records[-1])
                keep_best(job, progress, module, figures)
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
    items = job.loader.load(plan.part(ranks.rank, ranks.count, progress.batch), progress.sampling)
    watch_every = 1 if job.runtime.device.type == "cpu" else settings.check_every
    began, before = perf_counter(), progress.step
    while progress.batch < total:
        first = progress.batch
        batches = plan.batches[first : first + settings.accumulate]
        job.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(derive(settings.seed, "step", progress.epoch, first))
        done, last = progress.epoch + first / total, first + len(batches) == total
        set_rates(job.optimizer, job.rates, job.factor(done))
        loss = train_step(job, progress, items, [len(b) for b in batches], epochs_done=done, last=last)
        if progress.step % watch_every == 0 or progress.batch == total:
            watcher.step(progress.epoch, progress.batch, total, float(loss))
        end_if_asked(job, progress, stop, done=progress.batch == total)
    progress.timed = (progress.timed[0] + progress.step - before, progress.timed[1] + perf_counter() - began)


def train_step(
    job: Job, progress: Progress, items: Iterator[Item], films: Sequence[int], *, epochs_done: float, last: bool
) -> torch.Tensor:
    """One optimiser step over micro-batches of so many `films`; returns their mean loss, detached.

    A step whose numbers are not finite stops the run, or is counted but changes nothing (`train.non_finite`).
    """
    settings, ranks = job.run.config.train, job.runtime.ranks
    total: torch.Tensor = torch.zeros((), device=job.runtime.device)
    finite = torch.ones(2, dtype=torch.bool, device=job.runtime.device)
    rows: list[Rows] = []
    statistics = [b.clone() for b in job.model.buffers()] if settings.non_finite == "skip" else []
    for number, count in enumerate(films, 1):
        with explained(f"loading a batch of {count} films"):
            batch = to_batch(
                next(items), job.runtime.device, epoch=progress.epoch, step=progress.step, epochs_done=epochs_done
            )
        if not ranks.share(count):  # a film that another process trains: it stands in and counts for nothing
            batch = dataclasses.replace(batch, valid=torch.zeros_like(batch.valid))
        with (
            explained(f"training a batch of {len(batch.index)} films at {_size(batch)} px"),
            ranks.exchanging(job.forward, gradients=number == len(films)),
        ):
            loss, seen = batch_loss(job, batch)
            job.scaler.scale(loss / len(films)).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() / len(films)
        finite &= seen.finite
        rows.append(ranks.gathered(seen.rows(job.kind), count))
    total = ranks.averaged(total)
    ranks.average_gradients(job.parts)
    job.scaler.unscale_(job.optimizer)
    norm = nn.utils.clip_grad_norm_(job.model.parameters(), settings.clip_norm or math.inf)
    found = torch.stack((*finite, torch.isfinite(total), torch.isfinite(norm) | job.scaler.is_enabled()))
    progress.unread.append(Unread(progress.step, torch.cat([row[0] for row in rows]), found))
    sound = not nonfinite.is_due(job, progress, last=last) or nonfinite.is_sound(job, progress)
    if sound:
        job.scaler.step(job.optimizer)
    job.scaler.update()
    progress.note(rows if sound else [(i, *(torch.full_like(p, math.nan) for p in parts)) for i, *parts in rows])
    if not settings.sync_batchnorm:
        ranks.copy_buffers(job.model)
    if sound:
        job.hooks.tell("step_end", step=progress.step, model=job.model, loss=total)
    else:
        for buffer, before in zip(job.model.buffers(), statistics, strict=True):
            buffer.copy_(before)
    return total


def batch_loss(job: Job, batch: Batch) -> tuple[torch.Tensor, Seen]:
    """The training loss of a micro-batch, a scalar, and what it was made of.

    Of several processes each gives its part of the loss of the whole micro-batch; the parts average to it.
    """
    hooks, ranks = job.hooks, job.runtime.ranks
    batch = masked(batch, hooks.all("landmark_mask", tuple(batch.valid.shape), batch=batch))
    pred, outputs = forward(job, batch.image)
    target = job.targets.encode(batch, (pred.shape[-2], pred.shape[-1]))
    target = hooks.promised("build_targets", target, tuple(pred.shape), pred.device)
    pixels = hooks.product("pixel_weights", tuple(pred.shape), batch=batch, pred=pred.detach(), target=target)
    loss = job.criterion(pred, target, pixels)
    loss = hooks.promised("build_criterion", loss, tuple(batch.valid.shape), pred.device, torch.float32)
    loss = loss.masked_fill(~batch.valid, 0.0)
    main = loss.detach()
    weights = hooks.product("landmark_weights", tuple(main.shape), batch=batch, loss=main)
    points = soft_points(pred, job.kind, image_size(batch)) if hooks.wants("points", *ADDED) else pred
    added = {"batch": batch, "pred": pred, "points": points, "model": job.model, "outputs": outputs}
    for more in hooks.merge("landmark_losses", **added).values():
        loss = loss + more.masked_fill(~batch.valid, 0.0)
    value = weighted_mean(loss, batch.valid, weights, ranks.averaged)
    for term in hooks.merge("loss_terms", **added).values():
        total, count = term if isinstance(term, tuple) else (term * batch.valid.sum(), batch.valid.sum())
        value = value + ratio(total, ranks.averaged(count.to(total.dtype)))
    return value, Seen(batch, pred.detach(), main, weights)


def forward(job: Job, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
    """Raw maps [B, K, h, w], fp32, of images [B, 1, H, W], and the outputs of the modules that see features."""
    wanted = job.hooks.answers("modules") or job.hooks.wants("outputs", *ADDED)
    with job.runtime.autocast():
        pred, outputs = seen_by_parts(job.model, job.forward, images) if wanted else (job.forward(images), {})
    sides = (-(-side // job.run.config.model.stride) for side in images.shape[-2:])
    shape = (len(images), len(job.run.landmarks), *sides)
    return float_maps(job.hooks.promised("build_model", pred, shape, images.device)), outputs


def planned_epoch(job: Job, progress: Progress) -> EpochPlan:
    """The plan of the running epoch; sampling weights are asked for once and then belong to the run's state."""
    settings, epoch = job.run.config.train, progress.epoch
    if not progress.planned:
        weights = job.hooks.product("sample_weights", (len(job.run.samples),), epoch=epoch, samples=job.run.samples)
        progress.weights = None if weights is None else weights.detach().double().cpu()
        progress.sampling = begun_state(job.hooks)
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
        unmarked=len(job.run.unmarked),
        unmarked_share=job.run.config.data.unmarked_share,
    )


def evaluate_epoch(job: Job, progress: Progress) -> tuple[nn.Module, dict[str, Any]]:
    """Validate, tell the plugins, and write the epoch's record; returns the module that was validated."""
    module: nn.Module = job.hooks.one("eval_model", lambda: job.model, epoch=progress.epoch, model=job.model)
    figures = job.validate(module)
    tables = epoch_tables(progress, len(job.run.samples))
    about = {"model": job.model, "samples": job.run.samples, "metrics": figures, **tables}
    job.hooks.tell("epoch_end", epoch=progress.epoch, **about)
    job.hooks.check()
    weighed = {}
    if job.hooks.answers("landmark_weights"):
        weighed = landmark_weights(progress, job.run.landmarks)
        warn_of_nothing(job, progress)
    progress.records.append(
        {
            "epoch": progress.epoch,
            "step": progress.step,
            "films": progress.drawn,
            "megapixels": progress.megapixels,
            "skipped_steps": progress.skipped,
            "sizes": progress.sizes,
            "landmark_weights": weighed,
            "lr": [rate * job.factor(progress.epoch + 1) for rate in job.rates],
            "loss": float(torch.nanmean(tables["loss"])),
            "train_mre_mm": float(torch.nanmean(tables["errors_mm"])),
            "validation": figures,
        }
    )
    return module, figures


def warn_of_nothing(job: Job, progress: Progress) -> None:
    """Warn of an epoch whose weights left nothing to train, and of landmarks that weighed nothing in all of it."""
    counted = progress.table("counted")
    idle = (counted.nan_to_num() <= 0).all(dim=0) & ~counted.isnan().all(dim=0)
    if not bool(idle.any()):
        return
    names = " and ".join(job.hooks.answerers("landmark_weights"))
    what = (
        "every landmark"
        if bool(idle[~counted.isnan().all(dim=0)].all())
        else ", ".join(
            symbol for symbol, weighs_nothing in zip(job.run.landmarks, idle.tolist(), strict=True) if weighs_nothing
        )
    )
    log.warning(
        "epoch %d: %s weighed 0 in all of it, so it trained nothing there; weights are from %s",
        progress.epoch + 1,
        what,
        names,
    )


def keep_best(job: Job, progress: Progress, module: nn.Module, figures: Mapping[str, Any]) -> None:
    """Write `best` when the monitored figure is better than ever; it holds `module`, which was evaluated."""
    value, latest = job.monitor(figures), job.run.config.train.monitor == LAST
    if value >= progress.best and progress.best_epoch >= 0 and not latest:
        return
    progress.best, progress.best_epoch = value, progress.epoch
    if not job.runtime.ranks.first:
        return
    content = {
        "model": module.state_dict(),
        "stations": job.stations.state_dict(),
        "landmarks": list(job.run.landmarks),
        "kind": job.kind,
        "parts": list(job.parts),
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
        "stations": job.stations.state_dict(),
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
    job.stations.load_state_dict(content["stations"])
    job.hooks.load_state_dict(content["plugins"], without=without)
    return Progress.from_state(content["progress"])


def last_epoch(settings: TrainConfig) -> int:
    """The epoch before which a run ends."""
    return min(settings.epochs, settings.stop_after or settings.epochs)


def finished(progress: Progress, settings: TrainConfig) -> bool:
    """Whether all epochs are trained, or the monitored figure has not improved for `early_stopping` of them."""
    patience = settings.early_stopping
    best = max(progress.best_epoch, settings.schedule_from - 1)  # a new schedule is given its time
    tired = patience is not None and best >= 0 and progress.epoch - 1 - best >= patience
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
