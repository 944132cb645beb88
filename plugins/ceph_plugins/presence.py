"""presence: a head tells of each landmark whether it is on the film, where the set says which ones are absent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from ceph.plugin import Batch, ConfigError, Plugin, PluginConfig, Run, Sample, hookimpl


class PresenceConfig(PluginConfig):
    """Settings of `presence`."""

    weight: float = Field(default=0.1, ge=0, description="factor of the presence's cross-entropy in the loss; 0: none")
    balance: float = Field(
        default=10.0, gt=0, description="factor of an absent landmark in it, since nearly all landmarks are present"
    )


class PresenceHead(nn.Module):
    """Logits [B, K]: evidence for each landmark at every pixel of two levels, the most of which counts."""

    def __init__(self, width: int, landmarks: int) -> None:
        super().__init__()
        self.fine, self.coarse = (
            nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, landmarks, 1)) for _ in range(2)
        )

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Features, each [B, width, h, w], from fine to coarse -> logits [B, K]. They are not trained by this."""
        ends = ((self.fine, features[0].detach()), (self.coarse, features[-1].detach()))
        most = [head(f).flatten(2).float().logsumexp(-1) - math.log(f[0, 0].numel()) for head, f in ends]
        logits: torch.Tensor = most[0] + most[1]
        return logits


class Presence(Plugin[PresenceConfig]):
    """A head on the features says of each landmark how sure it is that it is on the film: a lost tooth, a cut film.

    It learns from landmarks that the set says are absent and from marked ones; those that were just not marked say
    nothing. The features stay as the points need them.
    """

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a set that says of no training film that a landmark is absent."""
        if not any(sample.absent is not None and sample.absent.any() for sample in run.samples):
            hint = "say it in the set, as in the column `absent` of ceph-films.csv, or --without presence"
            raise ConfigError("no training film lacks a landmark by the set's word", key="plugins.presence", hint=hint)

    @hookimpl
    def modules(self, run: Run) -> Mapping[str, nn.Module]:
        """Give the head; its name is what the core takes a presence from."""
        return {"presence": PresenceHead(run.config.model.width, len(run.landmarks))}

    @hookimpl
    def extras(self, sample: Sample) -> Mapping[str, Any]:
        """Send which landmarks [K] are absent with the film."""
        absent = np.zeros(sample.valid.shape[1], dtype=bool) if sample.absent is None else sample.absent
        return {"absent": absent}

    @hookimpl
    def loss_terms(self, batch: Batch, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Cross-entropy over the landmarks that are marked, in the draw, or absent."""
        # A point is 0 unless it is marked and in the image; `valid` may be masked, or none is: a film that stands in.
        marked = batch.points.any(-1).float()
        weight = (marked + self.config.balance * batch.extras["absent"]) * batch.valid.any(1, keepdim=True)
        logits = outputs["presence"].float()
        apart = F.binary_cross_entropy_with_logits(logits, marked, weight, reduction="sum")
        return {"presence": (self.config.weight * apart, weight.sum())}
