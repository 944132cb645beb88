"""ceph: a trainer for landmark detection on lateral cephalograms."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ceph.run.adapt import Adaptation, adapt
    from ceph.run.train import Result, resume, train
    from ceph.run.trained import load

__version__ = "0.1.0"
__all__ = ["Adaptation", "Result", "__version__", "adapt", "load", "resume", "train"]


MODULES = {
    "Adaptation": "adapt",
    "Result": "train",
    "adapt": "adapt",
    "load": "trained",
    "resume": "train",
    "train": "train",
}


def __getattr__(name: str) -> object:
    """Import torch only when training or prediction is asked for."""
    if name in MODULES:
        return getattr(importlib.import_module(f"ceph.run.{MODULES[name]}"), name)
    raise AttributeError(f"module 'ceph' has no attribute {name!r}")
