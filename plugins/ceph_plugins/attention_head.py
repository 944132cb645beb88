"""attention-head: each level of the head is weighed by row, column and channel before it goes on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import nn

from ceph.plugin import Plugin, PluginConfig, Run, hookimpl

LEAST_HIDDEN = 8  # channels


class CoordinateAttention(nn.Module):
    """Features [B, C, H, W], each weighed by a gate of its row and one of its column, both for each channel.

    Hou et al. 2021, Coordinate Attention, section 3.2; the gates are 2 sigmoid(z) with z = 0 at the start, so that an
    untrained block passes its input on as it is.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(LEAST_HIDDEN, channels // reduction)
        self.shared = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish(inplace=True)
        )
        self.rows, self.columns = nn.Conv2d(hidden, channels, 1), nn.Conv2d(hidden, channels, 1)
        for gate in (self.rows, self.columns):
            nn.init.zeros_(gate.weight)
            nn.init.zeros_(gate.bias)  # type: ignore[arg-type]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Weigh the features."""
        height, width = features.shape[-2:]
        rows, columns = features.mean(3, keepdim=True), features.mean(2, keepdim=True).mT  # [B, C, H, 1], [B, C, W, 1]
        both = self.shared(torch.cat([rows, columns], dim=2))
        rows, columns = both.split([height, width], dim=2)
        down, along = 2 * self.rows(rows).sigmoid(), 2 * self.columns(columns.mT).sigmoid()
        weighed: torch.Tensor = features * down * along
        return weighed


class AttentionHeadConfig(PluginConfig):
    """The blocks are small beside any backbone."""

    reduction: int = Field(default=8, ge=1, description="the block works on so many times fewer channels (8 at least)")


class AttentionHead(Plugin[AttentionHeadConfig]):
    """A block of coordinate attention (Hou et al. 2021) after each level of the head's pyramid.

    The network starts as the core's own: same weights from the same seed, same maps. Its blocks have weights of their
    own, so `--init-from` goes from one run with this plugin to another.
    """

    @hookimpl
    def build_model(self, run: Run, default: Callable[[], nn.Module]) -> nn.Module:
        """Give the core's network, [B, 1, H, W] to [B, K, h, w], with a block at the end of each smoothing layer."""
        model = default()
        for smooth in model.get_submodule("smooth").children():
            assert isinstance(smooth, nn.Sequential)  # noqa: S101 - convolution, norm, activation
            smooth.append(CoordinateAttention(run.config.model.width, self.config.reduction))
        return model
