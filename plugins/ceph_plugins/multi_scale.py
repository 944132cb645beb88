"""multi-scale: each training batch has a size of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from ceph.plugin import Plugin, PluginConfig, generator, hookimpl


def scaled(size: tuple[int, int], scale: float, multiple: int) -> tuple[int, int]:
    """The size (H, W) times `scale`, each side rounded to a multiple; at scale 1 it is left as it is."""
    if scale == 1:
        return size
    height, width = (max(1, math.floor(side * scale / multiple + 0.5)) * multiple for side in size)
    return height, width


def choose(
    size: tuple[int, int], scales: Sequence[float], base_share: float, multiple: int, keys: tuple[int | str, ...]
) -> tuple[int, int]:
    """A size (H, W): `size` with the chance `base_share`, else at one of the scales; a pure function of all."""
    rng = generator(*keys)
    if rng.random() < base_share:
        return size
    return scaled(size, scales[int(rng.integers(len(scales)))], multiple)


class MultiScaleConfig(PluginConfig):
    """The default scales cost 4 % more pixels than the base size: the mean of their squares is 1.04."""

    scales: tuple[Annotated[float, Field(gt=0, le=4)], ...] = Field(
        default=(0.75, 1.0, 1.25), min_length=1, description="factors of data.size to draw from"
    )
    base_share: float = Field(default=0.0, ge=0, le=1, description="further chance of a batch at the base size")
    warmup_epochs: int = Field(default=0, ge=0, description="epochs at the base size before it starts")
    until_epoch: int | None = Field(
        default=None, ge=0, description="from this epoch on the base size again, as in evaluation; default: never"
    )
    multiple: int = Field(default=32, gt=0, description="px; sides are rounded to a multiple of it")


class MultiScale(Plugin[MultiScaleConfig]):
    """Each training batch has a size of its own, drawn from a list (as in YOLOv2, Redmon & Farhadi 2017, section 2).

    Evaluation stays at the base size. Training once more at that size at the end (`until_epoch`) closes the gap
    between both (Touvron et al. 2019, FixRes).
    """

    @hookimpl
    def batch_shape(self, epoch: int, index: int, size: tuple[int, int], seed: int) -> tuple[int, int]:
        """Draw (H, W) in network px from the run's seed, the epoch and the batch's index, and nothing else."""
        c = self.config
        if epoch < c.warmup_epochs or (c.until_epoch is not None and epoch >= c.until_epoch):
            return size
        return choose(size, c.scales, c.base_share, c.multiple, (seed, "multi-scale", epoch, index))
