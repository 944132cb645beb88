"""distill: the maps of finished runs are a target beside the readers' points; so unmarked films train, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field

from ceph.plugin import Batch, ConfigError, Plugin, PluginConfig, Run, hookimpl, load, log


class DistillConfig(PluginConfig):
    """The term is a cross-entropy, as the main loss is."""

    runs: tuple[str, ...] = Field(
        min_length=1,
        description="folders of the runs to learn from, of folds and ensembles too; the maps of all are averaged",
    )
    weight: float = Field(default=1.0, ge=0, description="factor of the term in the loss")


class Distill(Plugin[DistillConfig]):
    """The network learns the maps of finished runs, of an ensemble, say: what several know goes into one.

    Hinton et al. 2015, Distilling the knowledge in a neural network, with distributions over places for classes. The
    runs see each training film as the network does, at their own size. Landmarks that a run does not know are left to
    the others; on unmarked films (`data.unmarked`) the term trains alone.
    """

    def __init__(self, config: DistillConfig | None = None) -> None:
        super().__init__(config)
        self.teachers: list[tuple[Any, list[int], list[int]]] = []  # a run, its landmarks and ours that are the same

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Load the runs; refuse heatmaps on either side, and a run that knows none of the landmarks."""
        for folder, teacher in [(run, each) for run in self.config.runs for each in networks(run)]:
            for side in (run.config, teacher.config):
                if side.target_kind != "distribution":
                    what = f"the loss {side.loss.name} trains heatmaps, this plugin distributions"
                    raise ConfigError(what, key="loss.name" if side is run.config else "plugins.distill.runs")
            ours = [k for k, symbol in enumerate(run.landmarks) if symbol in teacher.landmarks]
            if not ours:
                what = f"{folder} knows none of the landmarks {' '.join(run.landmarks)}"
                raise ConfigError(what, key="plugins.distill.runs", hint=f"it knows {' '.join(teacher.landmarks)}")
            theirs = [teacher.landmarks.index(run.landmarks[k]) for k in ours]
            teacher.model.requires_grad_(requires_grad=False)
            self.teachers.append((teacher, theirs, ours))
            log.info("distill: %d of %d landmarks from %s", len(ours), len(run.landmarks), folder)

    @hookimpl
    def loss_terms(self, batch: Batch, pred: torch.Tensor) -> Mapping[str, Any]:
        """Give {"distill": (sum, count)}: the cross-entropy of raw maps [B, K, h, w] to the runs' mean activations."""
        target, known = self.target(batch.image, pred.shape)
        apart = (known * pred.flatten(2).logsumexp(-1) - (target * pred).sum((-2, -1))).sum()
        return {"distill": (self.config.weight * apart, known.sum() * len(pred))}

    @torch.no_grad()
    def target(self, images: torch.Tensor, shape: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The runs' mean maps of `images` [B, 1, H, W], of a shape [B, K, h, w], each summing to 1 where known [K]."""
        total, count = images.new_zeros(*shape), images.new_zeros(shape[1])
        for teacher, theirs, ours in self.teachers:
            size = teacher.config.data.size
            fitting = images if tuple(images.shape[-2:]) == size else F.interpolate(images, size, mode="area")
            raw = teacher.model(fitting)[:, theirs].float()
            maps = raw.flatten(2).softmax(-1).view_as(raw)
            maps = F.interpolate(maps, shape[-2:], mode="bilinear", align_corners=False)
            total[:, ours] += maps / maps.sum((-2, -1), keepdim=True).clamp_min(1e-12)
            count[ours] += 1
        return total / count.clamp_min(1)[:, None, None], (count > 0).to(total)


def networks(folder: str) -> Sequence[Any]:
    """The run in a folder, or all runs of a folder of several."""
    found = load(folder)
    return found.members or (found,)
