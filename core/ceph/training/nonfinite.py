"""Numbers that are not finite: whose fault they are, and whether the run stops there or leaves the step out."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import nn

from ceph.errors import PluginError, TrainingError
from ceph.training.job import Job
from ceph.training.progress import Progress, Unread

log = logging.getLogger("ceph")

FLAGS = ("maps", "criterion", "loss", "gradient")  # of `Unread.finite`; the last two are the same in all processes
BUILT = (
    "build_model",
    "modules",
    "build_targets",
    "build_criterion",
    "build_optimizer",
)  # what a loss and its step come from
MOST_SKIPPED = 10  # steps in a row; then something is wrong that skipping does not cure


def is_due(job: Job, progress: Progress, *, last: bool) -> bool:
    """Whether this step's flags are read before the optimiser steps; on a GPU that waits for the device.

    Always on a CPU, at the `last` step of an epoch, and where a step may have to be skipped.
    """
    settings = job.run.config.train
    cheap = job.runtime.device.type == "cpu"
    return cheap or last or settings.non_finite == "skip" or progress.step % settings.check_every == 0


def is_sound(job: Job, progress: Progress) -> bool:
    """Read the flags since the last time. False: leave the step out, since a number in it is not finite.

    Raises PluginError where a plugin gave such a number, and TrainingError, naming step and films, where the run is to
    stop at it or has skipped too many steps in a row. A plugin that only passed on what it was given is not blamed.
    """
    unread, progress.unread = progress.unread, []
    flags = torch.stack([u.finite for u in unread]).tolist()
    job.runtime.ranks.settle(_guilty(job, flags))
    bad = next(((u, f) for u, f in zip(unread, flags, strict=True) if not (f[2] and f[3])), None)
    if bad is None:
        progress.skipped_in_a_row = 0
        return True
    what = _told(job, progress, *bad)
    if job.run.config.train.non_finite == "stop":
        hint = "a lower train.lr, train.precision=fp32, or a look at these films; or train.non_finite=skip"
        raise TrainingError(what, hint=f"{hint}; the last checkpoint is older{job.hooks.suspects(*BUILT)}")
    progress.skipped += 1
    progress.skipped_in_a_row += 1
    if progress.skipped_in_a_row >= MOST_SKIPPED:
        hint = f"a lower train.lr or train.precision=fp32; the last checkpoint is older{job.hooks.suspects(*BUILT)}"
        raise TrainingError(f"{what}; {MOST_SKIPPED} steps in a row were not", hint=hint)
    log.warning("%s; this step is skipped", what)
    return False


def require_finite_weights(job: Job, progress: Progress) -> None:
    """Raise TrainingError before weights that are not finite are evaluated or replace a good checkpoint."""
    if not weights_are_finite(job.model):
        hint = f"a lower train.lr, or train.precision=fp32; the last checkpoint is older{job.hooks.suspects(*BUILT)}"
        raise TrainingError(
            f"the weights are not finite at step {progress.step} (epoch {progress.epoch + 1})", hint=hint
        )


def weights_are_finite(model: nn.Module) -> bool:
    """Whether a checkpoint of this model is worth writing: its parameters and buffers are finite."""
    return all(bool(torch.isfinite(part).all()) for part in (*model.parameters(), *model.buffers()))


def _guilty(job: Job, flags: Sequence[Sequence[bool]]) -> PluginError | None:
    """The fault of a plugin, unless the numbers that it was given were not finite themselves."""
    maps, criterion = (all(step[flag] for step in flags) for flag in (0, 1))
    try:
        if maps:
            job.hooks.check("pixel_weights")
        if maps and criterion:
            job.hooks.check()
    except PluginError as error:
        return error
    finally:
        job.hooks.forget()
    return None


def _told(job: Job, progress: Progress, unread: Unread, finite: Sequence[bool]) -> str:
    films = unread.films.tolist()
    names = ", ".join(job.run.samples[film].id if film >= 0 else "an unmarked film" for film in films)
    part = "loss" if not finite[2] else "gradient"
    if not all(bool(torch.isfinite(p).all()) for p in job.model.parameters()):
        part = "weights"
    verb = "are" if part == "weights" else "is"
    return f"the {part} {verb} not finite at step {unread.step} (epoch {progress.epoch + 1}); films: {names}"
