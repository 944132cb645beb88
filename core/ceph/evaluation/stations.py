"""The stations of decoding: from the mean of maps to points, through parts of which each may be a plugin's.

    maps -> decoder -> constraint -> refiner -> offsets -> adapt -> points

All but the first may be missing; `adapt` is the offsets that `ceph adapt` has learned (`evaluation/offsets.py`).

Legend: B films, K landmarks, h x w map pixels. Points are in network px; a station is any object with its method, an
nn.Module too, and may have a state (`state_dict`, `load_state_dict`: tensors and plain values).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ceph.evaluation.twin import Twin
from ceph.hooks.answers import given, wrong_state
from ceph.hooks.blame import Blame

Found = tuple[torch.Tensor, torch.Tensor]  # points [B, K, 2] in network px, scores [B, K]
Decode = Callable[[torch.Tensor, tuple[int, int]], Found]  # (maps [B, K, h, w], (H, W))


class Look(Protocol):
    """What shows a station the films of a batch: `ceph.evaluation.look.Look`."""

    mm_per_px: torch.Tensor  # [B] of a network pixel

    def __call__(self, centre: torch.Tensor, mm: float, px: int) -> torch.Tensor:
        """Windows [B, ..., px, px] of `mm` by `mm` about `centre` [B, ..., 2] in network px, 0..1."""
        ...


class Decoder(Protocol):
    """What `build_decoder` answers."""

    def decode(self, maps: torch.Tensor, image_size: tuple[int, int]) -> Found:
        """Activations [B, K, h, w] -> points [B, K, 2] in network px and scores [B, K] in 0..1."""
        ...


class Constraint(Protocol):
    """What `build_constraint` answers."""

    def constrain(
        self,
        points: torch.Tensor,
        scores: torch.Tensor,
        maps: torch.Tensor,
        decode: Decode,
        image_size: tuple[int, int],
        look: Look,
    ) -> Found:
        """Points [B, K, 2] and scores [B, K] of maps [B, K, h, w], with what is out of place where it can be."""
        ...


class Refiner(Protocol):
    """What `build_refiner` answers."""

    def refine(self, points: torch.Tensor, scores: torch.Tensor, look: Look, model: nn.Module) -> Found:
        """Points [B, K, 2] and scores [B, K] after a second look at the film."""
        ...


class MeanLook:
    """The mean of what the second looks of several runs find from the same points: a refiner, and each one's model."""

    def __init__(self, looks: Sequence[tuple[Refiner, nn.Module]]) -> None:
        self.looks = looks

    def refine(self, points: torch.Tensor, scores: torch.Tensor, look: Look, _model: nn.Module) -> Found:
        """As `Refiner.refine`; each with its own model. Who leaves a film's points as they are did not look."""
        found = [refiner.refine(points.clone(), scores.clone(), look, model) for refiner, model in self.looks]
        all_points, all_scores = (torch.stack(part) for part in zip(*found, strict=True))  # [R, B, K, 2], [R, B, K]
        looked = (all_points != points).any(-1).any(-1)
        looked |= ~looked.any(0)
        share = (looked / looked.sum(0))[..., None]
        return (share[..., None] * all_points).sum(0), (share * all_scores).sum(0)


class Offsets(Protocol):
    """What `build_offsets` answers."""

    def shift(self, points: torch.Tensor, scores: torch.Tensor, to_film: torch.Tensor) -> Found:
        """Points [B, K, 2] and scores [B, K] as one reader would mark them; `to_film` [B, 3, 3] from network px."""
        ...


class HeadOffsets(nn.Module):
    """Offsets [K, 2] of each landmark in the frame of the mean shape [K, 2], in mm: the station of `ceph adapt`."""

    shape: torch.Tensor
    offsets: torch.Tensor

    def __init__(self, shape: torch.Tensor, offsets: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("shape", shape)
        self.register_buffer("offsets", offsets)

    def shift(self, points: torch.Tensor, scores: torch.Tensor, _to_film: torch.Tensor) -> Found:
        """Points [B, K, 2] in network px, each moved by its offset, turned and scaled as the head lies."""
        found, aim, by = points - points.mean(dim=1, keepdim=True), self.shape.to(points), self.offsets.to(points)
        size = (aim**2).sum()  # the similarity that lays the mean shape on the head, by least squares
        cos = (found * aim).sum(dim=(1, 2))[:, None] / size
        sin = (found[..., 1] * aim[:, 0] - found[..., 0] * aim[:, 1]).sum(dim=1)[:, None] / size
        x, y = by.unbind(-1)
        return points + torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1), scores

    def twin(self, **_: Any) -> Twin:
        """The same for an exported model."""
        return Twin(shifted, {"shape": self.shape.cpu().numpy(), "offsets": self.offsets.cpu().numpy()})


def shifted(
    points: NDArray[Any], scores: NDArray[Any], _film: Any, _graph: Any, shape: NDArray[Any], offsets: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """As `HeadOffsets.shift`, in numpy: points [1, K, 2] moved by offsets [K, 2] of the mean shape [K, 2]."""
    found, aim, by = (z @ (1, 1j) for z in (points - points.mean(axis=1, keepdims=True), shape, offsets))
    moved = points @ (1, 1j) + (found @ aim.conj() / (shape**2).sum())[:, None] * by
    return np.stack([moved.real, moved.imag], -1), scores


class Stage(NamedTuple):
    """Where a station left the points [B, K, 2] and scores [B, K], in network px."""

    station: str
    points: torch.Tensor
    scores: torch.Tensor


@dataclass(eq=False)
class Stations:
    """The stations of a run, in order; None where nothing stands between.

    `built_by` says of each that is a plugin's whose it is. `mm_per_px` is the median mm of a network pixel of the
    training films, NaN where that is not known: `look` takes a film without a spacing to have it.
    """

    decoder: Decoder
    constraint: Constraint | None = None
    refiner: Refiner | None = None
    offsets: Offsets | None = None
    adapt: HeadOffsets | None = None
    built_by: Mapping[str, Blame] = field(default_factory=dict)
    mm_per_px: float = math.nan

    def stages(
        self, maps: torch.Tensor, image_size: tuple[int, int], look: Look, model: nn.Module, to_film: torch.Tensor
    ) -> list[Stage]:
        """Decode maps [B, K, h, w], the mean of activations; the last stage is the answer.

        `model` is the one that is evaluated, `to_film` [B, 3, 3] maps network px to film px. Raises PluginError where a
        plugin's station fails, or gives something else than points and scores.
        """
        run = partial(self._stage, maps)
        stages = [run("decoder", "decode", maps, image_size)]
        if self.constraint is not None:
            stages.append(run("constraint", "constrain", *_copied(stages), maps, self.decoder.decode, image_size, look))
        if self.refiner is not None:
            stages.append(run("refiner", "refine", *_copied(stages), look, model))
        if self.offsets is not None:
            stages.append(run("offsets", "shift", *_copied(stages), to_film))
        if self.adapt is not None:
            stages.append(run("adapt", "shift", *_copied(stages), to_film))
        return stages

    def _stage(self, maps: torch.Tensor, name: str, method: str, *given: Any) -> Stage:
        function, blame = getattr(getattr(self, name), method), self.built_by.get(name)
        with blame.named(function) if blame is not None else nullcontext():
            found = function(*given)
        if blame is not None and (wrong := wrong_found(found, maps)):
            raise blame.error(f"its {method} gave {wrong}")
        return Stage(name, *found)

    def require_finite(self, points: Mapping[str, NDArray[np.float64]]) -> None:
        """Raise PluginError if a plugin's station turned numbers into none; `points` [N, K, 2] after each, by name."""
        for name, blame in self.built_by.items():
            if name in points and not np.isfinite(points[name]).all():
                raise blame.error("gave points that are not finite")

    def state_dict(self) -> dict[str, Any]:
        """The state of each station under its plugin's name, {station: {plugin: state}}, `mm_per_px`, and `adapt`."""
        states: dict[str, Any] = {"mm_per_px": self.mm_per_px}
        if self.adapt is not None:
            states["adapt"] = self.adapt.state_dict()
        for name, blame in self.built_by.items():
            if hasattr(station := getattr(self, name), "state_dict"):
                state = station.state_dict()
                if wrong := wrong_state(state, "its state_dict()"):
                    raise blame.error(wrong, hint="keep tensors and plain values only: torch.as_tensor(array)")
                states[name] = {blame.plugin: state}
        return states

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give each station the state that its plugin kept; what is of a plugin that is not on is passed over."""
        self.mm_per_px = state.get("mm_per_px", math.nan)
        if "adapt" in state:
            self.adapt = HeadOffsets(**state["adapt"])
        for name, blame in self.built_by.items():
            kept = state.get(name, {})
            if blame.plugin in kept:
                load = getattr(self, name).load_state_dict
                with blame.named(load):
                    load(kept[blame.plugin])


def _copied(stages: Sequence[Stage]) -> Found:
    """The last points and scores, for a station that may write into them."""
    return stages[-1].points.clone(), stages[-1].scores.clone()


def wrong_found(found: Any, maps: torch.Tensor) -> str:
    """What is wrong with what a station gave for maps [B, K, h, w], else empty."""
    if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, torch.Tensor) for part in found)):
        return f"{given(found)} where (points, scores) is promised"
    for part, shape in zip(found, ((*maps.shape[:2], 2), tuple(maps.shape[:2])), strict=True):
        if tuple(part.shape) != shape or not part.is_floating_point():
            return f"{given(part)} of {part.dtype} where a floating tensor {list(shape)} is promised"
        if part.device != maps.device:
            return f"a tensor on {part.device}; the maps are on {maps.device}"
    return ""
