"""Imports of what a command needs to its end, which is no garbage and need not be looked through for any."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def for_good() -> Iterator[None]:
    """Around imports: no garbage is collected there, and what they leave is passed over by every later collection.

    torch leaves some 400,000 objects. Looking through them, again and again while they are made, and once more as the
    program ends, takes a third of the CPU time of a process that does nothing else.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if collecting:
            gc.enable()
