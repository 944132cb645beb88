"""All parts of a run in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ceph.data.dataset import Loader
from ceph.hooks.base import Run
from ceph.hooks.verbs import Hooks
from ceph.model.codec import Codec
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
