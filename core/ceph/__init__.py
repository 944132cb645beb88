"""ceph: a trainer for landmark detection on lateral cephalograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ceph.run.scoring import evaluate
    from ceph.run.train import Result, resume, train
    from ceph.run.trained import load

__version__ = "0.1.0"
__all__ = ["Result", "__version__", "evaluate", "load", "resume", "train"]


def __getattr__(name: str) -> object:
    """Import torch only when training or prediction is asked for."""
    if name in {"Result", "evaluate", "load", "resume", "train"}:
        from ceph.run import scoring, train, trained

        return getattr({"evaluate": scoring, "load": trained}.get(name, train), name)
    raise AttributeError(f"module 'ceph' has no attribute {name!r}")
