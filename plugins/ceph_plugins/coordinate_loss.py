"""coordinate-loss: the distance of the expected point to the truth, and a divergence that keeps the map compact."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import Field

from ceph.plugin import ConfigError, Plugin, PluginConfig, Run, hookimpl

Criterion = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def expected(maps: torch.Tensor) -> torch.Tensor:
    """The mean place [B, K, 2] of maps [B, K, h, w] that sum to 1, in map px."""
    height, width = maps.shape[-2:]
    x = maps.sum(-2) @ torch.arange(width, device=maps.device, dtype=maps.dtype)
    y = maps.sum(-1) @ torch.arange(height, device=maps.device, dtype=maps.dtype)
    return torch.stack([x, y], -1)


def jensen_shannon(log_p: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Each pixel's part of the Jensen-Shannon divergence in nats, none below zero: [B, K, h, w], at most log 2 in sum.

    `log_p` is the logarithm of a map that sums to 1, as `target` does.
    """
    log_t = target.clamp_min(1e-30).log()
    log_m = torch.logaddexp(log_p, log_t) - math.log(2)
    return (log_p.exp() * (log_p - log_m) + target * (log_t - log_m)) / 2


def coordinate_loss(divergence: float) -> Criterion:
    """The distance in half-widths of the map, plus `divergence` times Jensen-Shannon (Nibali et al. 2018)."""

    def criterion(pred: torch.Tensor, target: torch.Tensor, pixel_weights: torch.Tensor | None) -> torch.Tensor:
        """Raw maps and targets that sum to 1, [B, K, h, w] -> [B, K]; pixel weights weigh the divergence's pixels."""
        log_p = pred.float().flatten(2).log_softmax(-1).view_as(pred)
        off = expected(log_p.exp()) - expected(target)
        x, y = (axis / (side / 2) for axis, side in zip(off.unbind(-1), pred.shape[:-3:-1], strict=True))
        distance = (x.square() + y.square() + 1e-12).sqrt()  # the root of zero has no gradient
        apart = jensen_shannon(log_p, target)
        if pixel_weights is not None:
            apart = apart * pixel_weights
        return distance + divergence * apart.sum((-2, -1))

    return criterion


class CoordinateLossConfig(PluginConfig):
    """The width of the target is `target.sigma_px`, as for the core's own loss."""

    divergence: float = Field(default=1.0, ge=0, description="factor of the Jensen-Shannon divergence to the target")


class CoordinateLoss(Plugin[CoordinateLossConfig]):
    """The loss is the distance of a map's expected point to the truth, plus its divergence from the target.

    DSNT: Nibali et al. 2018, Numerical coordinate regression with convolutional neural networks. It takes the place
    of cross-entropy; points are still read by `target.decoder`.
    """

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a loss that trains heatmaps: its place cannot be taken."""
        if run.config.target_kind != "distribution":
            raise ConfigError(
                f"the loss {run.config.loss.name} trains heatmaps, and this one distributions",
                key="loss.name",
                hint="set loss.name=cross-entropy, whose place this loss takes, or leave the plugin out: "
                "--without coordinate-loss",
            )

    @hookimpl
    def build_criterion(self) -> Criterion:
        """Give the loss of each map, [B, K]."""
        return coordinate_loss(self.config.divergence)
