"""From films to points in film pixels: batches through the network, activations averaged over scales, decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ceph.data.dataset import Item, film_points, to_batch
from ceph.data.types import Flags, Points
from ceph.evaluation.metrics import radial_errors_mm
from ceph.model.codec import Codec

Activations = Callable[[nn.Module, torch.Tensor], torch.Tensor]  # (model, images [B,1,H,W]) -> [B,K,h,w]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Points and truth [N, K, 2] in film px, scores [N, K], valid [N, K], errors [N, K] in mm (NaN: no truth)."""

    points_px: Points
    scores: NDArray[np.float64]
    truth_px: Points
    valid: Flags
    errors_mm: NDArray[np.float64]


def predict(
    model: nn.Module,
    items: Iterable[Item],
    codec: Codec,
    activations: Activations,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    scales: Sequence[float] = (1.0,),
    *,
    sums_to_one: bool = False,
) -> Prediction:
    """Find the landmarks of every film of `items`, in order; the model is left in the mode it came in."""
    was_training = model.training
    model.eval()
    found: list[tuple[Points, NDArray[np.float64], Points, Flags, NDArray[np.float64]]] = []
    with torch.inference_mode():
        for item in items:
            batch = to_batch(item, device)
            with autocast():
                maps = averaged(model, batch.image, activations, scales, sums_to_one=sums_to_one)
            size = (batch.image.shape[-2], batch.image.shape[-1])
            points, scores = codec.decode(maps.float(), size)
            valid = item.valid.numpy()
            for b in range(len(item.film)):
                to_network = item.film_to_network[b].numpy()
                zoom = np.sqrt(abs(np.linalg.det(to_network[:2, :2])))
                found.append(
                    (
                        film_points(points[b].double().cpu().numpy(), to_network),
                        scores[b].double().cpu().numpy(),
                        film_points(item.points[b].double().numpy(), to_network),
                        valid[b],
                        item.mm_per_px[b].double().numpy() * zoom,
                    )
                )
    model.train(was_training)
    points_px, score, truth_px, known, mm_per_px = (np.stack(column) for column in zip(*found, strict=True))
    errors = radial_errors_mm(points_px, truth_px, known, mm_per_px)
    return Prediction(points_px, score, truth_px, known, errors)


def averaged(
    model: nn.Module, image: torch.Tensor, activations: Activations, scales: Sequence[float], *, sums_to_one: bool
) -> torch.Tensor:
    """Activations [B, K, h, w] of images [B, 1, H, W], averaged over resized copies of them."""
    if tuple(scales) == (1.0,):
        return activations(model, image)
    height, width = image.shape[-2:]
    total: torch.Tensor | None = None
    for scale in scales:
        size = (round(height * scale), round(width * scale))
        resized = image if scale == 1 else F.interpolate(image, size=size, mode="bilinear", antialias=scale < 1)
        maps = activations(model, resized).float()
        if total is not None:
            base = (total.shape[-2], total.shape[-1])
        else:
            base = (round(maps.shape[-2] * height / size[0]), round(maps.shape[-1] * width / size[1]))
        if maps.shape[-2:] != base:
            maps = F.interpolate(maps, size=base, mode="bilinear", align_corners=False)
        if sums_to_one:
            maps = maps / maps.flatten(2).sum(-1)[..., None, None].clamp_min(1e-12)
        total = maps if total is None else total + maps
    assert total is not None  # noqa: S101 - the config asks for at least one scale
    return total / len(scales)
