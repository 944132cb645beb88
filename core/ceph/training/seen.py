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
        """Index [B], and loss, errors in mm and weights [B, K], NaN where not valid."""
        weighed = torch.ones_like(self.loss) if self.weights is None else self.weights.detach().expand_as(self.loss)
        parts = (self.loss, errors_mm(self.batch, self.pred, kind), weighed)
        return (self.batch.index, *(part.masked_fill(~self.batch.valid, math.nan) for part in parts))


@torch.no_grad()
def errors_mm(batch: Batch, pred: torch.Tensor, kind: str) -> torch.Tensor:
    """Errors [B, K] in mm of the points as they are now decoded from the training maps."""
    distance: torch.Tensor = torch.linalg.vector_norm(soft_points(pred, kind, image_size(batch)) - batch.points, dim=-1)
    return distance * batch.mm_per_px[:, None]


def masked(batch: Batch, mask: torch.Tensor | None) -> Batch:
    """The batch, of whose landmarks only those of `mask` (broadcasts to [B, K]) count; None: all."""
    return batch if mask is None else dataclasses.replace(batch, valid=batch.valid & mask)


def image_size(batch: Batch) -> tuple[int, int]:
    """(H, W) of the batch's images, network px."""
    return batch.image.shape[-2], batch.image.shape[-1]
