"""Points to maps, for training, and back: the core's targets, and the decoder that reads what they draw.

Legend: B films, K landmarks, H x W network pixels, h x w map pixels. A network point q stands at
(q + 0.5) / stride - 0.5 on the map. `kind` is `distribution` (a map sums to 1; softmax activates) or `heatmap` (its
peak is 1; sigmoid activates).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F

from ceph.data.types import Batch

DECODERS = ("argmax", "dark", "local-soft-argmax")
SUB_PIXEL = ("dark", "local-soft-argmax")


class Targets(Protocol):
    """What `build_targets` answers."""

    def encode(self, batch: Batch, map_size: tuple[int, int]) -> torch.Tensor:
        """The batch's points [B, K, 2] in network px -> target maps [B, K, h, w], fp32."""
        ...


class GaussianTargets:
    """Gaussians of `sigma_px` map pixels about the points of a batch."""

    def __init__(self, kind: str, sigma_px: float, stride: int) -> None:
        self.kind, self.sigma_px, self.stride = kind, sigma_px, stride

    def encode(self, batch: Batch, map_size: tuple[int, int]) -> torch.Tensor:
        """The batch's points [B, K, 2] in network px -> target maps [B, K, h, w], fp32."""
        return gaussians(batch.points, map_size, self.kind, self.sigma_px, self.stride)


def gaussians(points: torch.Tensor, map_size: tuple[int, int], kind: str, sigma_px: float, stride: int) -> torch.Tensor:
    """Maps [B, K, h, w], fp32, of points [B, K, 2] in network px, rendered separably; `sigma_px` is in map px."""
    on_map = (points.float() + 0.5) / stride - 0.5
    x, y = _bell(on_map[..., 0], map_size[1], sigma_px), _bell(on_map[..., 1], map_size[0], sigma_px)
    if kind == "distribution":
        # A point far outside leaves only zeros; the floor keeps its (invalid) target finite.
        x, y = (axis / axis.sum(-1, keepdim=True).clamp_min(1e-12) for axis in (x, y))
    return y[..., :, None] * x[..., None, :]


class GaussianDecoder:
    """Points of maps that are drawn as `gaussians` draws them, to a fraction of a map pixel; `name` of DECODERS."""

    def __init__(self, kind: str, sigma_px: float, stride: int, name: str) -> None:
        self.kind, self.sigma_px, self.stride, self.name = kind, sigma_px, stride, name
        self.radius = math.ceil(3.5 * sigma_px)

    def decode(self, maps: torch.Tensor, image_size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations [B, K, h, w] -> points [B, K, 2] in network px and scores [B, K].

        The score of a distribution is the mass within `radius` of the peak, that of a heatmap its peak.
        """
        del image_size
        maps = maps.float()
        peak = _peak(maps)
        if self.name == "argmax":
            on_map = peak.to(maps.dtype)
        elif self.name == "dark":
            on_map = dark(maps, peak, self.sigma_px)
        else:
            on_map = local_soft_argmax(maps, peak, self.radius)
            # A window cut by the map's edge is lopsided and pulls the mean inward: there the parabola decides.
            whole = _within(peak, maps, self.radius)[..., None]
            on_map = torch.where(whole, on_map, dark(maps, peak, self.sigma_px))
        if self.kind == "distribution":
            score = _window(maps, peak, self.radius)[0].sum((-2, -1)).clamp(0, 1)
        else:
            score = _window(maps, peak, 0)[0][..., 0, 0]
        return (on_map + 0.5) * self.stride - 0.5, score


def float_maps(pred: torch.Tensor) -> torch.Tensor:
    """Maps [B, K, h, w] in fp32, each map in one piece: of a network in channels_last, `flatten(2)` is a slow copy."""
    return pred.to(torch.float32, memory_format=torch.contiguous_format)


def activate(pred: torch.Tensor, kind: str) -> torch.Tensor:
    """Raw maps [B, K, h, w] -> activations, fp32: softmax over each map, or sigmoid."""
    pred = float_maps(pred)
    if kind == "distribution":
        return pred.flatten(2).softmax(-1).view_as(pred)
    return pred.sigmoid()


def soft_points(pred: torch.Tensor, kind: str, image_size: tuple[int, int], radius: int = 6) -> torch.Tensor:
    """Differentiable points [B, K, 2] in network px from raw maps [B, K, h, w]: local soft-argmax about the peak."""
    peak = _peak(pred)
    window, x, y = _window(pred, peak, radius, outside=-math.inf)
    if kind == "distribution":
        mass = window.flatten(2).softmax(-1).view_as(window)  # the same as the softmax of the map, normalised here
    else:
        mass = window.sigmoid()
        mass = mass / mass.sum((-2, -1), keepdim=True).clamp_min(1e-12)
    on_map = torch.stack([(mass.sum(-2) * x).sum(-1), (mass.sum(-1) * y).sum(-1)], -1)
    stride = round(image_size[1] / pred.shape[-1])
    return (on_map + 0.5) * stride - 0.5


def local_soft_argmax(maps: torch.Tensor, peak: torch.Tensor, radius: int) -> torch.Tensor:
    """The centre of mass [B, K, 2] of each map within a square window about `peak` [B, K, 2], in map px."""
    window, x, y = _window(maps, peak, radius)
    total = window.sum((-2, -1)).clamp_min(1e-12)
    return torch.stack([(window.sum(-2) * x).sum(-1) / total, (window.sum(-1) * y).sum(-1) / total], -1)


def dark(maps: torch.Tensor, peak: torch.Tensor, sigma_px: float) -> torch.Tensor:
    """Distribution-aware decoding (Zhang et al. 2020): smooth, take the logarithm, step to the parabola's top.

    Maps [B, K, h, w], peak [B, K, 2] -> [B, K, 2] in map px. The smoothing (a Gaussian of half the target's sigma) is
    left out near the edge, where it would be lopsided; the stencil is moved inside, which is exact for a Gaussian.
    """
    reach = max(1, math.ceil(1.5 * sigma_px))
    centre = torch.stack([at.clamp(1, side - 2) for at, side in _by_axis(peak, maps)], -1)
    size = 1 + reach
    raw = _window(maps, centre, size)[0]  # [B, K, 2 size + 1, 2 size + 1]
    kernel = _bell(torch.full((), float(reach), device=maps.device), 2 * reach + 1, sigma_px / 2)
    kernel = kernel / kernel.sum()
    # Only the nine pixels of the stencil are needed: kernels shifted by -1, 0 and 1, as a matrix [3, 2 size + 1].
    shifted = torch.stack([F.pad(kernel, (i, 2 - i)) for i in range(3)])
    smooth = shifted @ raw @ shifted.T
    inside = _within(centre, maps, size)[..., None, None]
    stencil = torch.where(inside, smooth, raw[..., size - 1 : size + 2, size - 1 : size + 2])
    log = stencil.clamp_min(1e-20).log()
    dx, dy = (log[..., 1, 2] - log[..., 1, 0]) / 2, (log[..., 2, 1] - log[..., 0, 1]) / 2
    dxx = log[..., 1, 2] - 2 * log[..., 1, 1] + log[..., 1, 0]
    dyy = log[..., 2, 1] - 2 * log[..., 1, 1] + log[..., 0, 1]
    dxy = (log[..., 2, 2] - log[..., 2, 0] - log[..., 0, 2] + log[..., 0, 0]) / 4
    determinant = dxx * dyy - dxy * dxy
    top = (dxx < 0) & (determinant > 1e-12)
    safe = torch.where(top, determinant, torch.ones_like(determinant))
    step = torch.stack([-(dyy * dx - dxy * dy) / safe, -(dxx * dy - dxy * dx) / safe], -1)
    step = torch.where(top[..., None], step, torch.zeros_like(step))
    # A true top lies within half a pixel of the peak; the rest is room for the smoothing.
    return torch.maximum(torch.minimum(centre + step, peak + 1.0), peak - 1.0)


def _bell(centre: torch.Tensor, length: int, sigma: float) -> torch.Tensor:
    """Gaussians [..., length] about `centre` [...]."""
    at = torch.arange(length, device=centre.device, dtype=torch.float32)
    return torch.exp(-((at - centre[..., None]) ** 2) / (2 * sigma**2))


def _peak(maps: torch.Tensor) -> torch.Tensor:
    """The largest pixel of each map [B, K, h, w], as (x, y) [B, K, 2], int64."""
    # Rows first: a maximum is a fifth of the cost of its place.
    y = maps.amax(-1).argmax(-1)
    first = torch.arange(y.numel(), device=y.device) * maps.shape[-2]
    row = maps.reshape(-1, maps.shape[-1]).index_select(0, first + y.flatten())
    return torch.stack([row.argmax(-1).view_as(y), y], -1)


def _by_axis(at: torch.Tensor, maps: torch.Tensor) -> Iterator[tuple[torch.Tensor, int]]:
    """The x and y [B, K] of places on the maps, each with the maps' pixels along it."""
    return zip(at.unbind(-1), maps.shape[:-3:-1], strict=True)


def _within(at: torch.Tensor, maps: torch.Tensor, margin: int) -> torch.Tensor:
    """Which places [B, K, 2] lie at least `margin` pixels from the maps' edges, [B, K]."""
    x, y = ((a >= margin) & (a <= side - 1 - margin) for a, side in _by_axis(at, maps))
    return x & y


def _window(
    maps: torch.Tensor, peak: torch.Tensor, radius: int, outside: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Windows [B, K, 2r+1, 2r+1] about `peak`, filled up outside the map, and their x and y [B, K, 2r+1]."""
    height, width = maps.shape[-2:]
    offset = torch.arange(-radius, radius + 1, device=maps.device)
    x, y = peak[..., :1] + offset, peak[..., 1:] + offset
    inside = ((y >= 0) & (y < height))[..., :, None] & ((x >= 0) & (x < width))[..., None, :]
    index = y.clamp(0, height - 1)[..., :, None] * width + x.clamp(0, width - 1)[..., None, :]
    values = maps.flatten(2).gather(2, index.flatten(2)).view_as(index)
    return values.masked_fill(~inside, outside), x.to(maps.dtype), y.to(maps.dtype)
