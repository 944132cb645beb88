"""Copies of what hooks are given and answer, and whether two of them are the same to the last bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


def snapshot(value: Any) -> Any:
    """A copy of a value that no one else can change: tensors, arrays, modules (their state), and what holds them."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, nn.Module):
        return {name: part.detach().clone() for name, part in value.state_dict().items()}
    if isinstance(value, Mapping):
        return {key: snapshot(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [snapshot(part) for part in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: snapshot(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def difference(one: Any, other: Any, where: str = "") -> str:
    """Where two snapshots differ first, `.points[2]`, or an empty text; NaN is the same as NaN."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return where or "its keys"
        return next((d for key in one if (d := difference(one[key], other[key], f"{where}.{key}"))), "")
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return where or "its length"
        return next(
            (d for i, (a, b) in enumerate(zip(one, other, strict=True)) if (d := difference(a, b, f"{where}[{i}]"))), ""
        )
    return "" if _equal(one, other) else where or "its value"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
        return alike and torch.allclose(one.double(), other.double(), rtol=0, atol=0, equal_nan=True)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (one != one and other != other)
    return type(one) is type(other) and bool(one == other)
