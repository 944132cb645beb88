"""How far a map's mass lies from the point that was taken from it: what a film says of how sure a point is."""

from __future__ import annotations

import torch

FLOOR = 0.1  # of a map's peak; what is lower, over a whole film, would outweigh the peak


def spread_of(maps: torch.Tensor, points: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """The root mean square distance [B, K] in network px of the mass of maps [B, K, h, w] from points [B, K, 2].

    `maps` are a mean of activations, `points` in network px the answer after all stations but `adapt`, whose offsets
    are no doubt: so a wide peak, a second peak, runs or scales that disagree, and a point that was moved away from its
    peak all make it larger.
    """
    (height, width), stride = maps.shape[-2:], image_size[1] / maps.shape[-1]
    mass = (maps.float() - FLOOR * maps.amax((-2, -1), keepdim=True)).clamp_min(0)
    mass = mass / mass.sum((-2, -1), keepdim=True).clamp_min(1e-12)
    square = torch.zeros_like(points[..., 0])
    for axis, (count, other) in enumerate(((width, -2), (height, -1))):
        at = (torch.arange(count, device=maps.device) + 0.5) * stride - 0.5
        square = square + (mass.sum(other) * (at - points[..., axis : axis + 1]) ** 2).sum(-1)
    return square.sqrt()
