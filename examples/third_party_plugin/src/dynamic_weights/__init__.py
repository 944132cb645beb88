"""dynamic-weights: landmarks that improve slowly count more in the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from ceph.plugin import Batch, Duration, Plugin, PluginConfig, Run, hookimpl
from pydantic import Field


def dynamic_weights(last_mm: torch.Tensor, before_mm: torch.Tensor, temperature: float) -> torch.Tensor:
    """Weights [K], 1 on average, from the mean errors [K] in mm of the last epoch and of the one before it.

    A landmark whose error is unknown (NaN) counts as one that has not changed.
    """
    pace = torch.nan_to_num(last_mm / before_mm, nan=1.0, posinf=1.0)
    return len(pace) * torch.softmax(pace / temperature, dim=0)


class DynamicWeightsConfig(PluginConfig):
    """Settings; each is the key `plugins.dynamic-weights.KEY` of a run's config."""

    temperature: float = Field(default=2.0, gt=0, description="the lower, the more the weights of landmarks differ")
    warmup_epochs: Duration = Field(
        default=Duration(2), description="epochs, or % of the run, in which all landmarks count alike; two at the least"
    )


class DynamicWeights(Plugin[DynamicWeightsConfig]):
    """Landmarks that improve slowly count more (Liu, Johns & Davison 2019, CVPR: Dynamic Weight Average).

    Each landmark is a task of theirs. The pace is of its error in mm on the training films, not of its loss, since a
    loss changes with the size of the map and cannot fall below the entropy of its target.
    """

    warmup_epochs: float  # that the run's length makes of the setting

    def __init__(self, config: DynamicWeightsConfig | None = None) -> None:
        super().__init__(config)
        self.last_mm: torch.Tensor | None = None  # [K], of the last epoch
        self.before_mm: torch.Tensor | None = None  # [K], of the one before it

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Learn how long the warm-up is in this run."""
        self.warmup_epochs = self.config.warmup_epochs.epochs(run.epochs)

    @hookimpl
    def landmark_weights(self, batch: Batch, loss: torch.Tensor) -> torch.Tensor | None:
        """Give [K], the same for every film; nothing before two epochs are known."""
        if batch.epochs_done < self.warmup_epochs or self.last_mm is None or self.before_mm is None:
            return None
        return dynamic_weights(self.last_mm, self.before_mm, self.config.temperature).to(loss.device)

    @hookimpl
    def epoch_end(self, errors_mm: torch.Tensor) -> None:
        """Keep the mean errors [K] of two epochs, from `errors_mm` [N, K], NaN where not drawn or invalid."""
        now = errors_mm.nanmean(dim=0)
        self.before_mm = self.last_mm if self.last_mm is not None else torch.full_like(now, math.nan)
        self.last_mm = now

    def state_dict(self) -> dict[str, Any]:
        """The errors of two epochs; a resumed run goes on with their weights."""
        return {"last_mm": self.last_mm, "before_mm": self.before_mm}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.last_mm, self.before_mm = state["last_mm"], state["before_mm"]
