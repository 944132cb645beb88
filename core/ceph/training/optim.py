"""The optimiser and the schedule of its rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

Schedule = Callable[[float], float]  # epochs done, fractional -> factor of each group's own rate


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019); biases and norms, the tensors of one dimension, do not decay."""
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, fused=True)


def warmup_cosine(epochs: int, warmup_epochs: float, start: float = 0.01) -> Schedule:
    """From `start` of the rate linearly to the whole rate at the end of the warm-up, then a half cosine to zero.

    A pure function of the epochs done, so a resumed run needs no state; a warm-up longer than the run is cut to it.
    """
    warmup = min(warmup_epochs, float(epochs))

    def factor(epochs_done: float) -> float:
        if epochs_done < warmup:
            return start + (1 - start) * epochs_done / warmup
        left = max(epochs - warmup, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (epochs_done - warmup) / left)))

    return factor


def initial_rates(optimizer: torch.optim.Optimizer) -> list[float]:
    """Each group's own rate, which the schedule multiplies."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def set_rates(optimizer: torch.optim.Optimizer, rates: list[float], factor: float) -> None:
    """Set each group's rate to its own times `factor`."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor
