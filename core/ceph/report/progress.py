"""A run as it goes: a live table in a terminal, a plain line an epoch elsewhere and in CI; both say when it ends."""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

from rich.console import Console, Group
from rich.live import Live as LiveDisplay
from rich.progress_bar import ProgressBar
from rich.table import Table

from ceph.files import discard

log = logging.getLogger("ceph")

ROWS = 8  # epochs of the live table


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
        self.console, self.epochs, self.began, self.first = console, 0, monotonic(), 0

    def start(self, epochs: int, done: int) -> None:
        """Remember how many epochs there are, and when this process began."""
        self.epochs, self.began, self.first = epochs, monotonic(), done

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        left = self.left(record["epoch"] + 1)
        line = epoch_line(record, self.epochs) + (f"  ETA {left}" if left else "")
        try:
            self.console.print(line, highlight=False, soft_wrap=True)
        except OSError as error:  # a full disk under the output ends no run
            self.console.quiet = True
            discard(1)
            log.warning("nothing more is printed: %s", error.strerror or error)

    def left(self, done: float) -> str:
        """How long the rest takes if it goes on as since the start; "" where nothing is left or known."""
        return clock(remaining(monotonic() - self.began, done - self.first, self.epochs - done))


class Live(Lines):
    """The last epochs as a table, the best of all marked, above a bar over the whole run with loss and ETA."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.rows: deque[Mapping[str, Any]] = deque(maxlen=ROWS)
        self.best: Mapping[str, Any] | None = None
        self.done, self.loss = 0.0, math.nan
        self.display = LiveDisplay(console=console, get_renderable=self.render, vertical_overflow="visible")

    def start(self, epochs: int, done: int) -> None:
        """Show the table."""
        super().start(epochs, done)
        self.done = done
        self.display.start(refresh=True)

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """Move the bar."""
        self.done, self.loss = epoch + done / total, loss

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Add the epoch's row."""
        self.rows.append(record)
        self.done = record["epoch"] + 1
        if self.best is None or _mre(record) < _mre(self.best):
            self.best = record

    def stop(self) -> None:
        """Leave the table as it is and stop."""
        self.display.stop()

    def render(self) -> Group:
        """The table and the bar as they are now."""
        rows = list(self.rows)
        if self.best is not None and self.best not in rows:
            rows = [self.best, *rows[1:]]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("epoch", "loss", "train MRE mm", "val MRE mm", "SDR 2 mm"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for record in rows:
            best = record is self.best
            table.add_row(*epoch_cells(record), "best" if best else "", style="bold" if best else "")
        bar = Table.grid(padding=(0, 2))
        elapsed = clock(monotonic() - self.began)
        words = [f"epoch {min(int(self.done) + 1, self.epochs)}/{self.epochs}", f"{elapsed} gone"]
        if not math.isnan(self.loss):
            words.insert(1, f"loss {self.loss:.3f}")
        left = self.left(self.done)
        words += [f"ETA {left}"] if left else []
        bar.add_row(ProgressBar(total=self.epochs, completed=self.done, width=24), *words)
        return Group(table, bar) if rows else Group(bar)


@contextmanager
def watcher_for(console: Console) -> Iterator[Lines]:
    """A live table where `console` is a terminal that a person looks at, else lines."""
    if not console.is_terminal or console.is_dumb_terminal or os.environ.get("CI"):
        yield Lines(console)
        return
    live = Live(console)
    try:
        yield live
    finally:
        live.stop()


def remaining(seconds: float, done: float, left: float) -> float:
    """The seconds that `left` epochs take when `done` took `seconds`; NaN where none is done, or left."""
    return seconds / done * left if done > 0 and left > 0 else math.nan


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` under an hour; "" for NaN."""
    if math.isnan(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def epoch_cells(record: Mapping[str, Any]) -> list[str]:
    """The cells of an epoch's row."""
    figures = record["validation"]
    known = figures["mre_mm"] is not None
    return [
        str(record["epoch"] + 1),
        f"{record['loss']:.3f}",
        f"{record['train_mre_mm']:.2f}",
        f"{figures['mre_mm']:.3f}" if known else "-",
        f"{figures['sdr_percent']['2.0']:.1f} %" if known else "-",
    ]


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """`epoch   3/40  loss 4.100  train MRE 2.31 mm  val MRE 1.903 mm  SDR2 71.2 %`."""
    number, loss, train, mre, rate = epoch_cells(record)
    parts = [f"epoch {number:>3}/{epochs}", f"loss {loss}", f"train MRE {train} mm"]
    if mre != "-":
        parts += [f"val MRE {mre} mm", f"SDR2 {rate}"]
    return "  ".join(parts)


def _mre(record: Mapping[str, Any]) -> float:
    found = record["validation"]["mre_mm"]
    return math.inf if found is None else float(found)
