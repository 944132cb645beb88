"""The network of `zoom`: windows of a film to a map for each landmark, with the mean of its weights; what maps say."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from ceph.plugin import landmark_network

STRIDE = 2  # window pixels of a map pixel
LEVELS = 4  # of the backbone's strides: a window needs no coarser ones
ABOUT_MM = 5.0  # side of the square by whose mean and spread a grey value is normalised
FREEDOM = 4  # degrees of freedom of Student's t, by which the first pass errs


class SecondLook(nn.Module):
    """Grey windows [N, px, px] in 0..1, `mm` wide -> raw maps [N, K, px / 2, px / 2], and the mean of its weights."""

    steps: torch.Tensor
    spread_mm: torch.Tensor

    def __init__(self, backbone: str, landmarks: int, width: int, px_per_mm: float, spread_mm: float) -> None:
        super().__init__()
        self.net = landmark_network(backbone, landmarks, stride=STRIDE, width=width, channels=3, levels=LEVELS)
        self.average = copy.deepcopy(self.net).requires_grad_(requires_grad=False)
        self.about = 2 * round(ABOUT_MM * px_per_mm / 2) + 1
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("spread_mm", torch.full((landmarks,), spread_mm))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Raw maps; in evaluation those of the averaged weights."""
        net = self.net if self.training else self.average
        maps: torch.Tensor = net(views_of(windows, self.about))
        return maps.to(torch.float32, memory_format=torch.contiguous_format)

    @torch.no_grad()
    def begin(self, backbone: nn.Module) -> None:
        """Start with the weights of `backbone`, for grey films, where the layers are the same."""
        theirs = backbone.state_dict()
        for net in (self.net, self.average):
            for name, own in net.backbone.state_dict().items():
                if name in theirs and (new := theirs[name]).ndim == own.ndim:
                    grey = new.shape[1:2] == (1,) and own.shape[1:2] == (3,)
                    if grey or new.shape == own.shape:
                        own.copy_(new.expand_as(own) / 3 if grey else new)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average towards the weights; the share that stays grows up to `decay`. Nothing is waited for."""
        share = torch.clamp(9 / (10 + self.steps), min=1 - decay)  # 1 - (1 + n) / (10 + n)
        pairs = zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True)
        for mean, now in pairs:
            if mean.is_floating_point():
                mean.lerp_(now, share.to(mean))
        self.steps += 1


def views_of(windows: torch.Tensor, about: int) -> torch.Tensor:
    """Windows [N, px, px] as [N, 3, px, px] in 0..1: grey, normalised in squares of `about` px, and equalised."""
    grey = windows[:, None]
    mean, square = (F.avg_pool2d(x, about, 1, about // 2, count_include_pad=False) for x in (grey, grey.square()))
    local = (grey - mean) / (square - mean.square()).clamp_min(1e-4).sqrt()
    flat = windows.flatten(1).contiguous()
    rank = torch.searchsorted(flat.sort(1).values, flat, right=True).view_as(grey) / flat.shape[1]
    return torch.cat([grey, (0.5 + local / 6).clamp(0, 1), rank.to(grey)], dim=1)


def log_prior(side: int, mm: float, spread_mm: torch.Tensor) -> torch.Tensor:
    """The logarithm of Student's t in the plane, [K, side, side], about the middle of maps whose pixel is `mm` wide."""
    square = ((torch.arange(side, device=spread_mm.device) - (side - 1) / 2) * mm).square()
    far = (square[:, None] + square) / (FREEDOM * spread_mm.square()[:, None, None])
    return -(FREEDOM + 2) / 2 * far.log1p()


def mass_near(raw: torch.Tensor, points: torch.Tensor, radius: float) -> torch.Tensor:
    """The share [B, K] of raw maps [B, K, h, w] in the square within `radius` of points [B, K, 2], window px."""
    maps = raw.flatten(2).softmax(-1).view_as(raw)
    near = [
        ((torch.arange(side, device=raw.device) + 0.5) * STRIDE - 0.5 - points[..., axis, None]).abs() <= radius
        for axis, side in enumerate(raw.shape[:-3:-1])
    ]
    return torch.einsum("bkhw,bkh,bkw->bk", maps, near[1].to(maps), near[0].to(maps))
