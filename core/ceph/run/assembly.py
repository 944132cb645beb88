"""From a config to the parts of a run: each `make_*` asks the plugins and falls back on the core's own."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ceph.config.load import Resolved
from ceph.config.models import Config
from ceph.data.geometry import letterbox_scale
from ceph.evaluation.stations import Stations
from ceph.hooks.base import Run
from ceph.hooks.verbs import Hooks
from ceph.model.codec import GaussianDecoder, GaussianTargets, Targets
from ceph.model.network import LandmarkNetwork, add_parts, parts_of
from ceph.training.graphs import Graphed
from ceph.training.loss import CRITERIA, Criterion
from ceph.training.optim import Schedule, adamw, warmup_cosine
from ceph.training.runtime import Runtime

log = logging.getLogger("ceph")

HEATMAP_PRIOR = 0.01  # activation of an untrained heatmap


def make_hooks(resolved: Resolved) -> Hooks:
    """The plugins that are on, each made with its settings."""
    return Hooks(resolved.create_plugins(), {name: found.version for name, found in resolved.plugins.items()})


def make_model(config: Config, hooks: Hooks, run: Run) -> nn.Module:
    """The network with the modules of plugins, with random weights."""

    def default() -> nn.Module:
        return LandmarkNetwork(
            config.model.backbone,
            len(run.landmarks),
            stride=config.model.stride,
            width=config.model.width,
            prior=HEATMAP_PRIOR if config.target_kind == "heatmap" else None,
        )

    model: nn.Module = hooks.one("build_model", default, run=run)
    add_parts(model, hooks.merge("modules", run=run, model=model))
    return model


def make_forward(config: Config, hooks: Hooks, runtime: Runtime, model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model as training runs it: compiled, as CUDA graphs, for several processes, or as it is."""
    settings = config.train
    if settings.compile:
        compiled: Callable[[Tensor], Tensor] = torch.compile(model)
        return compiled
    alone = runtime.device.type == "cuda" and runtime.ranks.count == 1 and settings.accumulate == 1
    if settings.cuda_graphs and alone and not hooks.answers("build_model"):
        return Graphed(model)
    return runtime.ranks.wrap(model, sync_batchnorm=settings.sync_batchnorm, apart=tuple(parts_of(model)))


def make_targets(config: Config, hooks: Hooks, run: Run) -> Targets:
    """What renders the targets of training."""

    def default() -> Targets:
        return GaussianTargets(config.target_kind, config.sigma_px, config.model.stride)

    targets: Targets = placed(hooks.one("build_targets", default, run=run), run.device)
    return targets


def make_stations(config: Config, hooks: Hooks, run: Run) -> Stations:
    """The stations of decoding; of a finished run, `run` is without samples and `load_state_dict` follows."""

    def decoder() -> GaussianDecoder:
        return GaussianDecoder(config.target_kind, config.sigma_px, config.model.stride, config.decoder)

    built: dict[str, Any] = {"decoder": hooks.one("build_decoder", decoder, run=run)}
    for name in ("constraint", "refiner", "offsets"):
        built[name] = hooks.one(f"build_{name}", lambda: None, run=run)
    spacings = [sample.mm_per_px / letterbox_scale(sample.size, run.size) for sample in run.samples]
    return Stations(
        **{name: placed(station, run.device) for name, station in built.items()},
        built_by={name: blame for name in built for blame in hooks.blames(f"build_{name}").values()},
        mm_per_px=float(np.median(spacings)) if spacings else math.nan,
    )


def placed(part: Any, device: torch.device | None) -> Any:
    """The part on the device and in evaluation mode where it is a module, else as it is."""
    return part.to(device).eval() if isinstance(part, nn.Module) else part


def make_criterion(config: Config, hooks: Hooks, run: Run) -> Criterion:
    """The unreduced loss."""
    criterion: Criterion = hooks.one("build_criterion", lambda: CRITERIA[config.loss.name], run=run)
    return criterion


def make_optimizer(config: Config, hooks: Hooks, model: nn.Module, run: Run) -> tuple[torch.optim.Optimizer, Schedule]:
    """The optimiser and the schedule of its rate."""
    settings, start = config.train, config.train.schedule_from
    run = replace(run, epochs=settings.epochs - start)  # of a run that trains on, those of its new schedule

    def default() -> tuple[torch.optim.Optimizer, Schedule]:
        warmup = settings.warmup_epochs.epochs(run.epochs)
        if warmup > run.epochs:
            log.warning("the warm-up of %g epochs is cut to the run's %d", warmup, run.epochs)
        optimizer = adamw(model, settings.lr, settings.weight_decay)
        return optimizer, warmup_cosine(run.epochs, warmup)

    optimizer, schedule = hooks.one("build_optimizer", default, model=model, run=run)
    return optimizer, (lambda epochs_done: schedule(epochs_done - start)) if start else schedule
