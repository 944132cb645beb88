"""The two records everything passes around: a Sample (a film and its readers) and a Batch (what a step sees)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

Matrix = NDArray[np.float64]  # [3, 3], homogeneous, maps (x, y, 1)
Points = NDArray[np.float64]  # [..., 2], (x, y); the centre of the first pixel is (0, 0)
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sample:
    """One film and what its readers marked: R readers, K landmarks, coordinates in film pixels.

    `points` [R, K, 2] are NaN where `valid` [R, K] is False; `size` is (H, W) of the film; `group` joins
    films that are no independent evidence (one patient, a repeated film); `spacing_source` says where `mm_per_px`
    is from.
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


@dataclass(frozen=True, eq=False)
class Batch:
    """What a training step sees, on the device: B films, K landmarks, coordinates in network pixels.

    `image` [B, 1, H, W] float in 0..1; `points` [B, K, 2]; `valid` [B, K] bool; `index` [B] into the
    training samples; `mm_per_px` [B] of a network pixel; `epoch` counts from 0; `step` counts optimiser steps.
    """

    image: torch.Tensor
    points: torch.Tensor
    valid: torch.Tensor
    index: torch.Tensor
    mm_per_px: torch.Tensor
    epoch: int
    step: int
