"""`cvm-head`: the stage of cervical vertebral maturation is learned beside the landmarks (Baccetti et al. 2005)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from ceph.plugin import Batch, ConfigError, Figure, Plugin, PluginConfig, Run, Sample, hookimpl

STAGES = 6


class CvmHeadConfig(PluginConfig):
    """Settings of `cvm-head`."""

    weight: float = Field(default=0.1, ge=0, description="factor of the stage's cross-entropy in the loss; 0: none")


class StageHead(nn.Module):
    """Logits [B, 6] of the stage: the finest and the coarsest level's means and maxima over the image, two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4 * width, width), nn.ReLU(), nn.Linear(width, STAGES))

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Features, each [B, width, h, w] -> logits [B, 6]."""
        ends = (features[0], features[-1])
        pooled = [pool for f in ends for pool in (f.mean((2, 3)), f.amax((2, 3)))]
        logits: torch.Tensor = self.layers(torch.cat(pooled, dim=1))
        return logits


class CvmHead(Plugin[CvmHeadConfig]):
    """A head on the features tells the stage of cervical vertebral maturation, 1 to 6, where films have the label."""

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a set in which no training film has a stage."""
        if not any("cvm_stage" in sample.labels for sample in run.samples):
            hint = "train on a set that gives stages, such as Aariz, or --without cvm-head"
            raise ConfigError("no training film has a cvm_stage", key="plugins.cvm-head", hint=hint)

    @hookimpl
    def modules(self, run: Run) -> Mapping[str, nn.Module]:
        """Give the head."""
        return {"cvm": StageHead(run.config.model.width)}

    @hookimpl
    def extras(self, sample: Sample) -> Mapping[str, Any]:
        """Send the stage from 0, or -1, with the film."""
        return {"cvm_stage": np.int64(sample.labels.get("cvm_stage", 0) - 1)}

    @hookimpl
    def loss_terms(self, batch: Batch, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Cross-entropy over the films that have a stage."""
        stage = batch.extras["cvm_stage"]
        total = F.cross_entropy(outputs["cvm"].float(), stage, ignore_index=-1, reduction="sum")
        return {"cvm": (self.config.weight * total, (stage >= 0).sum())}

    @hookimpl
    def metrics(self, samples: Sequence[Sample], outputs: Mapping[str, Any]) -> Mapping[str, float | Figure]:
        """Share of the split's films with the right stage, and the mean distance to it in stages."""
        stage = np.array([sample.labels.get("cvm_stage", np.nan) for sample in samples])
        off = np.abs(outputs["cvm"].argmax(1).numpy() + 1 - stage)[np.isfinite(stage)]
        if not off.size:
            return {}
        return {
            "cvm_accuracy": Figure(float((off == 0).mean()), higher_is_better=True),
            "cvm_within_one": Figure(float((off <= 1).mean()), higher_is_better=True),
            "cvm_mae_stages": Figure(float(off.mean()), higher_is_better=False),
        }
