"""Where the film puts each landmark: regression from the gradients around a first guess to the way that is left.

One step of the supervised descent method (Xiong and De la Torre 2013), cross-validated over the films of the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.check.looks import FINE_MM, Look
from ceph.data.types import Flags, Points
from ceph.threads import in_threads

Features = NDArray[np.float32]

DIRECTIONS = 8
FOLDS = 5
RIDGES = (10.0, 100.0, 1000.0)
DRAWS = 4  # places around the first guess at which each film teaches; the first is the guess itself


class Window(NamedTuple):
    """What is looked at around a point: `cells` x `cells` cells of `cell_mm`; guesses are off by about `reach_mm`."""

    cells: int
    cell_mm: float
    reach_mm: float


COARSE, FINE = Window(8, 5.0, 3.0), Window(8, 3.0, 1.5)


def refine(
    guess: Points,
    target: Points,
    trusted: Flags,
    looks: Sequence[Look | None],
    folds: NDArray[np.int64],
    window: Window,
) -> Points:
    """Move each guess [N, K, 2] to where films like it have the landmark; all in mm, film by film never from itself.

    `target` [N, K, 2] teaches where `trusted` [N, K]; `folds` [N] in 0 .. FOLDS - 1 says which films are left out
    together. A guess stays where a film could not be opened, and for landmarks of which films tell nothing.
    """
    seen = np.array([look is not None for look in looks])
    if not seen.any():
        return guess
    N, K = trusted.shape
    rng = np.random.default_rng(0)
    jitter = rng.normal(0, window.reach_mm, (N, DRAWS, K, 2))
    jitter[:, 0] = 0
    places = guess[:, None] + jitter
    features = np.zeros((N, DRAWS, K, window.cells**2 * DIRECTIONS), np.float32)

    def fill(film: int) -> None:
        look = looks[film]
        if look is not None:
            flat = describe(look, places[film].reshape(-1, 2), window)
            features[film] = flat.reshape(DRAWS, K, -1)

    in_threads(fill, range(N))
    ways = target[:, None] - places
    moved = guess.copy()
    for k in range(K):
        teaches = seen & trusted[:, k]
        moved[seen, k] += _learned(features[:, :, k], ways[:, :, k], teaches, folds)[seen]
    return moved


def describe(look: Look, points_mm: Points, window: Window) -> Features:
    """Gradients around points [P, 2] in mm, pooled in cells, relative to the contrast there: [P, cells * cells * 8]."""
    pad = window.cells  # grid steps around the film
    grey = cv2.GaussianBlur(look.image.astype(np.float32), (0, 0), 1.0)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1), cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1)
    step = max(round(window.cell_mm / 2 / FINE_MM), 1)  # two grid steps a cell
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    size = (max(grey.shape[1] // step, 1), max(grey.shape[0] // step, 1))
    maps = np.empty((size[1], size[0], DIRECTIONS), np.float32)
    for index, angle in enumerate(angles):
        along = np.maximum(gx * np.float32(np.cos(angle)) + gy * np.float32(np.sin(angle)), 0)
        maps[..., index] = cv2.GaussianBlur(cv2.resize(along, size, interpolation=cv2.INTER_AREA), (0, 0), 0.8)
    contrast = cv2.GaussianBlur(np.sqrt(np.square(maps).sum(axis=-1)), (0, 0), 16.0 / window.cell_mm)
    maps /= contrast[..., None] + 1
    maps = np.pad(maps, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    offsets = (np.arange(window.cells) - (window.cells - 1) / 2) * window.cell_mm
    oy, ox = np.meshgrid(offsets, offsets, indexing="ij")
    around = points_mm[:, None] + np.stack([ox.ravel(), oy.ravel()], axis=-1)
    scale = np.array([size[0] / grey.shape[1], size[1] / grey.shape[0]])
    at = ((look.pixels(around) + 0.5) * scale - 0.5 + pad).astype(np.float32)
    cells: Features = cv2.remap(maps, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cells.reshape(len(points_mm), -1)


def _learned(features: Features, ways: Points, teaches: Flags, folds: NDArray[np.int64]) -> Points:
    """The way [N, 2] from the first draw of each film, learned on the draws [N, D, F] of films in other folds.

    The ridge is the one that serves the teaching films best; where none beats staying, the way is 0.
    """
    N, _, F = features.shape
    sums = [_sums(features[chosen], ways[chosen]) for f in range(FOLDS) for chosen in [teaches & (folds == f)]]
    found = np.zeros((len(RIDGES), N, 2))
    for fold in range(FOLDS):
        count, x, y, xx, xy = (sum(s[i] for f, s in enumerate(sums) if f != fold) for i in range(5))
        inside = folds == fold
        if count < 2 or not inside.any():
            continue
        middle, lead = x / count, y / count
        square, product = xx - np.outer(x, middle), xy - np.outer(x, lead)
        for index, ridge in enumerate(RIDGES):
            solved = np.linalg.solve(square + ridge * np.eye(F), product)
            found[index, inside] = (features[inside, 0] - middle) @ solved + lead
    tried = [np.zeros((N, 2)), *found]
    errors = [float(np.mean(np.linalg.norm((ways[:, 0] - t)[teaches], axis=1))) if teaches.any() else 0 for t in tried]
    best: Points = tried[int(np.argmin(errors))]
    return best


def _sums(features: Features, ways: Points) -> tuple[int, Any, Any, Any, Any]:
    """What a linear regression needs of some films: their number, sums and products."""
    x = features.reshape(-1, features.shape[-1])
    y = ways.reshape(-1, 2)
    return len(x), x.sum(axis=0), y.sum(axis=0), x.T @ x, x.T @ y
