"""Random changes of geometry: what a warp is, and the core's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.geometry import similarity
from ceph.data.types import Matrix


class Warp:
    """A random change of geometry, drawn anew for every film; override one of the two methods."""

    def matrix(self, rng: np.random.Generator, size: tuple[int, int]) -> Matrix | None:
        """A map [3, 3] of network px -> network px in an image of `size` (H, W)."""
        del rng, size
        return None

    def displacement(self, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[Any] | None:
        """A smooth field [H, W, 2] in network px: output pixel q is sampled at q + field[q]."""
        del rng, size
        return None


class DefaultWarp(Warp):
    """A similarity: rotation, scaling and shift, each uniform in its range. No flips: a lateral film has a side."""

    def __init__(self, rotate_deg: float = 12.0, scale: float = 0.15, shift: float = 0.08) -> None:
        self.rotate_deg, self.scale, self.shift = rotate_deg, scale, shift

    def matrix(self, rng: np.random.Generator, size: tuple[int, int]) -> Matrix:
        """Rotate by up to `rotate_deg`, scale by 1 +- `scale`, shift by up to `shift` of the size."""
        turn, zoom, x, y = rng.uniform(-1, 1, 4)
        moved = (x * self.shift * size[1], y * self.shift * size[0])
        return similarity(turn * self.rotate_deg, 1 + zoom * self.scale, moved, size)
