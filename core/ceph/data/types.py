"""The two records everything passes around: a Sample (a film and its readers) and a Batch (what a step sees)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch  # which reading films and points does without

Matrix = NDArray[np.float64]  # [3, 3], homogeneous, maps (x, y, 1)
Points = NDArray[np.float64]  # [..., 2], (x, y); the centre of the first pixel is (0, 0)
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sample:
    """One film and what its readers marked: R readers, K landmarks, coordinates in film pixels.

    `points` [R, K, 2] are NaN where `valid` [R, K] is False; `size` is (H, W) of the film; `group` joins
    films that are no independent evidence (one patient, a repeated film); `spacing_source` says where `mm_per_px`
    is from. `set` names the data set that it is of, where a run has several; `labels` are what its set says of the
    film besides points, such as `cvm_stage`, by name; `outside` [R, K] are points that were marked off the film and
    left out (None: none were); `copied` [R, K] are readings that an earlier reader's were taken for (None: none were).
    `absent` [K] are landmarks that the set says are not on the film, a lost tooth or what a cut took, and that nobody
    marked; others that are not valid were just not marked (None: the set says nothing of the kind).
    """

    id: str
    split: str
    group: str
    machine: str
    size: tuple[int, int]
    mm_per_px: float
    points: Points
    valid: Flags
    path: Path
    spacing_source: str = ""
    set: str = ""
    labels: Mapping[str, float] = field(default_factory=dict)
    outside: Flags | None = None
    copied: Flags | None = None
    absent: Flags | None = None

    @property
    def own(self) -> Flags:
        """Which points [R, K] their reader marked by himself: valid, and no copy of an earlier reader's."""
        return self.valid if self.copied is None else self.valid & ~self.copied


def absent_in(samples: Sequence[Sample], landmarks: int) -> Flags:
    """Which landmarks the sets say are not on the films, [N, K]."""
    nothing = np.zeros(landmarks, dtype=bool)
    return np.array([nothing if s.absent is None else s.absent for s in samples], bool).reshape(-1, landmarks)


@dataclass(frozen=True, eq=False)
class Draw:
    """A further draw of a batch's films, on the device: image [B, 1, H, W] in 0..1, points [B, K, 2] in network px."""

    image: torch.Tensor
    points: torch.Tensor
    valid: torch.Tensor
    film_to_network: torch.Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """What a training step sees, on the device: B films, K landmarks, coordinates in network pixels.

    `image` [B, 1, H, W] float in 0..1; `points` [B, K, 2], 0 if not marked or out of it; `valid` [B, K] bool; `index`
    [B] into the training samples, -1 for an unmarked film; `mm_per_px` [B] of a network pixel; `film_to_network` [B, 3,
    3] float64; `epoch` counts from 0; `step` counts optimiser steps; `epochs_done` is the schedule's clock at the
    step's first micro-batch; `reader` [B, K] whose points they are, -1 for a mean; `extras` {name: [B, ...]} what
    plugins sent along; `draws` {name: Draw} further draws of the same films.
    """

    image: torch.Tensor
    points: torch.Tensor
    valid: torch.Tensor
    index: torch.Tensor
    mm_per_px: torch.Tensor
    film_to_network: torch.Tensor
    epoch: int = 0
    step: int = 0
    epochs_done: float = 0.0
    reader: torch.Tensor | None = None
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)
    draws: Mapping[str, Draw] = field(default_factory=dict)
