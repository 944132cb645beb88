"""multi-scale: each training batch has a size of its own, drawn at random or growing over the epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ceph.plugin import ConfigError, Duration, Plugin, PluginConfig, Run, generator, hookimpl

SCALES = {"random": (0.75, 1.0, 1.25), "progressive": (0.67, 0.83)}
GROW_UNTIL = Duration("67%")


def scaled(size: tuple[int, int], scale: float, multiple: int) -> tuple[int, int]:
    """The size (H, W) times `scale`, each side rounded to a multiple; at scale 1 it is left as it is."""
    if scale == 1:
        return size
    height, width = (max(1, math.floor(side * scale / multiple + 0.5)) * multiple for side in size)
    return height, width


def draw(scales: Sequence[float], base_share: float, keys: tuple[int | str, ...]) -> float:
    """A scale: 1 with the chance `base_share`, else one of `scales`; a pure function of all."""
    rng = generator(*keys)
    if rng.random() < base_share:
        return 1.0
    return scales[int(rng.integers(len(scales)))]


def stage(epoch: int, scales: Sequence[float], until: int) -> float:
    """The scale of an epoch: `scales` in turn, each for an equal part of the epochs before `until`, then 1."""
    return scales[epoch * len(scales) // until] if epoch < until else 1.0


class MultiScaleConfig(PluginConfig):
    """The default scales of `random` cost 4 % more pixels than the base size: the mean of their squares is 1.04."""

    mode: Literal["random", "progressive"] = Field(
        default="random", description="random: each batch draws a size; progressive: sizes grow over the epochs"
    )
    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=4)], ...], Field(min_length=1)] | None = Field(
        default=None,
        description="factors of data.size: to draw from, null: 0.75, 1, 1.25; or the stages of progressive before the "
        "base size, in order, null: 0.67, 0.83",
    )
    base_share: float = Field(default=0.0, ge=0, le=1, description="further chance of a batch at the base size")
    grow_until: Duration | None = Field(
        default=None,
        gt=0,
        description="progressive: epochs, or % of the run, before the first at the base size; null: 67%",
    )
    warmup_epochs: Duration = Field(
        default=Duration(0), description="random: epochs, or % of the run, at the base size before it starts"
    )
    until_epoch: Duration | None = Field(
        default=None,
        description="random: after so many epochs, or % of the run, the base size again, as in evaluation; null: never",
    )
    multiple: int = Field(default=32, gt=0, description="px; sides are rounded to a multiple of it")

    @field_validator("grow_until", mode="before")
    @classmethod
    def _whole_epochs_or_a_share(cls, value: Any) -> Any:
        if isinstance(value, float):  # as shares were written until API 2
            now = f"; that share is written {100 * value:g}%" if 0 < value <= 1 else ""
            wrong = f"must be whole epochs, as in 4, or a share of the run, as in 67%, not {value!r}{now}"
            raise ValueError(wrong)  # noqa: TRY004 - pydantic hears a ValueError only
        return value

    @model_validator(mode="after")
    def _settings_fit_the_mode(self) -> Self:
        if self.mode == "random" and self.grow_until is not None:
            raise ValueError("grow_until belongs to mode progressive; random has until_epoch")
        if self.mode == "progressive" and (self.warmup_epochs > 0 or self.until_epoch is not None):
            raise ValueError("warmup_epochs and until_epoch belong to mode random; progressive has grow_until")
        if self.mode == "progressive" and list(self.factors) != sorted(self.factors):
            raise ValueError("the scales of mode progressive must grow, as in [0.67, 0.83]")
        return self

    @property
    def factors(self) -> tuple[float, ...]:
        """The scales, or the mode's own where none are given."""
        return self.scales or SCALES[self.mode]


class MultiScale(Plugin[MultiScaleConfig]):
    """Each training batch has a size of its own, drawn from a list or growing over the epochs.

    `random` is multi-scale training as in YOLOv2 (Redmon & Farhadi 2017, section 2); training once more at the base
    size at the end (`until_epoch`) closes the gap to evaluation, which stays there (Touvron et al. 2019, FixRes).
    `progressive` begins with small films and ends with the base size (Howard 2018; Tan & Le 2021, EfficientNetV2,
    section 4, without its growing regularisation).
    """

    def __init__(self, config: MultiScaleConfig | None = None) -> None:
        super().__init__(config)
        self.epochs: int | None = None  # of the run, once it is known; no state: it is in the run's config

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Learn how many epochs there are; refuse to grow past the end, since evaluation is at the base size."""
        self.epochs = run.epochs
        if self.config.mode == "progressive" and self.full_from() >= run.epochs:
            raise ConfigError(
                f"the run ends after {run.epochs} epochs, before the size has grown to data.size",
                key="plugins.multi-scale.grow_until",
                hint=f"fewer than {run.epochs} epochs, or a share below 100% such as {GROW_UNTIL.root}",
            )

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Learn how many epochs there are."""
        self.epochs = run.epochs

    @hookimpl
    def batch_shape(self, epoch: int, index: int, size: tuple[int, int], seed: int) -> tuple[int, int]:
        """Choose (H, W) in network px from the run's seed and length, the epoch and the batch's index, no more."""
        c, keys = self.config, (seed, "multi-scale", epoch, index)
        if c.mode == "progressive":
            grown = stage(epoch, c.factors, self.full_from())
            return scaled(size, draw((grown,), c.base_share, keys), c.multiple)
        epochs = self.known_epochs()
        end = math.inf if c.until_epoch is None else c.until_epoch.epochs(epochs)
        if not c.warmup_epochs.epochs(epochs) <= epoch < end:
            return size
        return scaled(size, draw(c.factors, c.base_share, keys), c.multiple)

    def full_from(self) -> int:
        """The first epoch at the base size in mode progressive."""
        return math.floor((self.config.grow_until or GROW_UNTIL).epochs(self.known_epochs()))

    def known_epochs(self) -> int:
        """The number of epochs of the run."""
        if self.epochs is None:
            raise RuntimeError("the number of epochs is not known before check_run or run_start")
        return self.epochs
