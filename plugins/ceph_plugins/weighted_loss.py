"""weighted-loss: some landmarks count more in the loss than others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field

from ceph.plugin import Batch, ConfigError, Plugin, PluginConfig, Problem, Run, hookimpl, log, nearest

# The hand-tuned table that this project grew from; its author found these landmarks of Aariz the hardest.
TABLE: Mapping[str, float] = {
    "UMT": 2.5,
    "UPM": 2.5,
    "R": 2.0,
    "Ar": 1.8,
    "Go": 1.8,
    "LMT": 1.6,
    "LPM": 1.4,
    "Or": 1.3,
    "Co": 1.2,
    "PNS": 1.2,
}

Weight = Annotated[float, Field(ge=0)]


def by_symbol(symbols: Sequence[str], weights: Mapping[str, float], other: float) -> torch.Tensor:
    """The weights [K] of the landmarks in order; those without one get `other`."""
    return torch.tensor([weights.get(symbol, other) for symbol in symbols], dtype=torch.float32)


def ramped(weights: torch.Tensor, epochs_done: float, ramp_epochs: float) -> torch.Tensor:
    """Weights [K] on their way: all 1 at the start, `weights` from `ramp_epochs` on, linear between."""
    if epochs_done >= ramp_epochs:
        return weights
    return torch.lerp(torch.ones_like(weights), weights, epochs_done / ramp_epochs)


class WeightedLossConfig(PluginConfig):
    """Only the ratios of the weights matter: the loss is a weighted mean."""

    weights: dict[str, Weight] | None = Field(
        default=None, description="weight of each landmark by symbol, >= 0; default: a table of hard landmarks"
    )
    other: Weight = Field(default=1.0, description="weight of the landmarks that are not named")
    ramp_epochs: float = Field(
        default=0.0, ge=0, description="epochs over which the weights rise from 1 to their value"
    )


class WeightedLoss(Plugin[WeightedLossConfig]):
    """Some landmarks count more in the loss than others, by a table or by your own weights."""

    weights: torch.Tensor  # [K], on the device
    steps_per_epoch: int

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a symbol that the set lacks, and weights that leave nothing to train."""
        key = "plugins.weighted-loss.weights"
        unknown = [symbol for symbol in self.config.weights or {} if symbol not in run.landmarks]
        if unknown:
            what = "the data set has no landmark '{}'"
            hints = {symbol: nearest(symbol, run.landmarks) for symbol in unknown}
            raise ConfigError([Problem(what.format(s), f"{key}.{s}", hint=hint) for s, hint in hints.items()])
        if not self._weights(run).any():
            raise ConfigError("every landmark weighs 0", key=key, hint="give at least one a weight above 0")

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Lay out the weights [K] in the order of the run's landmarks, and log them."""
        self.weights = self._weights(run).to(run.device)
        self.steps_per_epoch = run.steps_per_epoch
        if self.config.weights is None and not set(TABLE) & set(run.landmarks):
            log.info("weighted-loss: no landmark of this set is in the table, so all weigh the same; give `weights`")
        pairs = zip(run.landmarks, self.weights.tolist(), strict=True)
        log.info("weighted-loss: %s", ", ".join(f"{symbol} {weight:g}" for symbol, weight in pairs))

    @hookimpl
    def landmark_weights(self, batch: Batch) -> torch.Tensor:
        """Give [K], the same for every film; rises with the steps while `ramp_epochs` last."""
        return ramped(self.weights, batch.step / self.steps_per_epoch, self.config.ramp_epochs)

    def _weights(self, run: Run) -> torch.Tensor:
        table = TABLE if self.config.weights is None else self.config.weights
        return by_symbol(run.landmarks, table, self.config.other)
