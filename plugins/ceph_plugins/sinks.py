"""tensorboard, trackio, wandb, mlflow: the loss of the steps and the figures of each epoch, where curves are looked at.

A sink only observes: a fault of it switches it off with a warning, and the run goes on. It keeps the losses of an epoch
on the device until that is over, so that training does not wait, and imports its package when the first epoch ends.
Without a setting that says so, nothing leaves this machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import Field

from ceph.plugin import ConfigError, Plugin, PluginConfig, Run, hookimpl, write_text

Numbers = Mapping[str, float]


def scalars(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The curves of a validation's figures: name and number, one a landmark."""
    for name, value in metrics.items():
        if name == "per_landmark":
            yield from ((f"{name}/{symbol}", v["mre_mm"]) for symbol, v in value.items() if v["mre_mm"] is not None)
        elif isinstance(value, Mapping):
            yield from ((f"{name}/{key}", number) for key, number in value.items() if isinstance(number, int | float))
        elif isinstance(value, int | float) and not name.startswith("n_"):
            yield name, value


def dotted(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a run, a name and a value each: `train.lr`, 0.001."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def kept(file: Path, make: Callable[[], str]) -> str:
    """What a file of the run folder says, made and written the first time, in one move."""
    if not file.exists():
        write_text(file, make() + "\n")
    return file.read_text("utf-8").strip()


class SinkConfig(PluginConfig):
    """What every sink can be told."""

    every: int = Field(default=10, ge=1, description="steps between two points of the loss")


SinkT = TypeVar("SinkT", bound=SinkConfig)


class Sink(Plugin[SinkT]):
    """What the sinks share; each says how to `open`, `write` and `close`. `package` is its extra's name, too."""

    package: ClassVar[str]
    run: Run

    def __init__(self, config: SinkT | None = None) -> None:
        super().__init__(config)
        self.losses: dict[int, torch.Tensor] = {}  # step -> [], on the device, of the running epoch
        self.step = 0  # the last that it was told of
        self.out: Any = None  # what `open` gave

    def __getstate__(self) -> dict[str, Any]:
        """All but what cannot be sent to loader workers, where a sink has nothing to do."""
        return {**self.__dict__, "losses": {}, "out": None}

    def open(self, run: Run, folder: Path) -> Any:
        """Begin to write the curves of a run, or go on with them; `folder` is the run folder."""
        raise NotImplementedError

    def write(self, numbers: Numbers, step: int, epoch: int | None) -> None:
        """Write numbers as they are after `step` steps; `epoch` epochs are done, None: in the midst of one."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what is left."""
        raise NotImplementedError

    @hookimpl
    def check_run(self) -> None:
        """Refuse to start without the package."""
        if importlib.util.find_spec(self.package) is None:
            raise ConfigError(
                f"the package {self.package} is not installed",
                key=f"plugins.{self.package}",
                hint=f"pip install 'ceph-trainer[{self.package}]'",
            )

    @hookimpl
    def run_start(self, run: Run) -> None:
        """Keep the run, which says where to write."""
        self.run = run

    @hookimpl
    def step_end(self, step: int, loss: torch.Tensor) -> None:
        """Keep the loss [] of some steps, unread."""
        self.step = step
        if step % self.config.every == 0:
            self.losses[step] = loss

    @hookimpl
    def epoch_end(self, epoch: int, loss: torch.Tensor, errors_mm: torch.Tensor, metrics: Mapping[str, Any]) -> None:
        """Write the steps' losses and the figures of the epoch; loss and errors_mm are [N, K]."""
        if self.out is None:
            assert self.run.folder is not None  # noqa: S101 - it is known when a run starts
            self.out = self.open(self.run, self.run.folder.absolute())
        if self.losses:
            values = torch.stack(list(self.losses.values())).tolist()
            for step, value in zip(self.losses, values, strict=True):
                self.write({"step/loss": value}, step, None)
            self.losses.clear()
        figures = {"train/loss": float(loss.nanmean()), "train/mre_mm": float(errors_mm.nanmean())}
        figures |= {f"validation/{name}": number for name, number in scalars(metrics)}
        # Epochs differ in their steps; a run resumed right after the last of one reckons with the usual number.
        self.write(figures, self.step or (epoch + 1) * self.run.steps_per_epoch, epoch + 1)

    @hookimpl
    def run_end(self) -> None:
        """Write what is left."""
        if self.out is not None:
            self.close()


class TensorboardConfig(SinkConfig):
    """By default `tensorboard --logdir runs` has all runs."""

    folder: str | None = Field(
        default=None,
        min_length=1,
        description="where curves are written, a folder for each run; null: `tensorboard` in the run folder",
    )


class Tensorboard(Sink[TensorboardConfig]):
    """The loss of the steps and the figures of each epoch, for TensorBoard (Abadi et al. 2016); it only observes.

    A step's loss stays on the device until its epoch ends, so training does not wait. A resumed run goes on with its
    curves.
    """

    package = "tensorboard"

    def open(self, run: Run, folder: Path) -> Any:
        """Give a writer of event files."""
        from torch.utils.tensorboard import SummaryWriter

        del run
        return SummaryWriter(
            str(Path(self.config.folder, folder.name) if self.config.folder else folder / "tensorboard")
        )

    def write(self, numbers: Numbers, step: int, epoch: int | None) -> None:
        """Losses are curves over the steps, figures over the epochs."""
        for name, number in numbers.items():
            self.out.add_scalar(name, number, step if epoch is None else epoch)
        if epoch is not None:
            self.out.flush()

    def close(self) -> None:
        """Close the file."""
        self.out.close()


class TrackioConfig(SinkConfig):
    """trackio keeps its curves in a folder of its own, which the environment variable TRACKIO_DIR can name."""

    project: str = Field(default="ceph", min_length=1, description="project under which the runs are shown")
    space: str | None = Field(
        default=None, min_length=1, description="Hugging Face Space to send the curves to; null: they stay here"
    )


class Trackio(Sink[TrackioConfig]):
    """The loss of the steps, the figures of each epoch and the config, for trackio; it only observes.

    `trackio show --project ceph` shows them. Nothing leaves this machine unless `space` names a Space.
    """

    package = "trackio"

    def open(self, run: Run, folder: Path) -> Any:
        """Give trackio's run; its name lies in the run folder, so that a resumed run is the same one."""
        import trackio

        name = kept(folder / "trackio.txt", lambda: f"{folder.name}-{uuid.uuid4().hex[:6]}")
        with contextlib.redirect_stdout(io.StringIO()):  # it greets
            return trackio.init(
                project=self.config.project,
                name=name,
                space_id=self.config.space,
                config=run.config.model_dump(mode="json"),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def write(self, numbers: Numbers, step: int, epoch: int | None) -> None:
        """All curves are over the steps; the epoch is one of them."""
        self.out.log(dict(numbers) if epoch is None else {"epoch": epoch, **numbers}, step=step)

    def close(self) -> None:
        """Wait until all is written."""
        import trackio

        with contextlib.redirect_stdout(io.StringIO()):
            trackio.finish()


class WandbConfig(SinkConfig):
    """`wandb sync RUN/wandb/offline-run-*` sends later what was written offline."""

    mode: Literal["offline", "online"] = Field(
        default="offline",
        description="offline: into `wandb` of the run folder, nothing is sent; online: to the account of `wandb login`",
    )
    project: str = Field(default="ceph", min_length=1, description="project under which the runs are shown")
    entity: str | None = Field(default=None, min_length=1, description="user or team; null: the account's default")


class Wandb(Sink[WandbConfig]):
    """The loss of the steps, the figures of each epoch and the config, for Weights & Biases; it only observes.

    By default it writes into the run folder and sends nothing. No code, git state, console output or facts of the
    machine are recorded in either mode. A resumed run goes on with its curves.
    """

    package = "wandb"

    def open(self, run: Run, folder: Path) -> Any:
        """Give wandb's run; its id lies in the run folder, so that a resumed run is the same one."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        quiet = {"silent": True, "console": "off", "disable_git": True, "disable_code": True}
        unsaid = {"x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True}
        return wandb.init(
            dir=str(folder),
            id=kept(folder / "wandb.txt", lambda: uuid.uuid4().hex[:12]),
            resume="allow" if self.config.mode == "online" else None,
            mode="offline" if self.config.mode == "offline" else None,  # None: WANDB_MODE has a say
            name=folder.name,
            project=self.config.project,
            entity=self.config.entity,
            config=run.config.model_dump(mode="json"),
            settings=wandb.Settings(reinit="create_new", **quiet, **unsaid),
        )

    def write(self, numbers: Numbers, step: int, epoch: int | None) -> None:
        """All curves are over the steps; the epoch is one of them."""
        self.out.log(dict(numbers) if epoch is None else {"epoch": epoch, **numbers}, step=step)

    def close(self) -> None:
        """Wait until all is written or sent."""
        self.out.finish()


class MlflowConfig(SinkConfig):
    """`mlflow ui --backend-store-uri sqlite:///RUN/mlflow.db` shows one run; runs that share a `uri` stand together."""

    uri: str | None = Field(
        default=None,
        min_length=1,
        description="tracking server or database, as MLflow writes them; null: `mlflow.db` in the run folder",
    )
    experiment: str = Field(default="ceph", min_length=1, description="experiment under which the runs are shown")


class Mlflow(Sink[MlflowConfig]):
    """The loss of the steps, the figures of each epoch and the config, for MLflow; it only observes.

    By default they are an SQLite file in the run folder. MLflow's own telemetry is off unless the environment switches
    it on. A resumed run goes on with its curves.
    """

    package = "mlflow"

    def open(self, run: Run, folder: Path) -> Any:
        """Give MLflow's client and the run's id there, which the run folder keeps for a resumed run."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # of tables made
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient(tracking_uri=self.config.uri or f"sqlite:///{folder / 'mlflow.db'}")

        def begin() -> str:
            found = client.get_experiment_by_name(self.config.experiment)
            files = None if self.config.uri else (folder / "mlflow").as_uri()
            made = found.experiment_id if found else client.create_experiment(self.config.experiment, files)
            begun: str = client.create_run(made, run_name=folder.name).info.run_id
            settings = [Param(name, str(value)) for name, value in dotted(run.config.model_dump(mode="json"))]
            for first in range(0, len(settings), 100):  # as many as a batch may have
                client.log_batch(begun, params=settings[first : first + 100])
            return begun

        return client, kept(folder / "mlflow.txt", begin)

    def write(self, numbers: Numbers, step: int, epoch: int | None) -> None:
        """Losses are curves over the steps, figures over the epochs."""
        from mlflow.entities import Metric

        client, run = self.out
        now, at = int(1000 * time.time()), step if epoch is None else epoch
        # MLflow takes few signs in a name: the soft-tissue Pog` becomes Pog_.
        rows = [Metric(re.sub(r"[^\w\-. :/]", "_", name), number, now, at) for name, number in numbers.items()]
        client.log_batch(run, metrics=rows)

    def close(self) -> None:
        """Mark the run as finished."""
        client, run = self.out
        client.set_terminated(run)
