"""The network: any timm backbone with feature maps, and a light pyramid that brings them to stride 4 or 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ceph.errors import ConfigError, nearest
from ceph.model import zoo
from ceph.model.depthwise import use_fast_depthwise


class LandmarkNetwork(nn.Module):
    """Films [B, channels, H, W] in 0..1 -> raw maps [B, K, ceil(H / stride), ceil(W / stride)].

    The features of every stride are projected to `width` channels and summed from coarse to fine (Lin et al. 2017,
    feature pyramid networks), each level smoothed by one 3x3 convolution; a 1x1 convolution gives the maps.
    """

    def __init__(
        self,
        backbone: str,
        landmarks: int,
        *,
        stride: int = 4,
        width: int = 64,
        prior: float | None = None,
        channels: int = 1,
        levels: int | None = None,
    ) -> None:
        """`prior` in (0, 1): the sigmoid activation that an untrained map should have (Lin et al. 2017, focal loss).

        `levels`: so many of the backbone's strides, from the finest; None: all.
        """
        super().__init__()
        self.backbone = build_backbone(backbone, channels, levels)
        self.stride = stride
        info: Any = self.backbone.feature_info
        used = [
            (i, c, r) for i, (c, r) in enumerate(zip(info.channels(), info.reduction(), strict=True)) if r >= stride
        ]
        self.used = [i for i, _, _ in used]
        self.finest = used[0][2]
        self.multiple = max(info.reduction())
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for _, channels, _ in used)
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
            )
            for _ in used
        )
        self.pyramid = Pyramid()
        self.head = nn.Conv2d(width, landmarks, 1)
        if prior is not None:
            nn.init.constant_(self.head.bias, float(torch.logit(torch.tensor(prior))))  # type: ignore[arg-type]
        mean, std = grey_statistics(self.backbone.pretrained_cfg)
        self.input_scale, self.input_shift = 1 / std, -mean / std

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Raw maps of films [B, channels, H, W] in 0..1."""
        height, width = image.shape[-2:]
        image = image * self.input_scale + self.input_shift
        short = (-width % self.multiple, -height % self.multiple)
        if any(short):
            image = F.pad(image, (0, short[0], 0, short[1]), value=self.input_shift)
        features: Sequence[torch.Tensor] = self.backbone(image)
        levels: list[torch.Tensor] = []
        for index, lateral, smooth in reversed(list(zip(self.used, self.lateral, self.smooth, strict=True))):
            here = lateral(features[index])
            if levels:
                here = here + enlarged(levels[0], here.shape[-2:])
            levels.insert(0, smooth(here))
        maps: torch.Tensor = self.head(self.pyramid(*levels)[0])
        if self.finest > self.stride:
            maps = enlarged(maps, [side * self.finest // self.stride for side in maps.shape[-2:]])
        return maps[..., : -(-height // self.stride), : -(-width // self.stride)]


def enlarged(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Maps [B, C, h, w] -> [B, C, *size], bilinear between pixel centres.

    On a GPU as two matrix products: torch's own backward pass, made repeatable, takes a third of a step there.
    """
    if maps.device.type != "cuda":
        return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
    return between(maps.shape[-2], size[0], maps).mT @ maps @ between(maps.shape[-1], size[1], maps)


def between(few: int, many: int, like: torch.Tensor) -> torch.Tensor:
    """The linear map [few, many] of so many samples to more; of the type of `like`, on its device."""
    with torch.no_grad():
        one = torch.eye(few, device=like.device, dtype=like.dtype)
        return F.interpolate(one[None], size=many, mode="linear", align_corners=False)[0]


class Pyramid(nn.Module):
    """Gives back the network's levels, [B, width, h, w] each, from fine to coarse: where others can see them."""

    def forward(self, *levels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The levels as they are."""
        return levels


# --- modules that plugins give ---------------------------------------------------------------------------------------


def add_parts(model: nn.Module, parts: Mapping[str, nn.Module]) -> None:
    """Make each of `parts` a child of the model, under its name."""
    for name, part in parts.items():
        model.add_module(name, part)
    model.added_parts = tuple(parts)  # type: ignore[assignment] # copies of the model know theirs


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """The children that `add_parts` gave this model, or one that it is a copy of."""
    return {name: model.get_submodule(name) for name in vars(model).get("added_parts", ())}


def seen_by_parts(
    model: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> tuple[torch.Tensor, dict[str, Any]]:
    """The maps of `forward(images)`, which runs `model`, and what its parts that take `features` make of the pyramid.

    The outputs are under the parts' names; `pyramid` are the features themselves, from fine to coarse: of a network
    without one the features of its backbone.
    """
    levels: list[Any] = []
    source = model.get_submodule("pyramid" if hasattr(model, "pyramid") else "backbone")
    handle = source.register_forward_hook(lambda _module, _given, found: levels.append(found))
    try:
        maps = forward(images)
    finally:
        handle.remove()
    features = tuple(levels[0])
    seeing = {n: part for n, part in parts_of(model).items() if "features" in signature(part.forward).parameters}
    return maps, {**{name: part(features=features) for name, part in seeing.items()}, "pyramid": features}


# --- backbones -------------------------------------------------------------------------------------------------------


def build_backbone(name: str, channels: int = 1, levels: int | None = None) -> nn.Module:
    """An untrained timm backbone for films of so many channels, giving its feature maps; `levels` finest, None: all."""
    if not zoo.is_model(name):
        close = nearest(name, zoo.list_models())
        hint = close if close.startswith("did") else "`timm.list_models()` lists them all"
        raise ConfigError(f"timm has no model {name!r}", key="model.backbone", hint=hint)
    try:
        only = {} if levels is None else {"out_indices": tuple(range(levels))}
        backbone: nn.Module = zoo.create_model(name, features_only=True, pretrained=False, in_chans=channels, **only)
    except (RuntimeError, AttributeError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"{name!r} gives no feature maps ({error})",
            key="model.backbone",
            hint="take a backbone that timm offers with features_only: hrnet_w32, resnet50, convnext_tiny ...",
        ) from error
    use_fast_depthwise(backbone)
    return backbone


def grey_statistics(pretrained_cfg: object) -> tuple[float, float]:
    """Mean and standard deviation of grey input in 0..1 that a backbone's weights expect."""
    config = pretrained_cfg if isinstance(pretrained_cfg, dict) else vars(pretrained_cfg)
    mean, std = config.get("mean") or (0.449,), config.get("std") or (0.226,)
    return sum(mean) / len(mean), sum(std) / len(std)
