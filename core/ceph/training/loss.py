"""Criteria, each unreduced [B, K] in fp32, and the one masked, weighted mean that makes a training loss of them.

Legend: pred [B, K, h, w] raw maps (fp32), target [B, K, h, w], pixel_weights broadcasting to them or None.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Criterion = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def cross_entropy(pred: torch.Tensor, target: torch.Tensor, pixel_weights: torch.Tensor | None) -> torch.Tensor:
    """Spatial cross-entropy of a target that sums to 1: log sum(w exp z) - sum(t z), [B, K].

    Pixel weights enter the partition, since the target is near zero where the hard negatives are: a weight of 2 makes
    a background response count twice.
    """
    logits = pred.flatten(2)
    aligned = (target.flatten(2) * logits).sum(-1)
    if pixel_weights is not None:
        logits = logits + pixel_weights.expand_as(pred).flatten(2).clamp_min(1e-12).log()
    return logits.logsumexp(-1) - aligned


def adaptive_wing(
    pred: torch.Tensor,
    target: torch.Tensor,
    pixel_weights: torch.Tensor | None,
    *,
    alpha: float = 2.1,
    omega: float = 14.0,
    epsilon: float = 1.0,
    theta: float = 0.5,
    foreground: float = 10.0,
) -> torch.Tensor:
    """Adaptive wing loss with its foreground weight map (Wang et al. 2019, eq. 3 and 6), mean of pixels, [B, K]."""
    prob = pred.sigmoid()
    gap = (target - prob).abs()
    power = alpha - target
    ratio = (theta / epsilon) ** power
    slope = omega / (1 + ratio) * power * (theta / epsilon) ** (power - 1) / epsilon
    offset = theta * slope - omega * torch.log1p(ratio)
    # The power's gradient is infinite at a gap of zero: the floor is far below what fp32 can show in the loss.
    near = omega * torch.log1p((gap.clamp_min(1e-6) / epsilon) ** power)
    loss = torch.where(gap < theta, near, slope * gap - offset)
    dilated = F.max_pool2d(target, 3, stride=1, padding=1)
    weights = 1 + foreground * (dilated >= 0.2).to(loss.dtype)
    return _mean(loss * weights, pixel_weights)


def mse(pred: torch.Tensor, target: torch.Tensor, pixel_weights: torch.Tensor | None) -> torch.Tensor:
    """Squared difference of activation and target, summed over a map's pixels, [B, K]."""
    return _mean((pred.sigmoid() - target) ** 2, pixel_weights) * pred.shape[-1] * pred.shape[-2]


def focal(
    pred: torch.Tensor, target: torch.Tensor, pixel_weights: torch.Tensor | None, *, beta: float = 2.0
) -> torch.Tensor:
    """Quality focal loss for soft targets (Li et al. 2020, equation 3), summed over a map's pixels, [B, K]."""
    gap = (target - pred.sigmoid()).abs() ** beta
    loss = gap * F.binary_cross_entropy_with_logits(pred, target, reduction="none")
    return _mean(loss, pixel_weights) * pred.shape[-1] * pred.shape[-2]


def _mean(loss: torch.Tensor, pixel_weights: torch.Tensor | None) -> torch.Tensor:
    return (loss if pixel_weights is None else loss * pixel_weights).flatten(2).mean(-1)


CRITERIA: dict[str, Criterion] = {
    "cross-entropy": cross_entropy,
    "adaptive-wing": adaptive_wing,
    "mse": mse,
    "focal": focal,
}


def weighted_mean(
    loss: torch.Tensor,
    valid: torch.Tensor,
    weights: torch.Tensor | None,
    averaged: Callable[[torch.Tensor], torch.Tensor] = lambda total: total,
) -> torch.Tensor:
    """sum(w valid loss) / sum(w valid) over [B, K]; zero where nothing counts. The weights' scale has no effect.

    `averaged` is the mean of a number over the processes of a job: each gives its part, and the parts average to the
    loss of the whole batch.
    """
    weight = valid.to(loss.dtype) if weights is None else weights.to(loss.dtype) * valid
    return ratio((weight * loss).sum(), averaged(weight.expand_as(loss).sum()))


def ratio(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Total / count, and zero (with a gradient of zero) where the count is."""
    nothing = count <= 0
    return torch.where(nothing, total * 0, total / torch.where(nothing, torch.ones_like(count), count))
