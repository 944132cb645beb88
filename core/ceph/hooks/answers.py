"""What a hook's answer must look like: type, shape and device, checked without waiting for the device.

What a part gives that a hook built (maps, targets, losses, points) is checked where the engine takes it, by
`Hooks.promised`; numbers that are not finite are told when the flags are read.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

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


def wrong_tensor(
    answer: Any, shape: tuple[int | None, ...], device: torch.device | None, dtype: torch.dtype | None = None
) -> str:
    """A floating tensor of this shape (None: any size) and dtype (None: any floating one), on the device."""
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    floats = isinstance(answer, torch.Tensor) and answer.is_floating_point() and dtype in (None, answer.dtype)
    if (
        not floats
        or answer.ndim != len(shape)
        or any(b not in (None, a) for a, b in zip(answer.shape, shape, strict=True))
    ):
        kind = f"{given(answer)} of {answer.dtype}" if isinstance(answer, torch.Tensor) else given(answer)
        return f"gave {kind} where a {str(dtype or 'floating').removeprefix('torch.')} tensor [{sizes}] is promised"
    if device is not None and answer.device != device:
        return f"gave a tensor on {answer.device}; the batch is on {device}"
    return ""


def wrong_mask(answer: Any, shape: tuple[int, ...], device: torch.device | None) -> str:
    """A mask on the device: a bool tensor that broadcasts to `shape`."""
    if not isinstance(answer, torch.Tensor) or answer.dtype != torch.bool:
        kind = f"a tensor of {answer.dtype}" if isinstance(answer, torch.Tensor) else given(answer)
        return f"gave {kind} where a bool tensor that broadcasts to {list(shape)} is promised"
    if not broadcasts(tuple(answer.shape), shape):
        return f"gave a mask of shape {list(answer.shape)} where one that broadcasts to {list(shape)} is promised"
    elsewhere = device is not None and answer.device != device
    return f"gave a mask on {answer.device}; the batch is on {device}" if elsewhere else ""


def broadcasts(sizes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a tensor of these sizes broadcasts to `shape`."""
    return len(sizes) <= len(shape) and all(a in (1, b) for a, b in zip(sizes[::-1], shape[::-1], strict=False))


def wrong_weights(answer: Any, shape: tuple[int, ...], device: torch.device | None) -> str:
    """Weights on the device: a floating tensor without gradient that broadcasts to `shape`."""
    if not isinstance(answer, torch.Tensor) or not answer.is_floating_point():
        kind = f"a tensor of {answer.dtype}" if isinstance(answer, torch.Tensor) else given(answer)
        return f"gave {kind} where a floating tensor that broadcasts to {list(shape)} is promised"
    sizes = tuple(answer.shape)
    if not broadcasts(sizes, shape):
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


def wrong_term(answer: Any, asked: Mapping[str, Any]) -> str:
    """A term of the loss: a floating scalar tensor on the device, or (sum, count), two of them."""
    device = asked["pred"].device
    pair = isinstance(answer, tuple) and len(answer) == 2
    for number in answer if pair else (answer,):
        if not isinstance(number, torch.Tensor) or number.ndim != 0 or not (number.is_floating_point() or pair):
            return f"gave {given(answer)} where a scalar floating tensor, or (sum, count), is promised"
        if number.device != device:
            return f"gave a tensor on {number.device}; the batch is on {device}"
    return ""


def wrong_losses(answer: Any, asked: Mapping[str, Any]) -> str:
    """A loss of each landmark: float32 [B, K] on the device."""
    return wrong_tensor(answer, tuple(asked["batch"].valid.shape), asked["pred"].device, torch.float32)


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


def _part(*methods: str) -> Check:
    """A part with these methods."""

    def check(answer: Any, _asked: Mapping[str, Any]) -> str:
        lacking = [name for name in methods if not callable(getattr(answer, name, None))]
        return f"gave {given(answer)}, which lacks {' and '.join(lacking)}" if lacking else ""

    return check


def _criterion(answer: Any, _asked: Mapping[str, Any]) -> str:
    return "" if callable(answer) else f"gave {given(answer)} where a function is promised"


def _optimizer(answer: Any, _asked: Mapping[str, Any]) -> str:
    pair = isinstance(answer, tuple) and len(answer) == 2
    if not (pair and isinstance(answer[0], torch.optim.Optimizer)):
        return f"gave {given(answer)} where (optimizer, schedule) is promised"
    return "" if callable(answer[1]) else f"gave {given(answer[1])} as schedule, where a function of epochs is promised"


def _truth(answer: Any, asked: Mapping[str, Any]) -> str:
    readers, landmarks = asked["sample"].valid.shape
    promised = f"(points [{landmarks}, 2], valid [{landmarks}] bool), perhaps reader [{landmarks}] int, arrays,"
    parts = answer if isinstance(answer, tuple) and len(answer) in (2, 3) else (None,)
    if not all(isinstance(part, np.ndarray) for part in parts):
        return f"gave {given(answer)} where {promised} is promised"
    kinds = [("fiu", (landmarks, 2)), ("b", (landmarks,)), ("i", (landmarks,))]
    if not all(p.dtype.kind in kind and p.shape == shape for p, (kind, shape) in zip(parts, kinds, strict=False)):
        return f"gave ({', '.join(f'{given(part)} of {part.dtype}' for part in parts)}) where {promised} is promised"
    if len(parts) == 3 and not np.isin(parts[2], range(-1, readers)).all():
        return f"gave a reader that is none of -1 to {readers - 1}"
    return "" if np.isfinite(parts[0][parts[1]]).all() else "gave a point that is not finite but valid"


def shape_of(answer: Any) -> str:
    """The shape and kind of what travels with a film, `float [3, 2]`; empty where it is no array of numbers."""
    try:
        array = np.asarray(answer)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors on another device or with gradients
        return ""
    kinds = {"f": "float", "i": "int", "u": "int", "b": "int"}
    return f"{kinds[array.dtype.kind]} {list(array.shape)}" if array.dtype.kind in kinds else ""


def wrong_extra(shape: str, first: str) -> str:
    """What travels with a film: an array of numbers, of the `shape` that the first film's had."""
    if not shape:
        return "gave no array of numbers"
    return "" if shape == first else f"gave {shape} for one film and {first} for another, where one shape is promised,"


def _shape(answer: Any, _asked: Mapping[str, Any]) -> str:
    sizes = isinstance(answer, tuple) and len(answer) == 2 and all(type(n) is int and n > 0 for n in answer)
    return "" if sizes else f"gave {given(answer)} where (H, W), two positive ints, is promised"


def _reader(answer: Any, _asked: Mapping[str, Any]) -> str:
    return lacking(answer, READER, "reader")


def _metric(answer: Any, _asked: Mapping[str, Any]) -> str:
    return wrong_number(answer.value if hasattr(answer, "higher_is_better") else answer)  # a Figure


STATIONS = ("build_decoder", "build_constraint", "build_refiner", "build_offsets")  # of decoding, in order
READER = ("name", "layout", "matches", "read")
ONE: dict[str, Check] = {
    "build_model": _module,
    "build_targets": _part("encode"),
    "build_decoder": _part("decode"),
    "build_constraint": _part("constrain"),
    "build_refiner": _part("refine"),
    "build_offsets": _part("shift"),
    "build_criterion": _criterion,
    "build_optimizer": _optimizer,
    "truth": _truth,
    "batch_shape": _shape,
    "eval_model": _module,
}
PART: dict[str, Check] = {  # what each value of a dict must be
    "dataset_formats": _reader,
    "modules": _module,
    "landmark_losses": wrong_losses,
    "loss_terms": wrong_term,
    "metrics": _metric,
}
LISTED: dict[str, tuple[tuple[str, ...], str]] = {  # what each part in a list must have, and its name
    "warps": (("matrix", "displacement"), "Warp"),
    "augmentations": (("set_random_seed", "__call__"), "albumentations transform"),
    "second_draws": (("isidentifier",), "name"),
    "views": (("matrix", "photometric"), "View"),
    "members": (("module", "size", "kind"), "Member"),
}
