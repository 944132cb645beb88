"""mean-teacher: two draws of a film must agree, one seen by an average of the weights; so unmarked films train, too."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import nn

from ceph.plugin import Batch, ConfigError, Duration, Plugin, PluginConfig, Run, gaussians, hookimpl, soft_points

DRAW = "teacher"  # the name of the further draw of each film
NEAR_PX = 2.0  # map px; the mass of a map within it says how sure the teacher is


def carried(points: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Points [B, K, 2] from the network px of one draw to those of another; [B, 3, 3] map film px to each."""
    between = (other.double() @ torch.linalg.inv_ex(one.double()).inverse).to(points)
    moved = points @ between[:, :2, :2].mT + between[:, None, :2, 2]
    found: torch.Tensor = moved / (points @ between[:, 2, :2, None] + between[:, 2:, 2:])
    return found


def mass_near(maps: torch.Tensor, points: torch.Tensor, radius: float) -> torch.Tensor:
    """The share [B, K] of maps [B, K, h, w] that sum to 1 which lies within `radius` of points [B, K, 2], map px."""
    near = [
        ((torch.arange(side, device=maps.device) - points[..., axis, None]).abs() <= radius).to(maps)
        for axis, side in enumerate(maps.shape[:-3:-1])
    ]
    share: torch.Tensor = torch.einsum("bkhw,bkh,bkw->bk", maps, near[1], near[0])
    return share


class MeanTeacherConfig(PluginConfig):
    """The term is a cross-entropy, as the main loss is; `data.unmarked` names the films without points."""

    weight: float = Field(default=1.0, ge=0, description="factor of the term in the loss, after the ramp")
    ramp: Duration = Field(default=Duration("20%"), description="the factor rises from 0 for so long")
    momentum: float = Field(default=0.99, ge=0, lt=1, description="share of the teacher's weights that a step keeps")
    least_trust: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="points of which the teacher's map holds less than this about its peak are left",
    )


class MeanTeacher(Plugin[MeanTeacherConfig]):
    """The network learns from points that an average of its own weights finds on another draw of the same film.

    Mean teachers: Tarvainen & Valpola 2017. Each landmark of which the teacher is sure becomes a target where it lies
    in the student's draw, on marked films and on unmarked ones (`data.unmarked`), which otherwise train nothing.
    """

    teacher: nn.Module
    ramp_epochs: float

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse heatmaps: a teacher is sure of a place, and a distribution says of how much."""
        if run.config.target_kind != "distribution":
            raise ConfigError(
                f"the loss {run.config.loss.name} trains heatmaps, this plugin distributions", key="loss.name"
            )

    @hookimpl
    def second_draws(self) -> list[str]:
        """Ask for one further draw of each film: the teacher's."""
        return [DRAW]

    @hookimpl
    def run_start(self, run: Run, model: nn.Module) -> None:
        """Begin with the model's own weights."""
        self.ramp_epochs, self.sigma_px = self.config.ramp.epochs(run.epochs), run.config.sigma_px
        self.stride = run.config.model.stride
        self.teacher = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()

    @hookimpl
    def loss_terms(self, batch: Batch, pred: torch.Tensor) -> Mapping[str, Any]:
        """Give {"mean_teacher": (sum, count)}: the cross-entropy of raw maps [B, K, h, w] where the teacher is sure."""
        draw = batch.draws[DRAW]
        with torch.no_grad():
            raw = self.teacher(draw.image).float()
            maps = raw.flatten(2).softmax(-1).view_as(raw)
            points = soft_points(raw, "distribution", (draw.image.shape[-2], draw.image.shape[-1]))
            trust = mass_near(maps, (points + 0.5) / self.stride - 0.5, NEAR_PX)
            there = carried(points, draw.film_to_network, batch.film_to_network)
            sides = zip(there.unbind(-1), batch.image.shape[:-3:-1], strict=True)
            inside_x, inside_y = ((at >= 0) & (at <= side - 1) for at, side in sides)
            counts = trust * (inside_x & inside_y & (trust >= self.config.least_trust))
            target = gaussians(there, (pred.shape[-2], pred.shape[-1]), "distribution", self.sigma_px, self.stride)
        apart = pred.flatten(2).logsumexp(-1) - (target * pred).sum((-2, -1))
        factor = self.config.weight * (min(1.0, batch.epochs_done / self.ramp_epochs) if self.ramp_epochs else 1.0)
        return {"mean_teacher": (factor * (counts * apart).sum(), counts.new_full((), counts.numel()))}

    @hookimpl
    def step_end(self, model: nn.Module) -> None:
        """Move the teacher's weights towards the model's; its buffers (the norms' statistics) are the model's."""
        own, new = ([p.detach() for p in module.parameters()] for module in (self.teacher, model))
        torch._foreach_lerp_(own, new, 1 - self.config.momentum)
        torch._foreach_copy_(list(self.teacher.buffers()), list(model.buffers()))

    def state_dict(self) -> dict[str, Any]:
        """The teacher's weights."""
        return {"teacher": self.teacher.state_dict()} if hasattr(self, "teacher") else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the teacher's weights back."""
        if state:
            self.teacher.load_state_dict(state["teacher"])
