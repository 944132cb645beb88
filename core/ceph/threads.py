"""Work on many things by several threads, that a signal can stop."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ceph.stop import signals_wait

T = TypeVar("T")
R = TypeVar("R")

THREADS = min(8, os.cpu_count() or 1)


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`work` of each of `items`, in their order; NumPy, OpenCV and files leave Python's lock to each other.

    A signal is answered between two results: raised inside the pool it could leave one of its locks shut for ever.
    """
    coming: deque[Future[R]] = deque()
    done: list[R] = []
    pool = ThreadPoolExecutor(THREADS)
    try:
        for item in items:
            with signals_wait():
                coming.append(pool.submit(work, item))
                if len(coming) > 4 * THREADS:
                    done.append(coming.popleft().result())
        while coming:
            with signals_wait():
                done.append(coming.popleft().result())
    finally:
        with signals_wait():
            pool.shutdown(cancel_futures=True)
    return done
