"""Add up anti-aliased shapes as X-ray densities, and expose them to a film."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.synthetic.head import Points

Plane = NDArray[np.float32]

# Shapes are rasterised this many times finer and averaged down, so that an edge lies within 0.1 px of its curve.
OVERSAMPLING = 4
_SHIFT = 4  # fractional bits of the coordinates that OpenCV takes


@dataclass(frozen=True)
class Exposure:
    """How a machine turns density into grey: gain, gamma, noise (of full scale), and the blurs in mm of the film."""

    gain: float
    gamma: float
    noise: float
    blur_mm: float
    background: float
    falloff: float


class Canvas:
    """A film [H, W] on which densities add up; shapes are given in film px, thicknesses in mm."""

    def __init__(self, height: int, width: int, mm_per_px: float) -> None:
        self.density: Plane = np.zeros((height, width), np.float32)
        self.mm_per_px = mm_per_px

    def fill(
        self, outline: Points, density: float, *, rim: float = 0.0, rim_mm: float = 1.5, soft_mm: float = 0.0
    ) -> None:
        """Add `density` inside `outline` [N, 2], and `rim` more along the inner side of its edge.

        The rim fades inwards over about `rim_mm`, as the cortex of a bone seen edge-on does; a negative one thins the
        edge, as skin does. `soft_mm` blurs the outline itself.
        """
        sigma = rim_mm / self.mm_per_px if rim else 0.0
        placed = self._rasterise(outline, None, sigma + soft_mm / self.mm_per_px)
        if placed is None:
            return
        rows, columns, mask = placed
        if soft_mm:
            mask = _blur(mask, soft_mm / self.mm_per_px)
        layer = density * mask
        if rim:
            layer += (2 * rim) * mask * (1 - _blur(mask, sigma))
        self.density[rows, columns] += layer

    def stroke(self, curve: Points, density: float, *, width_mm: float, soft_mm: float = 0.0) -> None:
        """Add `density` along `curve` [N, 2], whose middle it follows."""
        width_px = width_mm / self.mm_per_px
        placed = self._rasterise(curve, width_px, width_px + soft_mm / self.mm_per_px)
        if placed is None:
            return
        rows, columns, mask = placed
        if soft_mm:
            mask = _blur(mask, soft_mm / self.mm_per_px)
        self.density[rows, columns] += density * mask

    def texture(self, rng: np.random.Generator, grain_mm: float, strength: float) -> None:
        """Multiply all density by a random field of mean 1 whose grains measure about `grain_mm`."""
        height, width = self.density.shape
        step = grain_mm / self.mm_per_px
        coarse = rng.standard_normal((int(height / step) + 4, int(width / step) + 4), dtype=np.float32)
        field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        self.density *= 1 + np.float32(strength) * np.asarray(field, np.float32)

    def shade(self, place: Points, radius_mm: float, factor: float) -> None:
        """Multiply all density by `factor` at `place` [2] in film px, and by less of it farther off (a Gaussian)."""
        height, width = self.density.shape
        x, y = ((np.arange(n) - at) * self.mm_per_px / radius_mm for n, at in zip((width, height), place, strict=True))
        bell = np.exp(-0.5 * y[:, None] ** 2) * np.exp(-0.5 * x[None] ** 2)
        self.density *= (1 + (factor - 1) * bell).astype(np.float32)

    def expose(self, rng: np.random.Generator, exposure: Exposure) -> NDArray[np.uint8]:
        """The developed film [H, W]: brighter where denser, blurred, grainy."""
        height, width = self.density.shape
        density = _blur(np.maximum(self.density, 0), exposure.blur_mm / self.mm_per_px)
        # The beam is weaker towards one end (the heel effect), which leaves a gradient over the whole film.
        angle = rng.uniform(0, 2 * np.pi)
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
        density += np.float32(exposure.background) * (1 + np.float32(exposure.falloff) * (x + y))
        grey = 1 - np.exp(-np.float32(exposure.gain) * np.maximum(density, 0))
        np.power(grey, np.float32(exposure.gamma), out=grey)
        noise = rng.standard_normal((height, width), dtype=np.float32)
        noise = 0.5 * noise + 0.9 * _blur(noise, 0.6)
        # Fewer photons pass where it is bright, so the grain is coarser there.
        grey += np.float32(exposure.noise) * (0.5 + grey) * noise
        film: NDArray[np.uint8] = np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)
        return film

    def _rasterise(self, curve: Points, width_px: float | None, margin: float) -> tuple[slice, slice, Plane] | None:
        """Coverage 0..1 of a filled outline, or of a line of `width_px`, in the rectangle around it on the film."""
        pad = 3 * margin + 2
        low = np.floor(curve.min(axis=0) - pad).astype(int)
        high = np.ceil(curve.max(axis=0) + pad).astype(int) + 1
        height, width = self.density.shape
        left, top = max(int(low[0]), 0), max(int(low[1]), 0)
        right, bottom = min(int(high[0]), width), min(int(high[1]), height)
        if right <= left or bottom <= top:
            return None
        fine = np.zeros(((bottom - top) * OVERSAMPLING, (right - left) * OVERSAMPLING), np.uint8)
        scaled = (curve - (left, top) + 0.5) * OVERSAMPLING - 0.5
        vertices = np.rint(scaled * 2**_SHIFT).astype(np.int32)
        if width_px is None:
            cv2.fillPoly(fine, [vertices], 255, shift=_SHIFT)
        else:
            thickness = max(1, round(width_px * OVERSAMPLING))
            cv2.polylines(fine, [vertices], isClosed=False, color=255, thickness=thickness, shift=_SHIFT)
        coarse = cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        return slice(top, bottom), slice(left, right), coarse.astype(np.float32) / np.float32(255)


def _blur(plane: Plane, sigma_px: float) -> Plane:
    if sigma_px < 0.1:
        return plane
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE), np.float32)
