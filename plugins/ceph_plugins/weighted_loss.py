"""weighted-loss: some landmarks count more in the loss than others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Discriminator, Field, Tag

from ceph.plugin import (
    Batch,
    ConfigError,
    Duration,
    Plugin,
    PluginConfig,
    Problem,
    Run,
    hookimpl,
    log,
    moving_average,
    nearest,
    reader_disagreement_mm,
)

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
NOISE_FLOOR = 0.5  # of the mean disagreement: a landmark that readers agree on still more is treated alike
MATERIAL = 0.2  # relative change of a weight that is worth a line in the log

Weight = Annotated[float, Field(ge=0)]


def _branch(value: Any) -> str:
    return "str" if isinstance(value, str) else "dict"


# With a discriminator a wrong weight in a table is one error, not one for each branch of the union.
Weights = Annotated[
    Annotated[dict[str, Weight], Tag("dict")] | Annotated[Literal["auto"], Tag("str")], Discriminator(_branch)
]


def by_symbol(symbols: Sequence[str], weights: Mapping[str, float], other: float) -> torch.Tensor:
    """The weights [K] of the landmarks in order; those without one get `other`."""
    return torch.tensor([weights.get(symbol, other) for symbol in symbols], dtype=torch.float32)


def by_error(error_mm: torch.Tensor, power: float, max_ratio: float) -> torch.Tensor:
    """The weights [K], mean 1, of landmarks with errors [K] in mm; an unknown error (NaN) counts as average.

    (error / mean) ** power, clipped so that no landmark outweighs another more than `max_ratio` times. The error may
    have been divided by the readers' disagreement.
    """
    known = error_mm.isfinite()
    mean = error_mm[known].mean()
    if not mean > 0:  # nothing known yet (NaN), or nothing wrong
        return torch.ones_like(error_mm)
    reach = math.sqrt(max_ratio)
    weights = (torch.where(known, error_mm / mean, 1.0) ** power).clamp(1 / reach, reach)
    return weights / weights.mean()


def validation_errors_mm(metrics: Mapping[str, Any], symbols: Sequence[str]) -> torch.Tensor:
    """The mean error [K] in mm of each landmark in a validation's figures; NaN for one that they lack."""
    figures = metrics.get("per_landmark") or {}
    found = [figures.get(symbol, {}).get("mre_mm") for symbol in symbols]
    return torch.tensor([math.nan if error is None else error for error in found], dtype=torch.float64)


def relative_noise(disagreement_mm: torch.Tensor) -> torch.Tensor:
    """Disagreement over its mean, [K]: 1 where unknown, at least `NOISE_FLOOR`; all 1 where no readers differ."""
    known = disagreement_mm.isfinite()
    mean = disagreement_mm[known].mean()
    if not mean > 0:
        return torch.ones_like(disagreement_mm)
    return torch.where(known, disagreement_mm / mean, 1.0).clamp_min(NOISE_FLOOR)


def ramped(weights: torch.Tensor, epochs_done: float, ramp_epochs: float) -> torch.Tensor:
    """Weights [K] on their way: all 1 at the start, `weights` from `ramp_epochs` on, linear between."""
    if epochs_done >= ramp_epochs:
        return weights
    return torch.lerp(torch.ones_like(weights), weights, epochs_done / ramp_epochs)


def effective_number(weights: torch.Tensor) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965): how many equally weighted landmarks tell as much as these K."""
    return float(weights.double().sum() ** 2 / weights.double().square().sum())


class WeightedLossConfig(PluginConfig):
    """Only the ratios of the weights matter: the loss is a weighted mean."""

    weights: Weights | None = Field(
        default=None,
        description="weight of each landmark by symbol, >= 0; auto: from its validation error, anew each epoch; "
        "default: a table of hard landmarks",
    )
    other: Weight = Field(default=1.0, description="weight of the landmarks that are not named (not for auto)")
    ramp_epochs: Duration = Field(
        default=Duration(0), description="epochs, or % of the run, over which the weights rise from 1 to their value"
    )
    noise_aware: bool = Field(
        default=False, description="divide by how much two readers disagree on a landmark in the training films"
    )
    power: float = Field(default=1.0, ge=0, description="auto: weights go with the error to this power")
    momentum: float = Field(default=0.7, ge=0, lt=1, description="auto: how much of the past error stays each epoch")
    max_ratio: float = Field(default=4.0, ge=1, description="auto: the largest weight over the smallest, at most")


class WeightedLoss(Plugin[WeightedLossConfig]):
    """Some landmarks count more in the loss than others: by a table, by your own weights, or by their error."""

    landmarks: tuple[str, ...]
    weights: torch.Tensor  # [K], on the device
    ramp_epochs: float

    def __init__(self, config: WeightedLossConfig | None = None) -> None:
        super().__init__(config)
        self.error_mm: torch.Tensor | None = None  # [K], auto: smoothed over the validations
        self.noise: torch.Tensor | None = None  # [K], the readers' relative disagreement
        self.logged: torch.Tensor | None = None  # [K], the weights that the log has

    @property
    def auto(self) -> bool:
        """Whether the weights follow the validation."""
        return self.config.weights == "auto"

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse a symbol that the set lacks, weights that leave nothing to train, and held-out films that choose."""
        key = "plugins.weighted-loss.weights"
        fold = run.config.data.fold if self.auto else None
        if fold is not None and fold.number is not None:
            what = "auto learns from the errors of validation films: those of a fold are held out and choose nothing"
            raise ConfigError(what, key=key, hint="give the weights themselves, or leave the plugin out")
        named = self.config.weights if isinstance(self.config.weights, dict) else {}
        unknown = [symbol for symbol in named if symbol not in run.landmarks]
        if unknown:
            what = "the data set has no landmark '{}'"
            hints = {symbol: nearest(symbol, run.landmarks) for symbol in unknown}
            raise ConfigError([Problem(what.format(s), f"{key}.{s}", hint=hint) for s, hint in hints.items()])
        if not self._weights(run.landmarks).any():
            raise ConfigError("every landmark weighs 0", key=key, hint="give at least one a weight above 0")

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Lay out the weights [K] in the order of the run's landmarks, and log them."""
        self.landmarks, self.ramp_epochs = run.landmarks, self.config.ramp_epochs.epochs(run.epochs)
        if self.config.noise_aware:
            self._measure_noise(run)
        weights = self._weights(run.landmarks)
        self.weights = weights.to(run.device)
        if self.config.weights is None and not set(TABLE) & set(run.landmarks):
            log.info("weighted-loss: no landmark of this set is in the table, so all weigh the same; give `weights`")
        if not self.auto:
            log.info("weighted-loss: %s", self._in_words(weights))

    @hookimpl
    def epoch_start(self, epoch: int) -> None:
        """Take the weights that the validations so far give; log them where they changed materially."""
        if not self.auto:
            return
        now = self._weights(self.landmarks)
        self.weights = now.to(self.weights.device)
        if self.logged is None or bool(((now - self.logged).abs() > MATERIAL * self.logged).any()):
            self.logged = now
            log.info("weighted-loss: epoch %d: %s", epoch + 1, self._in_words(now))

    @hookimpl
    def landmark_weights(self, batch: Batch) -> torch.Tensor:
        """Give [K], the same for every film; rises with the steps while `ramp_epochs` last."""
        return ramped(self.weights, batch.epochs_done, self.ramp_epochs)

    @hookimpl
    def epoch_end(self, metrics: Mapping[str, Any]) -> None:
        """Remember each landmark's validation error in mm."""
        if self.auto:
            new = validation_errors_mm(metrics, self.landmarks)
            past = self.error_mm if self.error_mm is not None else torch.full_like(new, math.nan)
            self.error_mm = moving_average(past, new, self.config.momentum)

    @hookimpl
    def run_end(self) -> None:
        """Log the weights that the last epoch trained with, and how many equal landmarks they are worth."""
        log.info(
            "weighted-loss: at the end %s; worth %.1f equally weighted landmarks of %d (Kish)",
            self._in_words(self.weights),
            effective_number(self.weights.cpu()),
            len(self.landmarks),
        )

    def state_dict(self) -> dict[str, Any]:
        """Auto: the smoothed validation error [K] in mm, once there is one."""
        return {} if self.error_mm is None else {"error_mm": self.error_mm}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the remembered error back; the next `epoch_start` makes weights of it."""
        self.error_mm = state.get("error_mm")

    def _weights(self, symbols: Sequence[str]) -> torch.Tensor:
        """The weights [K] that the settings and the errors so far give, on the CPU."""
        c = self.config
        noise = torch.ones(len(symbols), dtype=torch.float64) if self.noise is None else self.noise
        if isinstance(c.weights, str):
            error_mm = torch.full_like(noise, math.nan) if self.error_mm is None else self.error_mm
            return by_error(error_mm / noise, c.power, c.max_ratio).float()
        return by_symbol(symbols, TABLE if c.weights is None else c.weights, c.other) / noise.float()

    def _measure_noise(self, run: Run) -> None:
        disagreement_mm = torch.from_numpy(reader_disagreement_mm(run.samples, len(run.landmarks)))
        self.noise = relative_noise(disagreement_mm)
        pairs = zip(run.landmarks, disagreement_mm.tolist(), strict=True)
        words = ", ".join(f"{symbol} {mm:.2f}" for symbol, mm in pairs if not math.isnan(mm))
        log.info("weighted-loss: two readers differ by (mm) %s", words or "nothing: no landmark has two readers")
        alone = [s for s, known in zip(run.landmarks, disagreement_mm.isfinite().tolist(), strict=True) if not known]
        if alone:
            log.info("weighted-loss: without two readers, taken as the mean disagreement: %s", ", ".join(alone))

    def _in_words(self, weights: torch.Tensor) -> str:
        pairs = zip(self.landmarks, weights.tolist(), strict=True)
        return ", ".join(f"{symbol} {weight:.3g}" for symbol, weight in pairs)
