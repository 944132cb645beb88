"""ceph: a trainer for landmark detection on lateral cephalograms."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ceph.run.adapt import Adaptation, adapt
    from ceph.run.ensemble import ensemble
    from ceph.run.folds import folds
    from ceph.run.scoring import evaluate
    from ceph.run.train import Result, resume, train
    from ceph.run.trained import load

__version__ = "0.1.0"
HOMES = {
    "Adaptation": "adapt",
    "Result": "train",
    "adapt": "adapt",
    "ensemble": "ensemble",
    "evaluate": "scoring",
    "folds": "folds",
    "load": "trained",
    "resume": "train",
    "train": "train",
}  # the modules of `ceph.run` that hold what `ceph` has
__all__ = [
    "Adaptation",
    "Result",
    "__version__",
    "adapt",
    "ensemble",
    "evaluate",
    "folds",
    "load",
    "resume",
    "train",
]


def __getattr__(name: str) -> object:
    """Import torch only when training or prediction is asked for."""
    if name in HOMES:
        return getattr(importlib.import_module(f"ceph.run.{HOMES[name]}"), name)
    raise AttributeError(f"module 'ceph' has no attribute {name!r}")
