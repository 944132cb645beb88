"""How far a run is, and the tables of its running epoch; and whoever watches it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch

TABLES = ("index", "loss", "errors_mm", "counted", "moves_mm")  # of the running epoch
PLAIN = (
    *("epoch", "batch", "step", "best", "best_epoch", "planned", "sampling", "records", "skipped"),
    "skipped_in_a_row",
)
# Of a micro-batch: index [B], and loss, errors in mm, weights [B, K], moves in mm [B, K, 2], NaN where not valid.
Rows = tuple[torch.Tensor, ...]


class Unread(NamedTuple):
    """Whether a step's numbers are finite, not read from the device yet: `finite` is [4], see `nonfinite.FLAGS`."""

    step: int
    films: torch.Tensor  # [B]
    finite: torch.Tensor


class Watcher(Protocol):
    """Whoever shows a run to a person."""

    def start(self, epochs: int, done: int) -> None:
        """A run of `epochs` begins, or goes on after `done` of them."""

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """`done` of the epoch's `total` batches are trained; `loss` is their mean."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch is over; `record` is its line of metrics.jsonl."""


@dataclass
class Progress:
    """How far a run is, and the tables of its running epoch; everything a resumed run must know beside the weights."""

    epoch: int = 0
    batch: int = 0  # micro-batches of this epoch that are trained
    step: int = 0  # optimiser steps of the run
    best: float = math.inf
    best_epoch: int = -1
    weights: torch.Tensor | None = None  # [N] float64: this epoch's sampling weights
    planned: bool = False
    sampling: dict[str, Any] = field(default_factory=dict)  # the state of plugins with which films of this epoch load
    drawn: int = 0  # films that the epoch's plan draws
    megapixels: float = 0.0  # network pixels of these
    sizes: dict[str, int] = field(default_factory=dict)  # films that the plan draws, by the size of the network's image
    rows: int = 0  # of the tables that are filled: films trained in this epoch
    index: torch.Tensor | None = None  # [drawn]
    loss: torch.Tensor | None = None  # [drawn, K], NaN where not valid
    errors_mm: torch.Tensor | None = None  # [drawn, K], NaN where not valid
    counted: torch.Tensor | None = None  # [drawn, K] weights of landmarks, NaN where not valid
    moves_mm: torch.Tensor | None = None  # [drawn, K, 2] truth less found, in the axes of the film, NaN where not valid
    records: list[dict[str, Any]] = field(default_factory=list)  # the lines of metrics.jsonl
    skipped: int = 0  # optimiser steps of this epoch that were left out: their numbers were not finite
    skipped_in_a_row: int = 0
    unread: list[Unread] = field(default_factory=list)  # of the last steps, on the device; no part of the state
    timed: tuple[int, float] = (0, 0.0)  # steps of this process and their seconds; no part of the state

    def note(self, seen: Sequence[Rows]) -> None:
        """Count one optimiser step and keep what its micro-batches showed, a row of each of TABLES for a film."""
        for parts in seen:
            end = self.rows + len(parts[0])
            for name, part in zip(TABLES, parts, strict=True):
                self._make_room(name, part, max(self.drawn, end))[self.rows : end] = part
            self.rows = end
        self.batch += len(seen)
        self.step += 1

    def _make_room(self, name: str, part: torch.Tensor, rows: int) -> torch.Tensor:
        """The table `name`, long enough. It is one block: small ones by the thousand would break up the memory."""
        table: torch.Tensor | None = getattr(self, name)
        if table is None or len(table) < rows:
            longer = part.new_empty((rows, *part.shape[1:]))
            if table is not None:
                longer[: self.rows] = table[: self.rows]
            setattr(self, name, table := longer)
        return table

    def table(self, name: str) -> torch.Tensor:
        """The filled rows of one of TABLES, on the CPU. Raises ValueError where no film is trained yet."""
        found: torch.Tensor | None = getattr(self, name)
        if found is None:
            raise ValueError(f"no film of epoch {self.epoch} is trained yet")
        return found[: self.rows].cpu()

    def next_epoch(self) -> None:
        """Clear the tables and turn to the next epoch."""
        self.epoch, self.batch, self.planned, self.weights = self.epoch + 1, 0, False, None
        self.rows, self.skipped = 0, 0
        for name in TABLES:
            setattr(self, name, None)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        tables = {name: self.table(name) if self.rows else None for name in TABLES}
        plain = {name: getattr(self, name) for name in PLAIN}
        return {**plain, **tables, "weights": self.weights}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """What `state` gave, back."""
        trained = state.get("index")
        return cls(**state, rows=0 if trained is None else len(trained))


def epoch_tables(progress: Progress, films: int) -> dict[str, torch.Tensor]:
    """Means over each training film's draws: `loss` and `errors_mm` [N, K], `moves_mm` [N, K, 2]; NaN: not drawn."""
    index = progress.table("index")
    marked = index >= 0  # the others are films without points
    index = index[marked]

    def mean(values: torch.Tensor) -> torch.Tensor:
        values = values[marked].double()
        known = ~values.isnan()
        total = torch.zeros(films, *values.shape[1:], dtype=torch.float64).index_add_(0, index, values.nan_to_num())
        return (total / torch.zeros_like(total).index_add_(0, index, known.double())).float()

    return {name: mean(progress.table(name)) for name in ("loss", "errors_mm", "moves_mm")}


def landmark_weights(progress: Progress, landmarks: Sequence[str]) -> dict[str, float]:
    """What each landmark weighed in the epoch's loss: the mean of its draws, over the mean of all landmarks."""
    mean = progress.table("counted").double().nanmean(dim=0)
    relative = (mean / mean.nanmean().clamp_min(1e-12)).tolist()
    return {name: weight for name, weight in zip(landmarks, relative, strict=True) if not math.isnan(weight)}
