"""Find films that are the same film: byte for byte, or encoded, scaled, brightened or mirrored after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

COARSE = 64
SMOOTHING_PX = 3.0
# Measured on 278 films of one clinic: different films reach 0.82 coarse and 0.48 fine; a copy that is JPEG of quality
# 10, a quarter of the size, brighter or darker by 60 of 255, or noisy by 15 stays above 0.90 and 0.74.
COARSE_LEAST, FINE_LEAST = 0.75, 0.65
ROWS = 512  # rows of the table of all pairs that are held at a time


class Copy(NamedTuple):
    """Two films, by their places, that are one; `likeness` is the correlation of their fine structure, up to 1."""

    first: int
    second: int
    mirrored: bool
    likeness: float


def find_copies(thumbs: Sequence[NDArray[np.uint8] | None]) -> list[Copy]:
    """All pairs among `thumbs` (squares of one size, of whole films; None: unreadable) that show one film.

    A film is described by its structure: what differs from the surroundings, relative to how much the surroundings
    vary, so that brightness, contrast and inversion do not count. Pairs that are alike at 64 px are compared at full.
    """
    there = [place for place, thumb in enumerate(thumbs) if thumb is not None]
    squares = [thumb for thumb in thumbs if thumb is not None]
    if len(squares) < 2:
        return []
    coarse = np.stack([structure(cv2.resize(s, (COARSE, COARSE), interpolation=cv2.INTER_AREA)) for s in squares])
    found = []
    for mirrored in (False, True):
        seen = (coarse[:, :, ::-1] if mirrored else coarse).reshape(len(squares), -1)
        for a, b in _alike(coarse.reshape(len(squares), -1), seen):
            other = squares[b][:, ::-1] if mirrored else squares[b]
            likeness = abs(float(np.sum(structure(squares[a]) * structure(other))))
            if likeness >= FINE_LEAST:
                found.append(Copy(there[a], there[b], mirrored, likeness))
    return sorted(found)


def structure(square: NDArray[np.uint8]) -> Vectors:
    """The structure [n, n] of a grey square, of mean 0 and norm 1 (all 0 where it is flat)."""
    # The root evens out the noise of dark and bright parts; nothing hangs on its exact form.
    level = np.sqrt(square.astype(np.float32) + 4)
    detail = level - cv2.GaussianBlur(level, (0, 0), SMOOTHING_PX)
    detail /= np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), SMOOTHING_PX)) + 0.05
    detail -= detail.mean()
    unit: Vectors = detail / max(float(np.linalg.norm(detail)), 1e-6)
    return unit


def _alike(vectors: Vectors, others: Vectors) -> list[tuple[int, int]]:
    """The pairs (a, b), a < b, whose unit vectors correlate by COARSE_LEAST or more, in either sign."""
    pairs = []
    for start in range(0, len(vectors), ROWS):
        table = np.abs(vectors[start : start + ROWS] @ others.T)
        for a, b in np.argwhere(table >= COARSE_LEAST):
            if start + a < b:
                pairs.append((int(start + a), int(b)))
    return pairs
