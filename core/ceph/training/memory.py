"""What the machine ran out of: memory of the device or the host, shared memory, threads; and what to lower."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ceph.errors import CephError, DataError, PluginError, TrainingError, is_out_of_memory

# What to do about memory, by what is being tried: the setting that costs least comes first.
Remedy = tuple[str, ...]
TRAINING = (
    "lower train.batch_size (raise train.accumulate as much, and the steps stay alike)",
    "then data.size, then model.width",
    "train.precision=bf16 halves the maps",
)
NETWORK = ("lower model.width, or choose a smaller model.backbone",)
FREE = ("end other programs on this machine, or use one with more memory",)
ANYTHING = ("lower data.size or a batch size where one is set", *FREE)
LOADED = ("the network is as large as it was trained", *FREE)

_SHARED = re.compile(r"shared memory|/torch_|bus error", re.IGNORECASE)
_WORKER = re.compile(r"DataLoader worker.*(?:killed|exited)", re.IGNORECASE | re.DOTALL)
_THREADS = re.compile(r"can't start new thread|resource temporarily unavailable", re.IGNORECASE)


def predicting(films: int, scales: int = 1) -> Remedy:
    """What to lower where batches of so many `films` are predicted at so many `scales`."""
    rest = "data.size" + " or the number of evaluate.scales" * (scales > 1)
    return ("lower evaluate.batch_size", f"then {rest}") if films > 1 else (f"lower {rest}",)


@contextmanager
def explained(what: str, lower: Remedy = TRAINING) -> Iterator[None]:
    """Turn an exhausted machine inside into a TrainingError; every other error passes.

    `what` says what is being tried and how large it is: `training a batch of 8 films at 768x768 px`; `lower` what to
    do where memory is short. A plugin or a library that only met it is not blamed; the plugin is named.
    """
    try:
        yield
    except (TrainingError, DataError):  # those that read a film say themselves what it needs
        raise
    except Exception as error:
        found = explain(error, what, lower)
        if found is None:
            raise
        raise found from error


def explain(error: BaseException, what: str, lower: Remedy = TRAINING) -> TrainingError | None:
    """The TrainingError that tells of an exhausted machine; None where `error` is of another kind."""
    cause = _root(error)
    if isinstance(cause, CephError) and not isinstance(cause, PluginError):
        return None
    if isinstance(error, CephError) and not isinstance(error, PluginError) and not is_out_of_memory(cause):
        return None  # it says itself what is wrong
    text = str(cause)
    said = _first_line(cause)
    if isinstance(error, PluginError):
        said, lower = _first_line(error), (*lower, f"else {error.problems[0].hint}")
    if _SHARED.search(text) and isinstance(cause, RuntimeError | OSError):
        return TrainingError(
            f"the shared memory (/dev/shm) is full while {what}: {said}",
            hint=f"lower data.workers (0 does without it), or {lower[0]}; "
            "in a container give it more (docker run --shm-size=2g)",
        )
    if _WORKER.search(text):
        return TrainingError(
            f"a loader worker died while {what}: {said}",
            hint="memory, or the shared memory of /dev/shm, ran out, or somebody ended it: lower data.workers "
            f"(0 loads in this process), or {lower[0]}; a run goes on with --resume",
        )
    if _THREADS.search(text) and isinstance(cause, RuntimeError | OSError):
        return TrainingError(
            f"no more threads or processes can be started while {what}: {said}",
            hint="lower data.workers (0 starts none), end other programs, or raise the limit (ulimit -u; in a "
            "container docker run --pids-limit)",
        )
    if is_out_of_memory(cause):
        return TrainingError(f"out of memory while {what}: {said}", hint="; ".join(lower))
    return None


def _root(error: BaseException) -> BaseException:
    """What an error for a person tells of, where that is known: it is lost on the way from a loader worker."""
    while isinstance(error, CephError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
