"""fine-tune: the pretrained backbone learns more slowly than the head, its first layers slowest, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from ceph.plugin import Duration, Plugin, PluginConfig, Run, hookimpl, log

NEARLY_ALL = 0.9  # of the weights: a part that holds more is taken apart
Schedule = Callable[[float], float]


def stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """The backbone's parts from its input to its output: the stem, then each stage, as lists of modules.

    A module with nearly all weights (timm's `blocks`) counts as its children; what comes before the first one that is
    made of blocks is the stem.
    """
    parts = list(_parts(backbone, _weights(backbone)))
    stem = next((i for i, part in enumerate(parts) if _has_blocks(part)), 0)
    return ([parts[:stem]] if stem else []) + [[part] for part in parts[stem:]]


def _parts(module: nn.Module, whole: int) -> Iterator[nn.Module]:
    for child in module.children():
        weights = _weights(child)
        if weights > NEARLY_ALL * whole and any(map(_weights, child.children())):
            yield from _parts(child, whole)
        elif weights:
            yield child


def _has_blocks(module: nn.Module) -> bool:
    return any(_weights(layer) for block in module.children() for layer in block.children())


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def split_by_rate(optimizer: torch.optim.Optimizer, factor_of: Callable[[torch.Tensor], float]) -> None:
    """Split each group of a fresh optimiser by the factor of its tensors' rates; all else of a group stays."""
    groups = list(optimizer.param_groups)
    optimizer.param_groups.clear()
    for group in groups:
        by_factor: dict[float, list[torch.Tensor]] = {}
        for parameter in group["params"]:
            by_factor.setdefault(factor_of(parameter), []).append(parameter)
        for factor, parameters in by_factor.items():
            optimizer.add_param_group({**group, "params": parameters, "lr": group["lr"] * factor})


class FineTuneConfig(PluginConfig):
    """`train.lr` is the head's rate; weights to start from come by `model.weights` or `--init-from`."""

    backbone_lr: float = Field(default=0.1, gt=0, description="the backbone's rate, as a factor of train.lr")
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="each stage's rate, as a factor of that of the stage after it"
    )
    freeze: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        default=0, description="parts of the backbone that do not learn, from its input: 1 is the stem; all: all of it"
    )
    freeze_epochs: Duration | None = Field(
        default=None, gt=0, description="the frozen parts learn after so many epochs, or % of the run; null: never"
    )


class FineTune(Plugin[FineTuneConfig]):
    """The backbone learns at a slower rate than the head, slower still towards its input, and parts of it not at all.

    Rates by layer and unfreezing: Howard & Ruder 2018 (ULMFiT), sections 3.2 and 3.3; rates that decay by layer: Clark
    et al. 2020 (ELECTRA), Bao et al. 2022 (BEiT). Optimiser and schedule stay the core's own.
    """

    freeze_epochs: float  # that the run's length makes of the setting

    @hookimpl
    def build_optimizer(
        self, model: nn.Module, run: Run, default: Callable[[], tuple[torch.optim.Optimizer, Schedule]]
    ) -> tuple[torch.optim.Optimizer, Schedule]:
        """Give the core's optimiser with its groups split by rate, and the core's schedule, which multiplies them."""
        c, backbone = self.config, model.get_submodule("backbone")
        parts = stages(backbone)
        factors = [c.backbone_lr * c.layer_decay ** (len(parts) - 1 - i) for i in range(len(parts))]
        found = dict.fromkeys(backbone.parameters(), factors[0])
        for part, factor in zip(parts, factors, strict=True):
            found.update(dict.fromkeys((p for module in part for p in module.parameters()), factor))
        optimizer, schedule = default()
        split_by_rate(optimizer, lambda parameter: found.get(parameter, 1.0))  # type: ignore[call-overload]
        rates = ", ".join(f"{run.config.train.lr * factor:.3g}" for factor in factors)
        log.info("fine-tune: rates of the backbone's %d parts from its input: %s", len(parts), rates)
        return optimizer, schedule

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Learn for how many epochs of this run the frozen parts do not learn."""
        lasts = self.config.freeze_epochs
        self.freeze_epochs = math.inf if lasts is None else lasts.epochs(run.epochs)

    @hookimpl
    def epoch_start(self, epoch: int, model: nn.Module) -> None:
        """Freeze or thaw: frozen parts get no gradient, and their norms keep their statistics (evaluation mode)."""
        frozen, freeze = epoch < self.freeze_epochs, self.config.freeze
        parts = stages(model.get_submodule("backbone"))
        for module in (module for part in parts[: None if freeze == "all" else freeze] for module in part):
            module.requires_grad_(requires_grad=not frozen)
            module.train(mode=not frozen)
