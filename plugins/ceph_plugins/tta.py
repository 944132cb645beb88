"""tta: in evaluation the maps of a film are averaged with those of the film moved, turned or exposed otherwise."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field

from ceph.plugin import Plugin, PluginConfig, View, hookimpl, similarity


class TtaConfig(PluginConfig):
    """Each kind of view costs two more forward passes of every evaluation, those while training too; 0 or 1: none."""

    shift_px: float = Field(
        default=2.0, ge=0, le=32, description="network px; the film moved so far along a diagonal, either way"
    )
    rotate_deg: float = Field(default=2.0, ge=0, le=15, description="degrees; the film turned so far, either way")
    gamma: float = Field(default=1.0, ge=1, le=2, description="the film to this power, and to one over it")


class Tta(Plugin[TtaConfig]):
    """In evaluation the activations of several views of a film are averaged, each laid back exactly; never a flip.

    Test-time augmentation: averages of predictions over crops (Krizhevsky et al. 2012, section 4.1), of maps over
    views (Newell et al. 2016). A lateral film mirrored is another anatomy, so its usual view, the flip, is left out.
    """

    @hookimpl
    def views(self) -> list[View]:
        """Give the film moved, turned and exposed otherwise, each either way."""
        shift, angle, gamma = self.config.shift_px, self.config.rotate_deg, self.config.gamma
        moved = [View(partial(similarity, 0, 1, (by, by))) for by in (shift, -shift) if by]
        turned = [View(partial(similarity, by, 1, (0, 0))) for by in (angle, -angle) if by]
        return moved + turned + [View(photometric=partial(_power, by)) for by in (gamma, 1 / gamma) if by != 1]


def _power(exponent: float, images: torch.Tensor) -> torch.Tensor:
    return images**exponent
