"""Imports of what a command needs to its end, which is no garbage and need not be looked through for any."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def for_good() -> Iterator[None]:
    """Around the import of torch: no garbage is collected there, and every later collection passes over what is left.

    That is some 400,000 objects. Looking through them, again and again while they are made, and once more as the
    program ends, takes a third of the CPU time of a process that does nothing else. Nothing is done where torch is
    there already: what has run since may have left garbage.
    """
    if "torch" in sys.modules:
        yield
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if collecting:
            gc.enable()
