"""ceph: a trainer for landmark detection on lateral cephalograms."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ceph.exporting.export import Exported, export
    from ceph.hooks.trust import trust
    from ceph.run.adapt import Adaptation, adapt
    from ceph.run.corrections import corrections
    from ceph.run.ensemble import ensemble
    from ceph.run.folds import folds
    from ceph.run.scoring import evaluate
    from ceph.run.train import Result, resume, train
    from ceph.run.trained import load

__version__ = "0.1.0"
HOMES = {
    "Adaptation": "run.adapt",
    "Exported": "exporting.export",
    "Result": "run.train",
    "adapt": "run.adapt",
    "corrections": "run.corrections",
    "ensemble": "run.ensemble",
    "evaluate": "run.scoring",
    "export": "exporting.export",
    "folds": "run.folds",
    "load": "run.trained",
    "resume": "run.train",
    "train": "run.train",
    "trust": "hooks.trust",
}  # the modules that hold what `ceph` has
__all__ = [
    "Adaptation",
    "Exported",
    "Result",
    "__version__",
    "adapt",
    "corrections",
    "ensemble",
    "evaluate",
    "export",
    "folds",
    "load",
    "resume",
    "train",
    "trust",
]


def __getattr__(name: str) -> object:
    """Import torch only when training or prediction is asked for."""
    if name in HOMES:
        return getattr(importlib.import_module(f"ceph.{HOMES[name]}"), name)
    raise AttributeError(f"module 'ceph' has no attribute {name!r}")
