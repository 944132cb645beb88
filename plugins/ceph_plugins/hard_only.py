"""hard-only: only the landmarks that are named train the model, and their error can pick the best checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ceph.plugin import Batch, ConfigError, Duration, Plugin, PluginConfig, Problem, Run, hookimpl, log, nearest

HARDEST = ("UMT", "UPM", "R", "Ar", "Go")  # the five of greatest weight in the table of weighted-loss
METRIC, MONITOR = "hard_mre_mm", "plugins.hard_mre_mm"


class HardOnlyConfig(PluginConfig):
    """The network keeps its maps of all landmarks; those that are not named are not trained."""

    landmarks: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description=f"symbols that train the model; null: {', '.join(HARDEST)}, those that the set has"
    )
    warmup_epochs: Duration = Field(
        default=Duration(0), description="epochs, or % of the run, in which all landmarks train, before it starts"
    )
    until_epoch: Duration | None = Field(
        default=None, description="after so many epochs, or % of the run, all landmarks train again; null: never"
    )


class HardOnly(Plugin[HardOnlyConfig]):
    """Only the named landmarks train the model, in all of the run or in a part of it.

    A mask before all weights, so that mining picks among these landmarks: for the end of a run (`warmup_epochs=80%`),
    or to see what they reach when nothing else counts. Evaluation scores every landmark.
    `train.monitor=plugins.hard_mre_mm` picks the best checkpoint by them.
    """

    mask: torch.Tensor  # [K] bool, on the device

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a symbol that the set lacks, a set that has none of those meant, and a phase without an epoch."""
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
        start, end = self.phase(run.epochs)
        if start >= min(end, run.epochs):
            raise ConfigError(
                f"it starts after {start:g} of {run.epochs} epochs and ends after {min(end, run.epochs):g}",
                key="plugins.hard-only.warmup_epochs",
                hint="start earlier, or leave it out: --without hard-only",
            )

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Lay out the mask [K], and say how to monitor these landmarks."""
        named, (self.start, self.end) = self.named(run.landmarks), self.phase(run.epochs)
        self.mask = torch.tensor([symbol in named for symbol in run.landmarks], device=run.device)
        log.info("hard-only: trains %s of %d landmarks", ", ".join(named), len(run.landmarks))
        monitor = run.config.train.monitor
        if monitor != MONITOR and not any(monitor.startswith(f"per_landmark.{symbol}.") for symbol in named):
            log.info(
                "hard-only: the best checkpoint is picked by %s, which counts other landmarks too; by these:"
                " --set train.monitor=%s, or per_landmark.%s.mre_mm for one",
                *(monitor, MONITOR, named[0]),
            )

    @hookimpl
    def landmark_mask(self, batch: Batch) -> torch.Tensor | None:
        """Give [K] bool, true for the named landmarks; nothing outside of its part of the run."""
        return self.mask if self.start <= batch.epochs_done < self.end else None

    @hookimpl
    def metrics(self, errors_mm: NDArray[np.float64], landmarks: Sequence[str]) -> dict[str, float]:
        """Give the mean error in mm of the named landmarks, from errors [N, K]; nothing where it is not known."""
        named = self.named(landmarks)
        chosen = errors_mm[:, [symbol in named for symbol in landmarks]]
        known = chosen[~np.isnan(chosen)]
        return {METRIC: float(known.mean())} if known.size else {}

    def phase(self, epochs: int) -> tuple[float, float]:
        """The epochs of a run after which it starts and ends."""
        until = self.config.until_epoch
        return self.config.warmup_epochs.epochs(epochs), math.inf if until is None else until.epochs(epochs)

    def named(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """The landmarks among `symbols` that train the model, in that order."""
        wanted = self.config.landmarks or HARDEST
        return tuple(symbol for symbol in symbols if symbol in wanted)
