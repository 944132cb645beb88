"""heavy-augmentation: stronger changes of geometry, grey values and visible parts, all moved by one strength."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ceph.plugin import Matrix, Plugin, PluginConfig, Warp, hookimpl, similarity

CELLS = 5  # cells of the elastic field along the longer side: deformations as long as a jaw, not as a tooth
GRID = 8  # px; the field is drawn on a grid this wide
SLOPE = 0.4  # greatest stretch of the elastic field: under 1 it folds nowhere and its inverse can be iterated


def tilt(x: float, y: float, size: tuple[int, int]) -> Matrix:
    """A perspective map [3, 3] in network px about the centre of (H, W); depth changes by x, y towards the sides."""
    height, width = size
    to_centre = np.array([[2 / width, 0, (1 - width) / width], [0, 2 / height, (1 - height) / height], [0, 0, 1.0]])
    return np.asarray(np.linalg.inv(to_centre) @ np.array([[1, 0, 0], [0, 1, 0], [x, y, 1.0]]) @ to_centre)


@lru_cache(maxsize=64)
def splines(samples: int, cell: float) -> NDArray[np.float32]:
    """Cubic B-splines with knots `cell` samples apart: the matrix [samples, knots] from control points to samples."""
    at = np.arange(samples) / cell + 1  # one knot before the first sample
    distance = np.abs(at[:, None] - np.arange(int(at[-1]) + 3))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def elastic_field(rng: np.random.Generator, size: tuple[int, int], amplitude_px: float) -> NDArray[np.float32]:
    """A smooth field [H, W, 2] in network px, of cubic B-splines with random control points (Rueckert et al. 1999).

    It is drawn on every `GRID`th pixel and is linear between. A field steeper than SLOPE is scaled down to it.
    """
    height, width = (max(2, round(side / GRID)) for side in size)
    cell = max(height, width) / CELLS
    down, along = splines(height, cell), splines(width, cell)
    control = rng.uniform(-amplitude_px, amplitude_px, (2, down.shape[1], along.shape[1])).astype(np.float32)
    field = down @ control @ along.T
    by_y, by_x = np.diff(field, axis=1) * (height / size[0]), np.diff(field, axis=2) * (width / size[1])
    # The greatest norm of the Jacobian, by parts: at least what any pixel has.
    steepest = float(np.sqrt((by_y**2).sum(axis=0).max() + (by_x**2).sum(axis=0).max()))
    field *= min(1.0, SLOPE / max(steepest, 1e-9))
    coarse = np.ascontiguousarray(field.transpose(1, 2, 0))
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


class Pose(Warp):
    """A film held differently: rotation, scaling, shift and perspective, each uniform in its range."""

    def __init__(self, rotate_deg: float, scale: float, shift: float, perspective: float) -> None:
        self.rotate_deg, self.scale, self.shift, self.perspective = rotate_deg, scale, shift, perspective

    def matrix(self, rng: np.random.Generator, size: tuple[int, int]) -> Matrix:
        """Draw network px -> network px; never a flip."""
        turn, zoom, right, down, x, y = rng.uniform(-1, 1, 6)
        moved = (right * self.shift * size[1], down * self.shift * size[0])
        pose = similarity(turn * self.rotate_deg, float(np.exp(zoom * self.scale)), moved, size)
        return np.asarray(pose @ tilt(x * self.perspective, y * self.perspective, size))


class Elastic(Warp):
    """A face of another shape: a smooth, invertible displacement; `amplitude` is a share of the longer side."""

    def __init__(self, amplitude: float) -> None:
        self.amplitude = amplitude

    def displacement(self, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[Any]:
        """Draw where each output pixel is sampled, in network px."""
        return elastic_field(rng, size, self.amplitude * max(size))


def photometric(amount: float) -> list[Any]:
    """Another exposure, another detector, another file: albumentations transforms of grey films, uint8."""
    if amount == 0:
        return []
    weaker = 100 / (1 + 0.5 * amount)  # gamma in percent, the same factor up and down
    # GaussNoise at half the size costs a quarter and has the grain of a real detector.
    noise = A.GaussNoise(std_range=(0, min(1.0, 0.05 * amount)), noise_scale_factor=0.5, p=1)
    speckle = A.MultiplicativeNoise((1 - min(0.9, 0.1 * amount), 1 + 0.1 * amount), elementwise=True, p=1)
    blur = A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 0.1 + amount), p=1)
    sharpen = A.Sharpen(alpha=(0, min(1.0, 0.3 * amount)), lightness=(1, 1), p=1)
    best = max(1, round(95 - 10 * min(amount, 2)))
    return [
        A.RandomGamma(gamma_limit=(weaker, 1e4 / weaker), p=0.5),
        A.RandomBrightnessContrast(min(1.0, 0.1 * amount), min(1.0, 0.2 * amount), p=0.5),
        A.CLAHE(clip_limit=(1, 1 + 2 * amount), p=0.2),
        A.OneOf([blur, sharpen], p=0.3),
        A.OneOf([noise, speckle], p=0.3),
        A.ImageCompression(quality_range=(max(1, round(95 - 30 * min(amount, 3))), best), p=0.2),
    ]


def occlusion(amount: float) -> list[Any]:
    """A few rectangles without information, black or noisy (DeVries & Taylor 2017, Cutout); the points stay."""
    if amount == 0:
        return []
    sides = (0.02, min(0.5, 0.02 + 0.08 * amount))
    holes = {"num_holes_range": (1, 4), "hole_height_range": sides, "hole_width_range": sides, "p": 1}
    return [A.OneOf([A.CoarseDropout(fill=0, **holes), A.CoarseDropout(fill="random_uniform", **holes)], p=0.4)]


class HeavyAugmentationConfig(PluginConfig):
    """Each range is at strength 1 and grows with it; they come on top of the core's own augmentation."""

    strength: float = Field(default=1.0, ge=0, le=4, description="moves everything; 0 changes nothing, 2 doubles")
    rotate_deg: float = Field(default=8.0, ge=0, le=45, description="rotation up to, degrees")
    scale: float = Field(default=0.1, ge=0, le=0.5, description="scaling up to a factor of exp(+-scale)")
    shift: float = Field(default=0.03, ge=0, le=0.25, description="shift up to, share of the image's sides")
    perspective: float = Field(default=0.04, ge=0, le=0.2, description="change of scale towards the sides up to")
    elastic: float = Field(default=0.015, ge=0, le=0.1, description="elastic deformation, share of the longer side")
    photometric: float = Field(default=1.0, ge=0, le=4, description="exposure, noise, blur, compression; 0: none")
    occlusion: float = Field(default=1.0, ge=0, le=4, description="rectangles without information; 0: none")


class HeavyAugmentation(Plugin[HeavyAugmentationConfig]):
    """Stronger warps, photometric changes and occlusion, all moved by one `strength`; never a flip."""

    @hookimpl
    def warps(self) -> list[Warp]:
        """Give the pose [3, 3] and the elastic field [H, W, 2], in network px; nothing at strength 0."""
        c = self.config
        s = c.strength
        pose = (s * c.rotate_deg, s * c.scale, s * c.shift, min(0.4, s * c.perspective))
        found: list[Warp] = [Pose(*pose)] if any(pose) else []
        return [*found, Elastic(s * c.elastic)] if s * c.elastic else found

    @hookimpl
    def augmentations(self, stage: str) -> list[Any]:
        """Give the transforms of a stage, for grey films uint8 [H, W]; nothing at strength 0."""
        c = self.config
        if stage == "photometric":
            return photometric(c.strength * c.photometric)
        return occlusion(c.strength * c.occlusion) if stage == "occlusion" else []
