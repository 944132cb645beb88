"""ceph: a trainer for landmark detection on lateral cephalograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ceph.hooks.trust import trust
    from ceph.run.train import Result, resume, train
    from ceph.run.trained import load

__version__ = "0.1.0"
__all__ = ["Result", "__version__", "load", "resume", "train", "trust"]


def __getattr__(name: str) -> object:
    """Import torch only when training or prediction is asked for."""
    if name in {"Result", "load", "resume", "train"}:
        from ceph.run import train, trained

        return getattr(trained if name == "load" else train, name)
    if name == "trust":
        from ceph.hooks.trust import trust

        return trust
    raise AttributeError(f"module 'ceph' has no attribute {name!r}")
