"""The largest batch that trains on the device: real steps of growing batches, each no larger than an estimate allows.

The estimate is a line through the peaks of the last two steps. On a GPU running out is harmless, so the memory is taken
for what it is; on a CPU the kernel would end this process or another, so a tenth of what is free is left alone.
"""

from __future__ import annotations

import gc
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import torch

from ceph.config.load import Resolved
from ceph.data.loader import Loader
from ceph.data.plan import derive
from ceph.errors import is_out_of_memory
from ceph.run.assembly import make_forward
from ceph.run.prepare import prepare
from ceph.run.train import build, describe, new_network
from ceph.tools.bench import peak_memory_mb, wall
from ceph.training.engine import planned_epoch, train_step
from ceph.training.job import Job
from ceph.training.memory import TRAINING
from ceph.training.progress import Progress
from ceph.training.runtime import flushed_denormals

FIRST, MOST = 2, 512  # films; batch norms need two
SECONDS = 30.0  # no step that would take longer is begun
SPARE = 0.1  # of a CPU's free memory
NEAR = 16  # the answer is right to a sixteenth
NO_LIMIT = 2**62

Why = Literal["memory", "films", "time"]


@dataclass(frozen=True)
class Tried:
    """A training step of so many films, with the bytes that all was at its peak; None: memory ran out."""

    films: int
    taken: int | None
    seconds: float


@dataclass(frozen=True)
class LargestBatch:
    """What came of the tries, on which device, at which size (H, W), with `room` bytes for all, and why they ended."""

    device: str
    size: tuple[int, int]
    room: int
    tried: tuple[Tried, ...]
    why: Why

    @property
    def best(self) -> Tried | None:
        """The largest that trained."""
        return max((t for t in self.tried if t.taken is not None), key=lambda t: t.films, default=None)

    @property
    def remedy(self) -> str:
        """What to lower where nothing fits; empty where something does."""
        return "" if self.best else "; ".join(TRAINING[1:])

    def __str__(self) -> str:
        where = f"at {self.size[0]} x {self.size[1]} px on {self.device}"
        failed = min((t.films for t in self.tried if t.taken is None), default=0)
        if self.best is None or self.best.taken is None:
            return f"not even {failed} films {where} in {_gb(self.room)}"
        more = {
            "memory": f"{failed} ran out of memory" if failed else "by its growth more would not fit; none was tried",
            "films": "more were not tried",
            "time": f"more were not tried: a step would take over {SECONDS:.0f} s",
        }[self.why]
        return (
            f"{self.best.films} films {where}: a training step was tried and took {_gb(self.best.taken)} "
            f"of {_gb(self.room)}; {more}. Loader processes, validation and other programs need memory beside it, "
            "and were not measured"
        )


def largest_batch(resolved: Resolved, most: int = MOST) -> LargestBatch:
    """Train steps of growing batches, of at most `most` films, in this process; weights are random and nothing is kept.

    Films are those of the first epoch's plan, at the largest size that it has, again and again. Of several processes
    each has its share of a batch: this is what one of them trains. Raises what `ceph run` would before it trains.
    """
    with tempfile.TemporaryDirectory(prefix="ceph-batch-") as folder, flushed_denormals():
        prepared = prepare(resolved)
        torch.manual_seed(derive(resolved.config.train.seed, "weights"))
        job = build(prepared, new_network(prepared), Path(folder))
        job.model.train()
        job.hooks.tell("run_start", run=job.run, model=job.model)
        job.hooks.tell("epoch_start", epoch=0, model=job.model)
        device, progress, loader = job.runtime.device, Progress(), Loader(prepared.train, 0)
        batch = max(planned_epoch(job, progress).batches, key=lambda batch: math.prod(batch[0].size))
        if resolved.config.train.constant_pixels:  # other sizes have as many pixels as this one
            batch = tuple(entry._replace(size=job.run.size) for entry in batch)

        def step(films: int) -> tuple[int, float]:
            entries = list(islice(cycle(batch), films))
            _forget(job)
            forward = make_forward(resolved.config, prepared.hooks, job.runtime, job.model)  # without earlier graphs
            trial = replace(job, forward=forward)
            for _ in range(3 if device.type == "cuda" else 1 if job.optimizer.state else 2):  # graphs; AdamW's state
                items = list(loader.load([entries], progress.sampling))
                train = partial(train_step, trial, Progress(), iter(items), [films], epochs_done=0.0, last=False)
                seconds = wall(train, device)
            return taken(device), seconds

        room = room_of(device)
        tried, why = grow(step, room, most)
        return LargestBatch(describe(job.runtime), batch[0].size, room, tuple(tried), why)


def grow(step: Callable[[int], tuple[int, float]], room: int, most: int = MOST) -> tuple[list[Tried], Why]:
    """Call `step(films)`, which gives its peak in bytes and its seconds, or fails, until the largest that fits is near.

    Returns what was tried, in order, and why there is no more.
    """
    tried: list[Tried] = []
    films = min(FIRST, most)
    why: Why = "films"
    while films:
        try:
            tried.append(Tried(films, *step(films)))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            tried.append(Tried(films, None, 0.0))
        films, why = following(tried, room, most)
    return tried, why


def following(tried: Sequence[Tried], room: int, most: int) -> tuple[int, Why]:
    """How many films to try next; 0 and the reason where no more are to be tried."""
    good = sorted((t.films, t.taken, t.seconds) for t in tried if t.taken is not None)
    failed = min((t.films for t in tried if t.taken is None), default=0)
    if not good:
        return 0, "memory"
    fits, peak, seconds = good[-1]
    before, lower = good[-2][:2] if len(good) > 1 else (0, 0)
    growth = max((peak - lower) / (fits - before), 0.0)
    by_memory = fits + int((room - peak) / growth) if growth else most
    bounds: dict[Why, int] = {
        "films": most,
        "memory": min(by_memory, (fits + failed) // 2) if failed else by_memory,
        "time": int(SECONDS * fits / seconds) if seconds else most,
    }
    why = min(bounds, key=lambda name: bounds[name])
    films = min(2 * fits, bounds[why])
    enough = films - fits <= (fits // NEAR if why != "films" else 0)
    return (0, why) if enough else (films, why)


def room_of(device: torch.device) -> int:
    """The bytes that this process may take on a device, with those that it has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return taken(device) + int((1 - SPARE) * free_memory())


def taken(device: torch.device) -> int:
    """The most bytes that were taken since `_forget`; on a CPU by all of this process, since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return torch.mps.driver_allocated_memory() if device.type == "mps" else int(1e6 * peak_memory_mb(device))


def free_memory(system: Path = Path("/proc"), group: Path = Path("/sys/fs/cgroup")) -> int:
    """The bytes that the machine and its container leave to this process; NO_LIMIT where they do not tell.

    What `ulimit -v` leaves is found by running out of it, which harms nobody.
    """
    left = [NO_LIMIT]
    if (found := _numbers(system / "meminfo").get("MemAvailable:")) is not None:
        left.append(1024 * found)
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is not None and used is not None:
        left.append(limit - used + _numbers(group / "memory.stat").get("inactive_file", 0))
    return max(min(left), 0)


def _number(file: Path) -> int | None:
    """The first word of a file, where it is a number."""
    try:
        return int(file.read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _numbers(file: Path) -> dict[str, int]:
    """The second words of its lines, by the first."""
    try:
        lines = [line.split() for line in file.read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdecimal()}


def _forget(job: Job) -> None:
    """Let go of what an earlier step, or one that failed, left behind."""
    job.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if job.runtime.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(job.runtime.device)


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
