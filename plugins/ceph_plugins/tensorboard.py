"""tensorboard: the loss of the steps and the figures of each epoch as TensorBoard's curves."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from ceph.plugin import ConfigError, Plugin, PluginConfig, Run, hookimpl


def scalars(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The curves of a validation's figures: name and number, one a landmark."""
    for name, value in metrics.items():
        if name == "per_landmark":
            yield from ((f"{name}/{symbol}", v["mre_mm"]) for symbol, v in value.items() if v["mre_mm"] is not None)
        elif isinstance(value, Mapping):
            yield from ((f"{name}/{key}", number) for key, number in value.items() if isinstance(number, int | float))
        elif isinstance(value, int | float) and not name.startswith("n_"):
            yield name, value


class TensorboardConfig(PluginConfig):
    """By default `tensorboard --logdir runs` has all runs."""

    folder: str | None = Field(
        default=None,
        min_length=1,
        description="where curves are written, a folder for each run; null: `tensorboard` in the run folder",
    )
    every: int = Field(default=10, ge=1, description="steps between two points of the loss")


class Tensorboard(Plugin[TensorboardConfig]):
    """The loss of the steps and the figures of each epoch, for TensorBoard (Abadi et al. 2016); it only observes.

    A step's loss stays on the device until its epoch ends, so training does not wait. A resumed run goes on with its
    curves.
    """

    folder: Path

    def __init__(self, config: TensorboardConfig | None = None) -> None:
        super().__init__(config)
        self.losses: dict[int, torch.Tensor] = {}  # step -> [], on the device, of the running epoch
        self.writer: Any = None  # made late: it cannot be sent to loader workers

    @hookimpl
    def check_run(self) -> None:
        """Refuse to start without the package."""
        if importlib.util.find_spec("tensorboard") is None:
            raise ConfigError(
                "the package tensorboard is not installed",
                key="plugins.tensorboard",
                hint="pip install 'ceph-trainer[tensorboard]'",
            )

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Choose the folder."""
        assert run.folder is not None  # noqa: S101 - it is known when a run starts
        self.folder = Path(self.config.folder, run.folder.name) if self.config.folder else run.folder / "tensorboard"

    @hookimpl
    def step_end(self, step: int, loss: torch.Tensor) -> None:
        """Keep the loss [] of some steps, unread."""
        if step % self.config.every == 0:
            self.losses[step] = loss

    @hookimpl
    def epoch_end(self, epoch: int, loss: torch.Tensor, errors_mm: torch.Tensor, metrics: Mapping[str, Any]) -> None:
        """Write the steps' losses over the step, and the figures over the epoch; loss and errors_mm are [N, K]."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder))
        if self.losses:
            for step, value in zip(self.losses, torch.stack(list(self.losses.values())).tolist(), strict=True):
                self.writer.add_scalar("step/loss", value, step)
            self.losses.clear()
        figures = {"train/loss": float(loss.nanmean()), "train/mre_mm": float(errors_mm.nanmean())}
        figures |= {f"validation/{name}": number for name, number in scalars(metrics)}
        for name, number in figures.items():
            self.writer.add_scalar(name, number, epoch + 1)
        self.writer.flush()

    @hookimpl
    def run_end(self) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
