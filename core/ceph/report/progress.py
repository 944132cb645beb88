"""A run as it goes: a live bar in a terminal, a plain line an epoch elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Silent:
    """Shows nothing; for use from Python."""

    def start(self, epochs: int, done: int) -> None:
        """Do nothing."""

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """Do nothing."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Do nothing."""


class Lines(Silent):
    """One line an epoch, for logs and CI."""

    def __init__(self, console: Console) -> None:
        self.console, self.epochs = console, 0

    def start(self, epochs: int, done: int) -> None:
        """Remember how many epochs there are."""
        del done
        self.epochs = epochs

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        self.console.print(epoch_line(record, self.epochs), highlight=False)


class Live(Lines):
    """A bar over the whole run with loss, validation MRE and the time that is left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bar = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  val MRE {task.fields[mre]} mm  best {task.fields[best]} mm"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.best = float("inf")

    def start(self, epochs: int, done: int) -> None:
        """Show the bar."""
        super().start(epochs, done)
        self.task = self.bar.add_task(
            "run", total=epochs, completed=done, epoch=f"{done}/{epochs}", loss="-", mre="-", best="-"
        )
        self.bar.start()

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """Move the bar."""
        place = f"{epoch + 1}/{self.epochs}"
        self.bar.update(self.task, completed=epoch + done / total, epoch=place, loss=f"{loss:.3f}")

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Show the epoch's validation error and print its line above the bar."""
        super().epoch(record)
        mre = record["validation"]["mre_mm"]
        if mre is not None:
            self.best = min(self.best, mre)
            self.bar.update(self.task, mre=f"{mre:.2f}", best=f"{self.best:.2f}")

    def stop(self) -> None:
        """Take the bar away."""
        self.bar.stop()


@contextmanager
def watcher_for(console: Console) -> Iterator[Lines]:
    """A bar where `console` is a terminal, else lines; the bar is gone when the block ends."""
    if not console.is_terminal:
        yield Lines(console)
        return
    live = Live(console)
    try:
        yield live
    finally:
        live.stop()


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """`epoch 3/40  loss 4.10  train MRE 2.31 mm  val MRE 1.90 mm  SDR2 71.2 %`."""
    figures = record["validation"]
    parts = [
        f"epoch {record['epoch'] + 1:>3}/{epochs}",
        f"loss {record['loss']:.3f}",
        f"train MRE {record['train_mre_mm']:.2f} mm",
    ]
    if figures["mre_mm"] is not None:
        parts += [f"val MRE {figures['mre_mm']:.3f} mm", f"SDR2 {figures['sdr_percent']['2.0']:.1f} %"]
    return "  ".join(parts)
