"""hard-mining: what the model finds hard, it sees more of: films drawn more often, landmarks that count alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field

from ceph.plugin import Batch, ConfigError, Plugin, PluginConfig, Run, Sample, hookimpl, log


def film_errors(errors_mm: torch.Tensor) -> torch.Tensor:
    """The mean error [N] in mm of each film, over its landmarks [N, K] that have one; NaN for a film without any."""
    known = errors_mm.isfinite()
    total = torch.where(known, errors_mm, 0.0).sum(dim=1)
    return total / known.sum(dim=1)  # 0 / 0 is the NaN of a film without any


def averaged(past: torch.Tensor, new: torch.Tensor, momentum: float) -> torch.Tensor:
    """The moving average [N] of films' errors: without a new error the past stays, without a past it starts anew."""
    mixed = torch.where(past.isnan(), new, momentum * past + (1 - momentum) * new)
    return torch.where(new.isnan(), past, mixed)


def film_weights(error_mm: torch.Tensor, power: float, uniform: float, max_ratio: float) -> torch.Tensor:
    """The weights [N], mean about 1, of films with errors [N] in mm; films of unknown error count as average.

    (error / mean) ** power, clipped so that no film outweighs another more than `max_ratio` times (a mislabelled film
    must not take over the epoch), then mixed with the share `uniform` of equal weights.
    """
    known = error_mm.isfinite()
    mean = error_mm[known].mean()
    if not mean > 0:  # nothing known yet (NaN), or nothing wrong
        return torch.ones_like(error_mm)
    hardness = torch.where(known, error_mm / mean, 1.0) ** power
    reach = math.sqrt(max_ratio)
    hardness = hardness.clamp(1 / reach, reach)
    return uniform + (1 - uniform) * hardness / hardness.mean()


def hardest(loss: torch.Tensor, valid: torch.Tensor, keep: float) -> torch.Tensor:
    """1 for the landmarks of each film whose loss is greatest, 0 for the others: [B, K] from loss and valid [B, K].

    `keep`: an int is a number of landmarks, a float a share of the film's valid ones (at least one stays).
    Online hard keypoint mining: Chen et al. 2018, Cascaded Pyramid Network, section 3.2.
    """
    order = torch.where(valid, loss, -math.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(loss.shape[1], device=loss.device).expand_as(order))
    if isinstance(keep, int):
        return (rank < keep).to(loss.dtype)
    count = (valid.sum(dim=1, keepdim=True) * keep).round().clamp(min=1)
    return (rank < count).to(loss.dtype)


class HardMiningConfig(PluginConfig):
    """Two switches, `films` and `landmarks`; the rest shapes them."""

    films: bool = Field(default=True, description="draw films more often where their error stays high")
    landmarks: bool = Field(default=True, description="only the hardest landmarks of each film train the model")
    keep: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=0.4, description="landmarks of each film that count: a number (8) or a share (0.4); null: all"
    )
    power: float = Field(default=1.0, ge=0, description="films are drawn by their error in mm to this power")
    uniform: float = Field(default=0.5, ge=0, le=1, description="share of the draws that ignores the errors")
    max_ratio: float = Field(default=4.0, ge=1, description="the hardest film weighs at most so many times the easiest")
    momentum: float = Field(default=0.7, ge=0, lt=1, description="how much of a film's past error stays each epoch")
    warmup_epochs: int = Field(default=2, ge=0, description="epochs that only watch, before anything is mined")


class HardMining(Plugin[HardMiningConfig]):
    """What the model finds hard, it sees more of: hard films are drawn more often, easy landmarks do not count.

    Errors are in mm, since a loss changes with the size of the map. It remembers each film's error.
    """

    def __init__(self, config: HardMiningConfig | None = None) -> None:
        super().__init__(config)
        self.error_mm: torch.Tensor | None = None  # [N], NaN where a film was never drawn

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse to count more landmarks than there are; note a warm-up that leaves nothing to do."""
        keep = self.config.keep
        if self.config.landmarks and isinstance(keep, int) and keep > len(run.landmarks):
            raise ConfigError(
                f"keeps {keep} landmarks of each film, but the data set has {len(run.landmarks)}",
                key="plugins.hard-mining.keep",
                hint=f"at most {len(run.landmarks)}, or a share such as 0.4",
            )
        if self.config.warmup_epochs >= run.epochs:
            log.info("hard-mining: the run ends within its %d warm-up epochs, so nothing is mined", run.epochs)

    @hookimpl
    def sample_weights(self, epoch: int, samples: Sequence[Sample]) -> torch.Tensor | None:
        """Give [N], about 1 on average, higher where a film's error stays high."""
        c = self.config
        if not c.films or epoch < c.warmup_epochs or self.error_mm is None:
            return None
        if len(self.error_mm) != len(samples):
            raise ValueError(f"remembers {len(self.error_mm)} films, but the run trains on {len(samples)}")
        return film_weights(self.error_mm, c.power, c.uniform, c.max_ratio)

    @hookimpl
    def landmark_weights(self, batch: Batch, loss: torch.Tensor) -> torch.Tensor | None:
        """Give [B, K] of 1 and 0: the top of each film's losses."""
        c = self.config
        if not c.landmarks or c.keep is None or batch.epoch < c.warmup_epochs:
            return None
        return hardest(loss, batch.valid, c.keep)

    @hookimpl
    def epoch_end(self, errors_mm: torch.Tensor) -> None:
        """Remember the films' errors [N, K] in mm, NaN where not drawn."""
        new = film_errors(torch.as_tensor(errors_mm, dtype=torch.float64))
        past = self.error_mm if self.error_mm is not None else torch.full_like(new, math.nan)
        self.error_mm = averaged(past, new, self.config.momentum)

    def state_dict(self) -> dict[str, Any]:
        """The films' remembered errors, [N] in mm, once there are any."""
        return {} if self.error_mm is None else {"error_mm": self.error_mm}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the remembered errors back."""
        self.error_mm = state.get("error_mm")
