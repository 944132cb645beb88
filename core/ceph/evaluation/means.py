"""The mean of a film's maps: of several networks, views and scales, each laid on the first one's grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ceph.data.dataset import Item
from ceph.data.types import Matrix
from ceph.hooks.answers import given
from ceph.hooks.blame import Blame
from ceph.model.codec import activate
from ceph.model.network import parts_of, seen_by_parts

Size = tuple[int, int]  # (H, W)


@dataclass(frozen=True, eq=False)
class View:
    """Another view of a film, for `views`: what is at network px p of the plain image is at `matrix` p in the view.

    `matrix` [3, 3] may be a function of the image's (H, W) that gives it; `photometric` changes images [B, 1, H, W] in
    0..1, before they are moved. None: not at all.
    """

    matrix: Matrix | Callable[[Size], Matrix] | None = None
    photometric: Callable[[torch.Tensor], torch.Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Member:
    """Another network, for `members`: `module` maps films [B, 1, H, W] in its own letterbox to maps [B, K, h, w].

    `size` is that letterbox's (H, W), None: the run's. `kind`, `distribution` or `heatmap`, says how its maps are
    activated. Where it does not know a landmark, all of that map is NaN.
    """

    module: nn.Module
    size: Size | None = None
    kind: str = "distribution"


class OnLandmarks(nn.Module):
    """A network's maps on another list of landmarks: at `columns` [K] of its own, and NaN where that is -1."""

    def __init__(self, module: nn.Module, columns: Sequence[int]) -> None:
        super().__init__()
        self.module, self.columns = module, list(columns)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Films [B, 1, H, W] to maps [B, K, h, w]."""
        maps: torch.Tensor = self.module(images)[:, self.columns]
        maps[:, [column < 0 for column in self.columns]] = float("nan")
        return maps


PLAIN = View()


class Seen(NamedTuple):
    """Maps [B, K, h, w] of films, and the frame they are in: `to_image` [B, 3, 3], film px to px of the image seen.

    `stride` is the image's pixels for one of the map. Maps of a distribution are `normalised` to 1 wherever they lie.
    `optional` ones leave landmarks whose maps are NaN to the others. `outputs` are of the network's modules that see
    features.
    """

    maps: torch.Tensor
    to_image: torch.Tensor
    stride: int
    normalised: bool
    optional: bool = False
    outputs: Mapping[str, torch.Tensor] = {}


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks, the evaluated model first, and the views and scales in which each sees a film.

    `views` are beside the plain one; the first of `scales` is the frame of what is decoded. Each that is a plugin's
    comes with whose it is. Members but the first may leave landmarks, whose maps are NaN, to the others.
    """

    members: Sequence[tuple[Member, Blame | None]]
    views: Sequence[tuple[View, Blame]]
    size: Size
    scales: Sequence[float] = (1.0,)

    @property
    def model(self) -> nn.Module:
        """The network that is evaluated."""
        return self.members[0][0].module

    @property
    def sizes(self) -> list[Size]:
        """The sizes at which each film is loaded, that of the frame first."""
        return list(dict.fromkeys(size for member, _ in self.members for size in self.sizes_of(member)))

    def sizes_of(self, member: Member) -> list[Size]:
        """The sizes at which a member sees a film."""
        height, width = member.size or self.size
        return [(round(height * scale), round(width * scale)) for scale in self.scales]

    def maps(
        self,
        items: Sequence[Item],
        images: Sequence[torch.Tensor],
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """The mean [B, K, h, w] of the activations of a batch, in the frame of its first item, and modules' outputs.

        The outputs {name: [B, ...]} are of those modules of the evaluated network that see features. `items` are the
        batch at each of `sizes`, `images` [B, 1, H, W] their films in 0..1, on the device.
        """
        seen = iter(self._seen(dict(zip(self.sizes, zip(items, images, strict=True), strict=True)), autocast))
        first = next(seen)
        return mean_of(chain([first], seen)), first.outputs

    def _seen(
        self, frames: dict[Size, tuple[Item, torch.Tensor]], autocast: Callable[[], AbstractContextManager[object]]
    ) -> Iterable[Seen]:
        views: list[tuple[View, Blame | None]] = [(PLAIN, None), *self.views]
        landmarks: int | None = None
        for place, (member, owner) in enumerate(self.members):
            for size in self.sizes_of(member):
                item, plain = frames[size]
                for view, viewer in views:
                    image, matrix = viewed(plain, view, viewer)
                    outputs: Mapping[str, torch.Tensor] = {}
                    with autocast():
                        if landmarks is None and parts_of(member.module):  # the first that is seen
                            raw, outputs = seen_by_parts(member.module, member.module, image)
                        else:
                            raw = member.module(image)
                        if owner is not None and raw.shape[:2] != (len(image), landmarks):
                            raise owner.error(f"its member gave {given(raw)} where maps of {landmarks} are promised")
                        maps = activate(raw, member.kind).float()
                    landmarks = maps.shape[1]
                    to_image = item.film_to_network.double()
                    to_image = to_image if matrix is None else torch.from_numpy(matrix) @ to_image
                    stride = round(image.shape[-1] / maps.shape[-1])
                    known = {n: found for n, found in outputs.items() if isinstance(found, torch.Tensor)}
                    yield Seen(maps, to_image, stride, member.kind == "distribution", place > 0, known)


def viewed(images: torch.Tensor, view: View, owner: Blame | None = None) -> tuple[torch.Tensor, Matrix | None]:
    """Images [B, 1, H, W] as a view shows them, black outside, and its matrix [3, 3]; raises PluginError."""
    size = (images.shape[-2], images.shape[-1])
    seen = images if view.photometric is None else view.photometric(images)
    matrix = view.matrix(size) if callable(view.matrix) else view.matrix
    if owner is not None and seen.shape != images.shape:
        raise owner.error(f"its view gave {given(seen)} where images {list(images.shape)} are promised")
    if matrix is None:
        return seen, None
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (3, 3) or not abs(np.linalg.det(matrix)) > 0:
        message = f"its view gave a matrix {list(matrix.shape)} where an invertible [3, 3] is promised"
        raise owner.error(message) if owner is not None else ValueError(message)
    unit = to_unit(size, 1)
    between = unit @ torch.from_numpy(np.linalg.inv(matrix)) @ torch.linalg.inv(unit)
    return resampled(seen, between.expand(len(seen), 3, 3), size), matrix


def mean_of(seen: Iterable[Seen]) -> torch.Tensor:
    """The mean [B, K, h, w] of maps in the frame of the first: at each pixel of those that see it.

    Those that do not lie as the first do are resampled by the affine between the two frames, so sizes need not be
    multiples of anything; a distribution is then normalised to 1 on the first's grid.
    """
    rest = iter(seen)
    first = next(rest)
    total, size = first.maps, (first.maps.shape[-2], first.maps.shape[-1])
    from_unit = torch.linalg.inv(to_unit(size, first.stride) @ first.to_image)
    count: torch.Tensor | None = None
    for other in rest:
        maps, known = other.maps, torch.ones_like(other.maps[..., :1, :1])
        if other.optional:
            known = (~maps.isnan().flatten(2).all(-1)).to(maps)[..., None, None]
            maps = torch.where(known > 0, maps, 0.0)
        if not (maps.shape == total.shape and torch.equal(other.to_image, first.to_image)):
            between = to_unit((maps.shape[-2], maps.shape[-1]), other.stride) @ other.to_image @ from_unit
            known = known * resampled(torch.ones_like(maps[:, :1]), between, size)
            maps = resampled(maps, between, size)
            if other.normalised:
                maps = maps / maps.flatten(2).sum(-1)[..., None, None].clamp_min(1e-12)
        total = total + maps
        count = 1 + known if count is None else count + known
    return total if count is None else total / count


def resampled(maps: torch.Tensor, between: torch.Tensor, size: Size) -> torch.Tensor:
    """Maps (or films) [B, C, h', w'] as [B, C, *size]: what is at u is the input at `between` [B, 3, 3] u, else zero.

    Both in the frame of `to_unit`.
    """
    plain = torch.eye(2, 3, device=maps.device).expand(1, 2, 3)
    at = F.pad(F.affine_grid(plain, [1, 1, *size], align_corners=False), (0, 1), value=1.0)
    at = at @ between.to(maps, non_blocking=True)[:, None].transpose(-1, -2)
    grid = at[..., :2] / at[..., 2:]
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def to_unit(size: Size, stride: int) -> torch.Tensor:
    """Network px to the frame in which the outer edges of maps of `size` (h, w) are -1 and 1: [3, 3], float64."""
    x, y = 2 / (stride * size[1]), 2 / (stride * size[0])
    return torch.tensor([[x, 0, x / 2 - 1], [0, y, y / 2 - 1], [0, 0, 1]], dtype=torch.float64)
