"""From films to points in film pixels: batches through the network, activations averaged over scales, decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields

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
    films: Iterable[Sequence[Item]],
    codec: Codec,
    activations: Activations,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    *,
    sums_to_one: bool = False,
) -> Prediction:
    """Find the landmarks of films, in order; the model is left in the mode it came in.

    Each element of `films` is one batch, loaded once for each scale; the first is the frame in which the averaged
    activations are decoded. A batch is loaded while the one before it is computed, and nothing waits for the device
    until all are launched.
    """
    was_training = model.training
    model.eval()
    frames: list[Item] = []
    decoded: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.inference_mode():
        for items in ahead(films):
            maps = []
            for item in items:
                image = to_batch(item, device).image
                with autocast():
                    maps.append(activations(model, image).float())
            size = (items[0].image.shape[-2], items[0].image.shape[-1])
            decoded.append(codec.decode(averaged(maps, items, sums_to_one=sums_to_one), size))
            frames.append(items[0]._replace(image=items[0].image[:0]))
    model.train(was_training)
    parts = [_on_film(frame, points, scores) for frame, (points, scores) in zip(frames, decoded, strict=True)]
    points_px, score, truth_px, known, mm_per_px = (np.concatenate(column) for column in zip(*parts, strict=True))
    errors = radial_errors_mm(points_px, truth_px, known, mm_per_px)
    return Prediction(points_px, score, truth_px, known, errors)


def ahead(films: Iterable[Sequence[Item]]) -> Iterator[Sequence[Item]]:
    """The same batches, each loaded by a thread while the one before it is in use."""
    rest = iter(films)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, rest, None)
        while (items := coming.result()) is not None:
            coming = thread.submit(next, rest, None)
            yield items


def _on_film(
    frame: Item, points: torch.Tensor, scores: torch.Tensor
) -> tuple[Points, NDArray[np.float64], Points, Flags, NDArray[np.float64]]:
    """A batch's points, scores, truth and valid flags [B, K, ...] in film px, and mm of a film pixel [B]."""
    to_network, found = frame.film_to_network.numpy(), points.double().cpu().numpy()
    truth = frame.points.double().numpy()
    zoom = np.sqrt(np.abs(np.linalg.det(to_network[:, :2, :2])))
    return (
        np.stack([film_points(p, m) for p, m in zip(found, to_network, strict=True)]),
        scores.double().cpu().numpy(),
        np.stack([film_points(p, m) for p, m in zip(truth, to_network, strict=True)]),
        frame.valid.numpy(),
        frame.mm_per_px.double().numpy() * zoom,
    )


def joined(parts: Sequence[Prediction]) -> Prediction:
    """The predictions of consecutive films, one after the other."""
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in fields(Prediction)]
    return Prediction(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def averaged(maps: Sequence[torch.Tensor], items: Sequence[Item], *, sums_to_one: bool) -> torch.Tensor:
    """The mean [B, K, h, w] of the activations of the same films at several scales, in the frame of the first.

    Each film's maps are laid on the first's by the affine between their two letterboxes, so sizes need not be multiples
    of anything. Distributions (`sums_to_one`) are normalised after that.
    """
    total = maps[0]
    for other, item in zip(maps[1:], items[1:], strict=True):
        total = total + laid_on(maps[0], items[0], other, item, sums_to_one=sums_to_one)
    return total / len(maps) if len(maps) > 1 else total


def laid_on(base: torch.Tensor, base_item: Item, maps: torch.Tensor, item: Item, *, sums_to_one: bool) -> torch.Tensor:
    """`maps` [B, K, h', w'] resampled to the size and frame of `base` [B, K, h, w]; zero outside of the image."""
    to_maps = to_unit(maps, item) @ item.film_to_network
    to_base = to_unit(base, base_item) @ base_item.film_to_network
    between = (to_maps @ torch.linalg.inv(to_base))[:, :2].to(maps)
    grid = F.affine_grid(between, [len(base), 1, *base.shape[-2:]], align_corners=False)
    moved = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if sums_to_one:
        moved = moved / moved.flatten(2).sum(-1)[..., None, None].clamp_min(1e-12)
    return moved


def to_unit(maps: torch.Tensor, item: Item) -> torch.Tensor:
    """Network px to the frame of `grid_sample`, in which a map's outer edges are -1 and 1: [3, 3], float64."""
    stride = round(item.image.shape[-1] / maps.shape[-1])
    x, y = (2 / (stride * side) for side in (maps.shape[-1], maps.shape[-2]))
    return torch.tensor([[x, 0, x / 2 - 1], [0, y, y / 2 - 1], [0, 0, 1]], dtype=torch.float64)
