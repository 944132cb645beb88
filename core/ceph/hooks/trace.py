"""What plugins cost: the time spent in each hook, each plugin's share of a training step, and a trace of the calls.

All times are wall times on the CPU of the process that trains. A GPU works on after a call has returned, so there the
time of a call is that of launching its work. What a plugin's answer costs later is not in it: the backward pass of a
loss term, the drawing of its warps. Calls in the loader's worker processes (`truth`) are neither timed nor traced.

The times are always taken: a call is 0.26 microseconds dearer for it (a `tell` of one plugin, 0.91 instead of 0.65, on
the CPU that the README's figures are from). They are in no checkpoint, and a trace changes no result.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Hooks that are made while this logger is at DEBUG trace their calls to it; the run's log.txt gets them too.
log = logging.getLogger("ceph.trace")

STEP_HOOKS = ("landmark_mask", "pixel_weights", "landmark_weights", "landmark_losses", "loss_terms", "step_end")
IN_STEP = (*STEP_HOOKS, "truth", "extras")  # the last two: where films are loaded in the process that trains
NOTE = (
    "wall time on the CPU in the process that trains, since it began or went on; on a GPU that of launching the work; "
    "calls in loader workers are not in it"
)


@dataclass(slots=True)
class Spent:
    """What one plugin's calls of one hook took together."""

    calls: int = 0
    seconds: float = 0.0


def summary(spent: Mapping[str, Mapping[str, Spent]], steps: int, seconds: float) -> dict[str, Any]:
    """What `hooks.json` holds: calls and seconds of each plugin and hook, and the share of the training steps.

    `spent` is plugin -> hook -> time; `seconds` is what `steps` optimiser steps took, loading included (steps > 0).
    """
    plugins = {
        name: {
            "step_percent": 100 * sum(hooks[hook].seconds for hook in IN_STEP if hook in hooks) / seconds,
            "hooks": {hook: {"calls": s.calls, "seconds": s.seconds} for hook, s in hooks.items() if s.calls},
        }
        for name, hooks in spent.items()
    }
    return {"measured": NOTE, "steps": steps, "seconds": seconds, "plugins": plugins}


def share_line(found: Mapping[str, Any]) -> str:
    """`plugins: 1.3 % of a training step of 131 ms (hard-mining 1.2 %, weighted-loss 0.1 %)`, the costliest first."""
    shares = {name: plugin["step_percent"] for name, plugin in found["plugins"].items()}
    each = ", ".join(f"{name} {_percent(share)}" for name, share in sorted(shares.items(), key=lambda item: -item[1]))
    step_ms = 1000 * found["seconds"] / found["steps"]
    step = f"{step_ms:.0f} ms" if step_ms >= 100 else f"{step_ms:.3g} ms"
    return f"plugins: {_percent(sum(shares.values()))} of a training step of {step} ({each})"


def _percent(share: float) -> str:
    return "<0.1 %" if 0 < share < 0.05 else f"{share:.1f} %"


class Tracer:
    """Logs each call as it happens, and after an epoch what those of each hook took on average."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._epoch = ""
        self._steps = 0  # optimiser steps of the epoch that are over
        self._stepping = False  # the hook asked last is step_end
        self._sums: dict[tuple[str, str], Spent] = {}

    def asked(self, hook: str, arguments: Mapping[str, Any]) -> None:
        """The engine asks `hook`, whether or not a plugin answers: so the tracer knows where the run is."""
        self._steps += self._stepping
        self._stepping = hook == "step_end"
        if hook in ("epoch_start", "run_end") and self._here():
            self._sum_up()
        if hook == "epoch_start":
            self._epoch, self._steps = f"epoch {arguments['epoch'] + 1}", 0

    def answered(self, plugin: str, hook: str, seconds: float, answer: Any) -> None:
        """A plugin has answered."""
        if not self._here():
            return
        total = self._sums.setdefault((hook, plugin), Spent())
        total.calls += 1
        total.seconds += seconds
        step = f" step {self._steps + 1}" if hook in STEP_HOOKS else ""
        _line((self._epoch or "setup") + step, hook, plugin, seconds, given(answer))

    def _here(self) -> bool:
        return os.getpid() == self._process  # a forked loader worker has a copy of this object

    def _sum_up(self) -> None:
        for (hook, plugin), total in self._sums.items():
            if total.calls > 1:
                mean = total.seconds / total.calls
                _line(self._epoch or "setup", hook, plugin, mean, f"mean of {total.calls} calls")
        self._sums = {}


def _line(place: str, hook: str, plugin: str, seconds: float, what: str) -> None:
    log.debug("%-16s %-16s %-18s %9.3f ms  %s", place, hook, plugin, 1000 * seconds, what)


def given(answer: Any) -> str:
    """What an answer is, in a few words, without reading a tensor's values: `float32 [4, 29]`."""
    if answer is None:
        return "-"
    shape, kind = getattr(answer, "shape", None), type(answer).__name__
    if shape is not None and hasattr(answer, "dtype"):
        return f"{str(answer.dtype).removeprefix('torch.')} {list(shape)}"
    if isinstance(answer, Mapping):
        return f"{kind} {{{_few([f'{key}: {given(value)}' for key, value in answer.items()])}}}"
    if isinstance(answer, (bool, int, float, str)):
        return repr(answer)
    if isinstance(answer, (list, tuple)):
        return f"{kind} [{_few([given(value) for value in answer])}]"
    return kind


def _few(parts: Sequence[str]) -> str:
    return ", ".join([*parts[:4], *([f"... {len(parts)} in all"] if len(parts) > 4 else [])])


class _Stderr(logging.Handler):
    """Prints to what sys.stderr is at the moment: a live bar puts its own there, to print above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr)


@contextmanager
def traced() -> Iterator[None]:
    """Hooks that are made in this block print each call, its time and its answer's shape and dtype to stderr."""
    handler, level = _Stderr(), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
