"""A tree of tensors and plain values as one safetensors file: tensors under their paths, all else as JSON; no pickle.

`{"model": {"head.weight": w}, "epoch": 3}` is a file with the tensor `model.head.weight` and, in its metadata, a JSON
text of the tree. Dicts (also with whole numbers as keys), lists, tuples and channels-last strides come back as they
were, so that a run that goes on computes bit for bit what it would have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch

from ceph.errors import CheckpointError

TREE = "ceph"  # the tree's key in the metadata


def pack(content: Mapping[str, Any]) -> bytes:
    """The bytes of a file; raises CheckpointError for a value that is neither a tensor nor plain."""
    tensors: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    tree = json.dumps(_tree(content, "", tensors, storages), ensure_ascii=False, separators=(",", ":"))
    return safetensors.torch.save(tensors, {TREE: tree})


def unpack(data: bytes) -> dict[str, Any]:
    """What `pack` was given, its tensors on the CPU; raises ValueError for bytes that it did not make."""
    try:
        tensors = safetensors.torch.load(data)
        end = 8 + int.from_bytes(data[:8], "little")
        content = _value(json.loads(json.loads(data[8:end])["__metadata__"][TREE]), tensors)
    except (safetensors.SafetensorError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}")  # noqa: TRY004 - the bytes are wrong, not the caller
    return content


def _tree(value: Any, path: str, tensors: dict[str, torch.Tensor], storages: set[int]) -> Any:
    """`value` as JSON; its tensors go into `tensors`, each with memory of its own, as the format wants it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        name = path
        while name in tensors:
            name += "'"
        last = value.dim() == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
        flat = value.detach().cpu().contiguous()
        if flat.untyped_storage().data_ptr() in storages:
            flat = flat.clone()
        storages.add(flat.untyped_storage().data_ptr())
        tensors[name] = flat
        return {"tensor": name, "channels_last": True} if last else {"tensor": name}
    if isinstance(value, list | tuple):
        items = [_tree(item, f"{path}.{i}", tensors, storages) for i, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        at = f"{path}." if path else ""
        pairs = [[key, _tree(item, f"{at}{key}", tensors, storages)] for key, item in value.items()]
        return {"dict": dict(pairs)} if all(isinstance(key, str) for key in value) else {"pairs": pairs}
    raise CheckpointError(f"{path} is of type {type(value).__name__}: a checkpoint holds tensors and plain values only")


def _value(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """`_tree` back."""
    if isinstance(tree, list):
        return [_value(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        found = tensors[tree["tensor"]]
        return found.contiguous(memory_format=torch.channels_last) if tree.get("channels_last") else found
    if "tuple" in tree:
        return tuple(_value(item, tensors) for item in tree["tuple"])
    pairs = tree["dict"].items() if "dict" in tree else tree["pairs"]
    return {key: _value(item, tensors) for key, item in pairs}
