"""What the machine ran out of: memory of the device or the host, shared memory, a loader worker; and what to lower."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ceph.errors import CephError, TrainingError

# PyTorch's allocators, cuBLAS, OpenCV and C++ each say it in their own words, most of them in a RuntimeError.
_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|cannot allocate memory|insufficient memory|bad_alloc"
    r"|ALLOC_FAILED|unable to mmap",
    re.IGNORECASE,
)
_SHARED = re.compile(r"shared memory|/torch_|bus error", re.IGNORECASE)
_WORKER = re.compile(r"DataLoader worker.*(?:killed|exited)", re.IGNORECASE | re.DOTALL)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn an exhausted machine inside into a TrainingError; every other error passes.

    `what` says what is being tried and how large it is: `training on a batch of 8 films at 768 x 768`.
    """
    try:
        yield
    except CephError:
        raise
    except Exception as error:
        found = explain(error, what)
        if found is None:
            raise
        raise found from error


def explain(error: BaseException, what: str) -> TrainingError | None:
    """The TrainingError that tells of an exhausted machine; None where `error` is of another kind."""
    text = str(error)
    said = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)[:200]
    if _SHARED.search(text) and isinstance(error, RuntimeError | OSError):
        return TrainingError(
            f"the shared memory (/dev/shm) is full while {what}: {said}",
            hint="lower data.workers or train.batch_size, or data.workers=0 to do without; "
            "in a container give it more (docker run --shm-size=2g)",
        )
    if _WORKER.search(text):
        return TrainingError(
            f"a loader worker died while {what}: {said}",
            hint="memory, or the shared memory of /dev/shm, ran out, or somebody ended it: lower data.workers "
            "(0 loads in the training process) or train.batch_size, and go on with --resume",
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _MEMORY.search(text):
        return TrainingError(
            f"out of memory while {what}: {said}",
            hint="lower train.batch_size (raise train.accumulate as much, and the steps stay alike), then data.size, "
            "then model.width; train.precision=bf16 halves the maps",
        )
    return None
