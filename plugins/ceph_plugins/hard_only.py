"""hard-only: only the landmarks that are named train the model, and their error can pick the best checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ceph.plugin import ConfigError, Plugin, PluginConfig, Problem, Run, hookimpl, log, nearest

HARDEST = ("UMT", "UPM", "R", "Ar", "Go")  # the five of greatest weight in the table of weighted-loss
METRIC, MONITOR = "hard_mre_mm", "plugins.hard_mre_mm"


class HardOnlyConfig(PluginConfig):
    """The network keeps its maps of all landmarks; those that are not named are not trained."""

    landmarks: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description=f"symbols that train the model; null: {', '.join(HARDEST)}, those that the set has"
    )


class HardOnly(Plugin[HardOnlyConfig]):
    """Only the named landmarks train the model; all others weigh 0.

    A mask on the loss: for the end of a fine-tune, or to see what these landmarks reach when nothing else counts.
    `train.monitor=plugins.hard_mre_mm` picks the best checkpoint by them.
    """

    def __init__(self, config: HardOnlyConfig | None = None) -> None:
        super().__init__(config)
        self.weights: torch.Tensor | None = None  # [K], 0 or 1, on the device, once a run has started

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a symbol that the set lacks, and a set that has none of those meant."""
        key, named = "plugins.hard-only.landmarks", self.config.landmarks or ()
        unknown = [symbol for symbol in named if symbol not in run.landmarks]
        if unknown:
            what = "the data set has no landmark '{}'"
            raise ConfigError([Problem(what.format(s), key, hint=nearest(s, run.landmarks)) for s in unknown])
        if not self.named(run.landmarks):
            raise ConfigError(
                f"the data set has none of {', '.join(HARDEST)}",
                key=key,
                hint=f"name the landmarks to train; {nearest('', run.landmarks)}",
            )

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Lay out the weights [K], and say how to monitor these landmarks."""
        named = self.named(run.landmarks)
        self.weights = torch.tensor([float(symbol in named) for symbol in run.landmarks], device=run.device)
        log.info("hard-only: trains %s of %d landmarks", ", ".join(named), len(run.landmarks))
        monitor = run.config.train.monitor
        if monitor != MONITOR and not any(monitor.startswith(f"per_landmark.{symbol}.") for symbol in named):
            log.info(
                "hard-only: the best checkpoint is picked by %s, which counts other landmarks too; by these:"
                " --set train.monitor=%s, or per_landmark.%s.mre_mm for one",
                *(monitor, MONITOR, named[0]),
            )

    @hookimpl
    def landmark_weights(self) -> torch.Tensor | None:
        """Give [K]: 1 for the named landmarks, 0 for the others."""
        return self.weights

    @hookimpl
    def metrics(self, errors_mm: NDArray[np.float64], landmarks: Sequence[str]) -> dict[str, float]:
        """Give the mean error in mm of the named landmarks, from errors [N, K]; nothing where it is not known."""
        named = self.named(landmarks)
        chosen = errors_mm[:, [symbol in named for symbol in landmarks]]
        known = chosen[~np.isnan(chosen)]
        return {METRIC: float(known.mean())} if known.size else {}

    def named(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """The landmarks among `symbols` that train the model, in that order."""
        wanted = self.config.landmarks or HARDEST
        return tuple(symbol for symbol in symbols if symbol in wanted)
