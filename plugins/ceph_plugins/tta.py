"""tta: in evaluation the maps of a film are averaged with those of the film moved, turned or exposed otherwise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from ceph.plugin import Matrix, Plugin, PluginConfig, hookimpl, similarity


def seen_through(maps: torch.Tensor, matrix: Matrix, stride: int) -> torch.Tensor:
    """Maps (or films) [B, C, h, w], resampled: pixel p of the answer is the input at `matrix` [3, 3] p, zero outside.

    The matrix is in network px; the maps have a pixel for each `stride` of them (films: 1).
    """
    height, width = maps.shape[-2:]
    x, y = 2 / (stride * width), 2 / (stride * height)
    to_unit = np.array([[x, 0, x / 2 - 1], [0, y, y / 2 - 1], [0, 0, 1]])  # the outer edges are -1 and 1
    between = torch.from_numpy((to_unit @ matrix @ np.linalg.inv(to_unit))[:2]).to(maps)
    grid = F.affine_grid(between.expand(len(maps), 2, 3), [len(maps), 1, height, width], align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class TtaConfig(PluginConfig):
    """Each kind of view costs two more forward passes of every evaluation, those while training too; 0 or 1: none."""

    shift: float = Field(
        default=0.5, ge=0, le=8, description="map px; the film moved so far along a diagonal, either way"
    )
    rotate_deg: float = Field(default=2.0, ge=0, le=15, description="degrees; the film turned so far, either way")
    gamma: float = Field(default=1.0, ge=1, le=2, description="the film to this power, and to one over it")


class Tta(Plugin[TtaConfig]):
    """In evaluation the activations of several views of a film are averaged, each laid back exactly; never a flip.

    Test-time augmentation: averages of predictions over crops (Krizhevsky et al. 2012, section 4.1), of maps over
    views (Newell et al. 2016). A lateral film mirrored is another anatomy, so its usual view, the flip, is left out.
    """

    @hookimpl
    def predict(
        self, model: nn.Module, images: torch.Tensor, activate: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Give activations [B, K, h, w], at each pixel the mean of the views that see it, from images [B, 1, H, W]."""
        maps = activate(model(images))
        stride = round(images.shape[-1] / maps.shape[-1])
        total, views = maps, torch.ones_like(maps[:1, :1])
        for matrix in self._moves((images.shape[-2], images.shape[-1]), stride):
            back = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
            total = total + seen_through(activate(model(seen_through(images, matrix, 1))), back, stride)
            views = views + seen_through(torch.ones_like(views), back, stride)
        for power in (self.config.gamma, 1 / self.config.gamma) if self.config.gamma != 1 else ():
            total, views = total + activate(model(images**power)), views + 1
        return total / views

    def _moves(self, size: tuple[int, int], stride: int) -> list[Matrix]:
        """The maps, network px to network px, of the views that move a film of `size` (H, W)."""
        shift, angle = self.config.shift * stride, self.config.rotate_deg
        shifts = [similarity(0, 1, (by, by), size) for by in (shift, -shift) if by]
        return shifts + [similarity(by, 1, (0, 0), size) for by in (angle, -angle) if by]
