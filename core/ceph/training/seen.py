"""What a micro-batch showed, and the rows of the epoch's tables that are made of it."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch

from ceph.data.types import Batch
from ceph.model.codec import soft_points
from ceph.training.progress import Rows


class Seen(NamedTuple):
    """A micro-batch as it trained: maps `pred` [B, K, h, w] and main `loss` [B, K], detached; its weights or None."""

    batch: Batch
    pred: torch.Tensor
    loss: torch.Tensor
    weights: torch.Tensor | None

    @property
    def finite(self) -> torch.Tensor:
        """Whether the maps and the main loss are finite, [2], on the device."""
        return torch.stack((torch.isfinite(self.pred).all(), torch.isfinite(self.loss).all()))

    def rows(self, kind: str) -> Rows:
        """Index [B], and loss, errors in mm, weights [B, K] and moves in mm [B, K, 2], NaN where not valid."""
        weighed = torch.ones_like(self.loss) if self.weights is None else self.weights.detach().expand_as(self.loss)
        errors, moves = off_mm(self.batch, self.pred, kind)
        loss, errors, weighed = (p.masked_fill(~self.batch.valid, math.nan) for p in (self.loss, errors, weighed))
        return self.batch.index, loss, errors, weighed, moves.masked_fill(~self.batch.valid[..., None], math.nan)


@torch.no_grad()
def off_mm(batch: Batch, pred: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors [B, K] in mm of the points as they are now decoded from the training maps, and the moves that mend them.

    A move [B, K, 2], truth less found, is as long as its error, along the axes of the film as it was taken.
    """
    apart = batch.points - soft_points(pred, kind, image_size(batch))
    errors = torch.linalg.vector_norm(apart, dim=-1) * batch.mm_per_px[:, None]
    (a, b), (c, d) = batch.film_to_network[:, :2, :2, None].permute(1, 2, 0, 3).to(apart)
    x, y = apart.unbind(-1)
    back = torch.stack([d * x - b * y, a * y - c * x], dim=-1) * (a * d - b * c).sign()[..., None]
    return errors, back * (errors / torch.linalg.vector_norm(back, dim=-1).clamp_min(1e-12))[..., None]


def masked(batch: Batch, mask: torch.Tensor | None) -> Batch:
    """The batch, of whose landmarks only those of `mask` (broadcasts to [B, K]) count; None: all."""
    return batch if mask is None else dataclasses.replace(batch, valid=batch.valid & mask)


def image_size(batch: Batch) -> tuple[int, int]:
    """(H, W) of the batch's images, network px."""
    return batch.image.shape[-2], batch.image.shape[-1]
