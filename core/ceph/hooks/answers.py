"""What a hook's answer must look like: shape, type and device, checked without waiting for the device.

An answer that works later (a module, a codec, a criterion, a warp) is checked at each use, see `ceph.hooks.parts`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

# Each check gives what is wrong with an answer, or "" if nothing is.
Check = Callable[[Any, Mapping[str, Any]], str]


def given(answer: Any) -> str:
    """How a message names an answer: its shape, or its type."""
    shape = getattr(answer, "shape", None)
    if shape is not None:
        return f"{type(answer).__name__} {list(shape)}"
    return f"{type(answer).__name__} {' '.join(repr(answer).split()):.60}"


class MapShape(NamedTuple):
    """What is known of a network's maps: their number K, and the network pixels of one map pixel; None: nothing yet."""

    landmarks: int | None = None
    stride: int | None = None

    def wrong(self, answer: Any, images: torch.Tensor) -> str:
        """What is wrong with maps of `images` [B, 1, H, W], which are floating [B, K, h, w] beside them, else ""."""
        sides = [-(-side // self.stride) for side in images.shape[-2:]] if self.stride else [None, None]
        promised = [len(images), self.landmarks, *sides]
        floats = isinstance(answer, torch.Tensor) and answer.is_floating_point()
        if floats and answer.ndim == 4 and all(b in (None, a) for a, b in zip(answer.shape, promised, strict=True)):
            same = answer.device == images.device
            return "" if same else f"gave maps on {answer.device}; the images are on {images.device}"
        kind = f"{given(answer)} of {answer.dtype}" if isinstance(answer, torch.Tensor) else given(answer)
        named = ", ".join(str(size or name) for size, name in zip(promised, "BKhw", strict=True))
        return f"gave {kind} where floating maps [{named}] are promised"


def wrong_weights(answer: Any, shape: tuple[int, ...], device: torch.device | None) -> str:
    """Weights on the device: a floating tensor without gradient that broadcasts to `shape`."""
    if not isinstance(answer, torch.Tensor) or not answer.is_floating_point():
        kind = f"a tensor of {answer.dtype}" if isinstance(answer, torch.Tensor) else given(answer)
        return f"gave {kind} where a floating tensor that broadcasts to {list(shape)} is promised"
    sizes = tuple(answer.shape)
    if len(sizes) > len(shape) or any(a not in (1, b) for a, b in zip(sizes[::-1], shape[::-1], strict=False)):
        return f"gave weights of shape {list(sizes)} where one that broadcasts to {list(shape)} is promised"
    if answer.requires_grad:
        return "gave weights that carry gradients; detach them"
    if device is not None and answer.device != device:
        return f"gave weights on {answer.device}; the batch is on {device}"
    return ""


def wrong_table(answer: Any, shape: tuple[int, ...]) -> str:
    """Weights of the training samples: numbers [N] on the CPU, finite, >= 0 and not all zero."""
    if isinstance(answer, torch.Tensor):
        if answer.device.type != "cpu" or answer.requires_grad:
            return "gave weights with gradients or off the CPU; use .detach().cpu()"
        answer = answer.double().numpy()
    elif not isinstance(answer, np.ndarray):
        return f"gave {given(answer)} where a tensor or an array {list(shape)} is promised"
    table = answer
    if table.dtype.kind not in "fiu" or table.shape != shape:
        return f"gave {table.dtype} of shape {list(table.shape)} where numbers of shape {list(shape)} are promised"
    if table.size:
        return wrong_range(float(table.min()), float(table.max())) or ("" if table.max() > 0 else "gave only zeros")
    return ""


def wrong_range(low: float, high: float, *, negative: bool = False) -> str:
    """Numbers from `low` to `high`, both NaN if any of them is; `negative` ones may be allowed."""
    if math.isnan(low) or math.isnan(high):
        return "gave NaN"
    if math.isinf(low) or math.isinf(high):
        return "gave an infinite number"
    if low < 0 and not negative:
        return f"gave a negative weight ({low:g})"
    return ""


def wrong_term(answer: Any, device: torch.device | None) -> str:
    """A term of the loss: a floating scalar tensor on the device."""
    if not isinstance(answer, torch.Tensor) or answer.ndim != 0 or not answer.is_floating_point():
        return f"gave {given(answer)} where a scalar floating tensor is promised"
    if device is not None and answer.device != device:
        return f"gave a tensor on {answer.device}; the batch is on {device}"
    return ""


def wrong_number(answer: Any) -> str:
    """A finite number for the metrics: an int or a float, numpy's or torch's too."""
    number = isinstance(answer, (int, float, np.integer, np.floating)) and not isinstance(answer, bool)
    single = isinstance(answer, np.ndarray) and answer.ndim == 0 and answer.dtype.kind in "fiu"
    single = single or (isinstance(answer, torch.Tensor) and answer.ndim == 0 and not answer.is_complex())
    if not (number or single):
        return f"gave {given(answer)} where a number is promised"
    return wrong_range(float(answer), float(answer), negative=True)


def wrong_state(state: Any, where: str = "state_dict()") -> str:
    """A state: tensors, None, bool, int, float, str, and lists, tuples and dicts of them, and nothing else."""
    if isinstance(state, torch.Tensor) or type(state) in (type(None), bool, int, float, str):
        return ""
    if type(state) in (list, tuple):
        found = (wrong_state(value, f"{where}[{i}]") for i, value in enumerate(state))
    elif type(state) in (dict, OrderedDict):
        odd = next((key for key in state if type(key) not in (str, int)), None)
        if odd is not None:
            return f"{where} has the key {odd!r} of type {type(odd).__name__}"
        found = (wrong_state(value, f"{where}[{key!r}]") for key, value in state.items())
    else:
        return f"{where} is {type(state).__module__}.{type(state).__name__}"
    return next(filter(None, found), "")


def lacking(answer: Any, names: tuple[str, ...], what: str) -> str:
    """A part with these methods or attributes, which `what` names."""
    missing = [name for name in names if not hasattr(answer, name)]
    return f"gave {given(answer)}, which is no {what}: it lacks {' and '.join(missing)}" if missing else ""


def _module(answer: Any, _asked: Mapping[str, Any]) -> str:
    return "" if isinstance(answer, nn.Module) else f"gave {given(answer)} where a torch.nn.Module is promised"


def _codec(answer: Any, _asked: Mapping[str, Any]) -> str:
    lacking = [name for name in ("encode", "decode") if not callable(getattr(answer, name, None))]
    return f"gave {given(answer)}, which lacks {' and '.join(lacking)}" if lacking else ""


def _criterion(answer: Any, _asked: Mapping[str, Any]) -> str:
    return "" if callable(answer) else f"gave {given(answer)} where a function is promised"


def _optimizer(answer: Any, _asked: Mapping[str, Any]) -> str:
    pair = isinstance(answer, tuple) and len(answer) == 2
    if not (pair and isinstance(answer[0], torch.optim.Optimizer)):
        return f"gave {given(answer)} where (optimizer, schedule) is promised"
    return "" if callable(answer[1]) else f"gave {given(answer[1])} as schedule, where a function of epochs is promised"


def _truth(answer: Any, asked: Mapping[str, Any]) -> str:
    landmarks = asked["sample"].points.shape[1]
    promised = f"(points [{landmarks}, 2], valid [{landmarks}] bool), both arrays,"
    if not (isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(part, np.ndarray) for part in answer)):
        return f"gave {given(answer)} where {promised} is promised"
    points, valid = answer
    shaped = points.shape == (landmarks, 2) and valid.shape == (landmarks,)
    if not shaped or points.dtype.kind not in "fiu" or valid.dtype != np.bool_:
        kinds = f"{given(points)} of {points.dtype}, {given(valid)} of {valid.dtype}"
        return f"gave ({kinds}) where {promised} is promised"
    return "" if np.isfinite(points[valid]).all() else "gave a point that is not finite but valid"


def _shape(answer: Any, _asked: Mapping[str, Any]) -> str:
    sizes = isinstance(answer, tuple) and len(answer) == 2 and all(type(n) is int and n > 0 for n in answer)
    return "" if sizes else f"gave {given(answer)} where (H, W), two positive ints, is promised"


def _maps(answer: Any, asked: Mapping[str, Any]) -> str:
    wrong = asked["maps"].wrong(answer, asked["images"])
    return wrong or ("" if bool(torch.isfinite(answer).all()) else "gave maps that are not finite")


ONE: dict[str, Check] = {
    "build_model": _module,
    "build_codec": _codec,
    "build_criterion": _criterion,
    "build_optimizer": _optimizer,
    "truth": _truth,
    "batch_shape": _shape,
    "eval_model": _module,
    "predict": _maps,
}

LISTED: dict[str, tuple[tuple[str, ...], str]] = {  # what each part in a list must have, and its name
    "warps": (("matrix", "displacement"), "Warp"),
    "augmentations": (("set_random_seed", "__call__"), "albumentations transform"),
}
READER = ("name", "layout", "matches", "read")
