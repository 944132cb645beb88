"""A plugin in a file: `ceph run --plugin examples/ohkm.py --set plugins.ohkm.keep=5`."""

import torch
from pydantic import Field

from ceph.plugin import Batch, Plugin, PluginConfig, hookimpl


class OhkmConfig(PluginConfig):
    """How many landmarks count."""

    keep: int = Field(default=8, gt=0, description="landmarks of each film that count")


class Ohkm(Plugin[OhkmConfig]):
    """Only the hardest landmarks of each film train the model (Chen et al. 2018, online hard keypoint mining)."""

    @hookimpl
    def landmark_weights(self, batch: Batch, loss: torch.Tensor) -> torch.Tensor:
        """Give 1 to the hardest and 0 to the others: loss [B, K], zero where invalid -> [B, K]."""
        hardest = loss.topk(min(self.config.keep, loss.shape[1]), dim=1).indices
        return torch.zeros_like(loss).scatter_(1, hardest, 1.0)
