"""From a plan's entry to a network image and its points: cache, one resampling, pixel changes; batches of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ceph.data.cache import FilmCache, pyramid_level
from ceph.data.geometry import (
    Field,
    displace,
    inverse,
    letterbox,
    letterbox_scale,
    local_scale,
    resample,
    resize,
    transform,
)
from ceph.data.look import windows
from ceph.data.plan import Entry, derive
from ceph.data.types import Batch, Draw, Flags, Matrix, Points, Sample

if TYPE_CHECKING:
    from ceph.data.augment import Augmentation


# (sample, the entry's seed) -> points [K, 2] in film px, valid [K], and perhaps reader [K], -1 where it is a mean
Truth = Callable[[Sample, int], tuple[Any, ...]]
Look = Callable[[Points, float, int], NDArray[np.float32]]  # (centre [..., 2] in film px, mm, px) -> [..., px, px]
# (sample, (points, valid), look, the entry's seed) -> what travels with the film
Extras = Callable[[Sample, tuple[Points, Flags], Look, int], Mapping[str, torch.Tensor]]
State = Mapping[str, Any]  # of the plugins that are asked for each film, by plugin, as an epoch finds it


class Drawn(NamedTuple):
    """One draw of a film, or, collated, of B: image uint8 [(B), H, W], points [(B), K, 2] in network px, ..."""

    image: torch.Tensor
    points: torch.Tensor
    valid: torch.Tensor
    film_to_network: torch.Tensor


class Item(NamedTuple):
    """One loaded film, or, collated, B of them.

    image uint8 [(B), H, W]; points [(B), K, 2] in network px; valid [(B), K]; film [(B)], its place in the samples;
    -1 where it is unmarked; mm_per_px [(B)] of a network pixel; film_to_network [(B), 3, 3]; reader [(B), K]; what
    plugins asked for, by name.
    """

    image: torch.Tensor
    points: torch.Tensor
    valid: torch.Tensor
    film: torch.Tensor
    mm_per_px: torch.Tensor
    film_to_network: torch.Tensor
    reader: torch.Tensor
    extras: Mapping[str, torch.Tensor]
    draws: Mapping[str, Drawn]


@dataclass
class Films(Dataset[Item]):
    """Films that load as a plan says. With an `augmentation` each draw is random by its entry's seed.

    The last `unmarked` of the samples have no points; their place in an item is -1. `extras` gives what travels with a
    film, `second_draws` names its further draws. `begin` hands the state of an epoch to those who are asked for each
    film, and gives the epoch's augmentation.
    """

    samples: Sequence[Sample]
    digests: Sequence[str]
    truth: Truth
    cache: FilmCache
    augmentation: Augmentation | None = None
    extras: Extras | None = None
    second_draws: Sequence[str] = ()
    begin: Callable[[State], Augmentation] | None = None
    unmarked: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, entry: Entry) -> Item:
        """Load one film at the entry's size."""
        sample = self.samples[entry.film]
        points, valid, *whose = self.truth(sample, entry.seed)
        map_ = self._map(entry)
        drawn = self._drawn(entry, map_, points, valid)
        looked = partial(self._look, entry, map_)
        again = [entry._replace(seed=derive(entry.seed, name)) for name in self.second_draws]
        return Item(
            drawn.image,
            drawn.points,
            drawn.valid,
            torch.tensor(entry.film if entry.film < len(self) - self.unmarked else -1),
            torch.tensor(map_.mm_per_px, dtype=torch.float32),
            drawn.film_to_network,
            torch.from_numpy(np.asarray(whose[0] if whose else np.full(len(valid), -1), np.int64)),
            self.extras(sample, (points, valid), looked, entry.seed) if self.extras else {},
            {n: self._drawn(e, self._map(e), points, valid) for n, e in zip(self.second_draws, again, strict=True)},
        )

    def _map(self, entry: Entry) -> _Map:
        """Where this draw of the film lands in the network's image."""
        sample = self.samples[entry.film]
        warp, field = np.eye(3), None
        if self.augmentation is not None:
            warp, field = self.augmentation.draw_warp(entry.seed, entry.size)
        film_to_network: Matrix = warp @ letterbox(sample.size, entry.size)
        zoom = local_scale(film_to_network, np.array([(sample.size[1] - 1) / 2, (sample.size[0] - 1) / 2]))
        return _Map(film_to_network, field, sample.mm_per_px / zoom)

    def _drawn(self, entry: Entry, map_: _Map, points: Points, valid: Flags) -> Drawn:
        """Draw the film, of which `points` [K, 2], film px, are true where `valid` [K]."""
        sample = self.samples[entry.film]
        level = self.cache.level(sample.path, self.digests[entry.film], letterbox_scale(sample.size, entry.size))
        image = resample(*seen_from(level, sample.size, map_.film_to_network), entry.size, map_.field)
        if self.augmentation is not None:
            image = self.augmentation.change_pixels(image, entry.seed)
        points = map_.at(points)
        inside = np.all((points > -0.5) & (points < np.array([entry.size[1], entry.size[0]]) - 0.5), axis=-1)
        valid = valid & inside  # NaN compares false
        return Drawn(
            torch.from_numpy(np.ascontiguousarray(image)),
            torch.from_numpy(np.where(valid[:, None], points, 0.0).astype(np.float32)),
            torch.from_numpy(valid),
            torch.from_numpy(map_.film_to_network),
        )

    def film(self, number: int, scale: float) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """The film at place `number` at the smallest pyramid level not below `scale`, and its own (H, W)."""
        sample = self.samples[number]
        return self.cache.level(sample.path, self.digests[number], scale), sample.size

    def _look(self, entry: Entry, map_: _Map, centre: Points, mm: float, px: int) -> NDArray[np.float32]:
        """Windows [..., px, px], 0..1, `mm` wide, about `centre` [..., 2], film px, as this draw shows them.

        Each window goes through the photometric changes by itself, with the draw's seed. One whose centre is NaN is 0.
        """
        sample, step_mm = self.samples[entry.film], mm / px
        at = np.asarray(centre, np.float64).reshape(-1, 2)
        known = np.isfinite(at).all(axis=-1)
        level = self.cache.level(sample.path, self.digests[entry.film], sample.mm_per_px / step_mm)
        level, to_network = seen_from(level, sample.size, map_.film_to_network)
        found = np.zeros((len(at), px, px), np.uint8)
        if known.any():
            step = step_mm / map_.mm_per_px
            found[known] = windows(level, inverse(to_network), map_.at(at[known]), step, px, map_.field)
        if self.augmentation is not None:
            for i in np.flatnonzero(known):
                found[i] = self.augmentation.change_pixels(found[i], entry.seed, ("photometric",))
        return (found / np.float32(255)).reshape(*np.shape(centre)[:-1], px, px).astype(np.float32)


class _Map(NamedTuple):
    """Film px to network px in one draw: a matrix, perhaps a displacement after it, and the mm of a network pixel."""

    film_to_network: Matrix
    field: Field | None
    mm_per_px: float

    def at(self, points: Points) -> Points:
        """Points [N, 2] in film px, in network px."""
        found = transform(self.film_to_network, points)
        return found if self.field is None else displace(self.field, found)


def seen_from(
    level: NDArray[np.uint8], film: tuple[int, int], film_to_network: Matrix
) -> tuple[NDArray[np.uint8], Matrix]:
    """A pyramid level [h, w] of a film of size (H, W), and the map from its pixels to the network's."""
    return level, film_to_network @ inverse(resize(level.shape[1] / film[1], level.shape[0] / film[0]))


def collate(items: Sequence[Item]) -> Item:
    """Stack items of one size."""
    return Item(*(_stacked(column) for column in zip(*items, strict=True)))


def _stacked(column: Sequence[Any]) -> Any:
    """Tensors, dicts or tuples of them, stacked."""
    first = column[0]
    if isinstance(first, torch.Tensor):
        return torch.stack(tuple(column))
    if isinstance(first, Mapping):
        return {name: _stacked([part[name] for part in column]) for name in first}
    return type(first)(*(_stacked(parts) for parts in zip(*column, strict=True)))


def bare_item(
    film: NDArray[np.uint8], size: tuple[int, int], landmarks: int, number: int = 0, mm_per_px: float = math.nan
) -> Item:
    """A film [H, W] without truth, letterboxed into `size`, at place `number`; `mm_per_px` is of its own pixels."""
    shape = (film.shape[0], film.shape[1])
    to_network = letterbox(shape, size)
    image = resample(*seen_from(pyramid_level(film, letterbox_scale(shape, size)), shape, to_network), size)
    nothing = torch.zeros((landmarks, 2)), torch.zeros(landmarks, dtype=torch.bool), torch.tensor(number)
    spacing = torch.tensor(mm_per_px / letterbox_scale(shape, size), dtype=torch.float32)
    frame = spacing, torch.from_numpy(to_network), torch.full((landmarks,), -1)
    return Item(torch.from_numpy(image), *nothing, *frame, {}, {})


def to_batch(item: Item, device: torch.device, *, epoch: int = 0, step: int = 0, epochs_done: float = 0.0) -> Batch:
    """Move a collated item to the device, images as bytes, and make these floating there."""

    def moved(part: torch.Tensor) -> torch.Tensor:
        halved = part.dtype == torch.float64 and device.type == "mps"  # which knows no doubles
        return part.to(device, torch.float32 if halved else None, non_blocking=True)

    def grey(image: torch.Tensor) -> torch.Tensor:
        return moved(image)[:, None].to(torch.float32, memory_format=torch.channels_last).mul_(1 / 255)

    return Batch(
        grey(item.image),
        moved(item.points),
        moved(item.valid),
        moved(item.film),
        moved(item.mm_per_px),
        moved(item.film_to_network),
        epoch=epoch,
        step=step,
        epochs_done=epochs_done,
        reader=moved(item.reader),
        extras={name: moved(part) for name, part in item.extras.items()},
        draws={name: Draw(grey(drawn.image), *map(moved, drawn[1:])) for name, drawn in item.draws.items()},
    )


def film_points(points: NDArray[np.float64], film_to_network: Matrix) -> Points:
    """Network px [..., 2] back to film px."""
    return transform(inverse(film_to_network), points)
