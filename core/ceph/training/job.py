"""All parts of a run in one record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ceph.data.loader import Loader
from ceph.evaluation.stations import Stations
from ceph.hooks.base import Run
from ceph.hooks.verbs import Hooks
from ceph.model.codec import Targets
from ceph.training.loss import Criterion
from ceph.training.optim import Schedule, initial_rates
from ceph.training.runtime import Runtime

Validate = Callable[[nn.Module], dict[str, Any]]  # the module to evaluate -> the figures of the validation split


@dataclass(frozen=True, eq=False)
class Job:
    """All parts of a run, chosen and built; nothing here changes while it trains but the model and the optimiser."""

    run: Run
    hooks: Hooks
    runtime: Runtime
    model: nn.Module
    forward: Callable[[torch.Tensor], torch.Tensor]  # the model, compiled or wrapped; hooks get the model itself
    targets: Targets
    stations: Stations
    kind: str
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    loader: Loader
    loaders: tuple[Loader, ...]  # this one and those of the evaluations: their workers end with the training
    validate: Validate
    monitor: Callable[[Mapping[str, Any]], float]  # figures -> a number, smaller is better
    checkpoints: Path
    rates: list[float] = field(default_factory=list)
    parts: Mapping[str, nn.Module] = field(default_factory=dict)  # the model's children that plugins gave

    def __post_init__(self) -> None:
        if not self.rates:
            object.__setattr__(self, "rates", initial_rates(self.optimizer))

    def factor(self, epochs_done: float) -> float:
        """What multiplies each rate now. Raises PluginError where a plugin's schedule gives no finite number >= 0."""
        found = self.schedule(epochs_done)
        if not (isinstance(found, (int, float, np.number)) and math.isfinite(found) and found >= 0):
            promised = "where a finite number >= 0 is promised"
            raise self.hooks.fault("build_optimizer", f"its schedule gave {type(found).__name__} {found} {promised}")
        return float(found)
