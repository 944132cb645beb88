"""ceph: a trainer for landmark detection on lateral cephalograms."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ceph.run.ensemble import ensemble
    from ceph.run.folds import folds
    from ceph.run.scoring import evaluate
    from ceph.run.train import Result, resume, train
    from ceph.run.trained import load

__version__ = "0.1.0"
__all__ = ["Result", "__version__", "ensemble", "evaluate", "folds", "load", "resume", "train"]


def __getattr__(name: str) -> object:
    """Import torch only when training or prediction is asked for."""
    homes = {"load": "trained", "ensemble": "ensemble", "evaluate": "scoring", "folds": "folds", "Result": "train"}
    if name in {*homes, "resume", "train"}:
        return getattr(importlib.import_module(f"ceph.run.{homes.get(name, 'train')}"), name)
    raise AttributeError(f"module 'ceph' has no attribute {name!r}")
