"""ema: what is evaluated, and kept as best, is an exponential moving average of the weights over the steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import nn

from ceph.plugin import Plugin, PluginConfig, hookimpl


def decay_after(steps: int, decay: float) -> float:
    """The share of the average that stays when `steps` steps are in it already: it grows up to `decay`."""
    return min(decay, (1 + steps) / (10 + steps))


def move_towards(average: nn.Module, model: nn.Module, share: float) -> None:
    """Move all floating weights and buffers of `average` by `share` of the way to those of `model`, its twin.

    Whole numbers (the counters of batch norms) are copied. Nothing is waited for.
    """
    pairs = list(zip(_tensors(average), _tensors(model), strict=True))
    floating = [(mean, now) for mean, now in pairs if mean.is_floating_point()]
    counters = [(mean, now) for mean, now in pairs if not mean.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([mean for mean, _ in floating], [now for _, now in floating], share)
        if counters:
            torch._foreach_copy_([mean for mean, _ in counters], [now for _, now in counters])


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


class EmaConfig(PluginConfig):
    """Until `decay` is reached the average spans about the last ninth of the steps so far."""

    decay: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="share of the average that stays at each step; after n steps at most (1 + n) / (10 + n)",
    )


class Ema(Plugin[EmaConfig]):
    """The average of the weights over the steps is evaluated, and kept as best, in place of the last weights.

    Averaging of iterates: Polyak & Juditsky 1992; as an exponential average for evaluation: Tarvainen & Valpola 2017
    (mean teacher), section 2. Buffers (the statistics of batch norms) are averaged too. Training itself is not changed.
    """

    def __init__(self, config: EmaConfig | None = None) -> None:
        super().__init__(config)
        self.steps = 0  # that are in the average
        self.average: nn.Module | None = None  # a twin of the model, made when the model is first seen
        self.restored: Mapping[str, torch.Tensor] | None = None  # its state from a checkpoint, until then

    @hookimpl
    def step_end(self, model: nn.Module) -> None:
        """Take the new weights into the average; the device is not waited for."""
        move_towards(self._twin(model), model, 1 - decay_after(self.steps, self.config.decay))
        self.steps += 1

    @hookimpl
    def eval_model(self, model: nn.Module) -> nn.Module:
        """Give the average, [B, 1, H, W] to [B, K, h, w]; the model itself while no step has been made."""
        return self._twin(model) if self.steps else model

    def state_dict(self) -> dict[str, Any]:
        """The average as a state dict of tensors, and the number of steps in it; empty before the first."""
        if self.steps == 0:
            return {}
        average = self.restored if self.average is None else self.average.state_dict()
        return {"steps": self.steps, "average": average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the average back; it becomes a module when the model is seen."""
        self.steps, self.restored, self.average = state.get("steps", 0), state.get("average"), None

    def _twin(self, model: nn.Module) -> nn.Module:
        if self.average is None:
            self.average = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
            if self.restored is not None:
                self.average.load_state_dict(self.restored)
                self.restored = None
        return self.average
