"""Batch norms folded into the convolutions before them, for a network that only predicts."""

from __future__ import annotations

import copy
from typing import cast

import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

ROUNDING = 1e-2  # of the largest output; a norm folded into the wrong convolution changes far more


@torch.no_grad()
def folded(model: nn.Module, image: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """A copy of `model` for prediction, whose batch norms are part of the convolutions that feed them; and its maps.

    In evaluation a batch norm is a scale and a shift of each channel, so its convolution's weights can hold both: the
    maps are the same up to rounding. Which convolution feeds which norm is seen in a forward pass over `image`
    [B, 1, H, W] in 0..1. `model`, in evaluation mode, is left as it is, and is the answer where nothing can be folded,
    where it cannot be copied, and where the copy gives other maps (a convolution whose output also goes elsewhere).
    """
    maps, pairs = watched(model, image)
    if not pairs:
        return model, maps
    try:
        made = copy.deepcopy(model)
    except (RuntimeError, TypeError):  # it holds a tensor with a history, or what cannot be copied
        return model, maps
    for conv_name, norm_name in pairs:
        conv = cast("nn.Conv2d", made.get_submodule(conv_name))
        norm = cast("nn.BatchNorm2d", made.get_submodule(norm_name))
        statistics = cast("tuple[torch.Tensor, torch.Tensor]", (norm.running_mean, norm.running_var))
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, *statistics, norm.eps, norm.weight, norm.bias
        )
        rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        made.set_submodule(norm_name, rest)
    again = made(image)
    same = (again - maps).abs().amax() <= ROUNDING * maps.abs().amax()
    return (made, again) if same else (model, maps)


def watched(model: nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, list[tuple[str, str]]]:
    """The model's maps, and the names of (convolution, batch norm) where the one's output is the other's input."""
    names = {module: name for name, module in model.named_modules()}
    runs: dict[nn.Module, int] = dict.fromkeys(names, 0)
    made_by: dict[int, tuple[nn.Module, torch.Tensor]] = {}  # holds the tensors, so that no id is given twice
    fed: dict[nn.Module, nn.Module] = {}

    def after(module: nn.Module, _given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        runs[module] += 1
        made_by[id(output)] = (module, output)

    def before(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        runs[module] += 1
        if given and id(given[0]) in made_by:
            fed[module] = made_by[id(given[0])][0]

    handles = [m.register_forward_hook(after) for m in names if isinstance(m, nn.Conv2d)]
    handles += [m.register_forward_pre_hook(before) for m in names if _foldable(m)]
    try:
        maps: torch.Tensor = model(image)
    finally:
        for handle in handles:
            handle.remove()
    once = [(conv, norm) for norm, conv in fed.items() if runs[conv] == runs[norm] == 1]
    return maps, [(names[conv], names[norm]) for conv, norm in once]


def _foldable(module: nn.Module) -> bool:
    return type(module) in (nn.BatchNorm2d, BatchNormAct2d) and module.running_mean is not None
