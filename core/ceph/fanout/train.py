"""Train what is missing of many runs, some at a time, and say how each ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ceph.errors import CephError, Interrupted, Problem
from ceph.fanout.workers import Local, Outcome, Pool, Ray, Task, drive
from ceph.runfolder import read_figures, write_json
from ceph.stop import stop_between_steps

VALIDATION = "validation"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Workforce:
    """Who trains: `jobs` runs at a time (None: as many as suit), on this machine or on a ray cluster."""

    device: str = "auto"
    jobs: int | None = None
    on: Literal["local", "ray"] = "local"

    def share(self, runs: int) -> tuple[int, int | None]:
        """How many of so many runs at a time, and the threads of each (None: as torch likes).

        On a CPU each run has its share of the cores; a GPU trains one run at a time; ray knows its own machines.
        """
        if self.on == "ray":
            return self.jobs or runs, None
        on_cpu = self.device == "cpu" or (
            self.device == "auto" and not torch.cuda.is_available() and not torch.backends.mps.is_available()
        )
        if not on_cpu:
            return self.jobs or 1, None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jobs = self.jobs or max(min(cores, runs), 1)
        return jobs, max(cores // jobs, 1)

    def pool(self, jobs: int) -> Pool:
        """The processes or the cluster."""
        return Ray(self.device) if self.on == "ray" else Local(jobs)


@dataclass
class Told:
    """Prints a line for each run that ends, with the time that is left, and keeps its minutes in the record."""

    say: Say
    jobs: int
    done: int
    total: int
    record: dict[str, Any]
    file: Path
    spent: list[float] = field(default_factory=list)
    failed: list[Task] = field(default_factory=list)
    stopped: bool = False

    def __call__(self, task: Task, outcome: Outcome) -> None:
        """Note how a run ended."""
        minutes = self.record["minutes"].get(task.name, 0.0) + outcome.minutes
        self.record["minutes"][task.name] = round(minutes, 4)
        write_json(self.file, self.record)
        if outcome.code and self.stopped:
            return
        self.done += 1
        head = f"[{self.done:>{len(str(self.total))}}/{self.total}] {task.name}: "
        if outcome.code:
            self.failed.append(task)
            self.say(f"{head}failed, see {task.log}")
            return
        mre = read_figures(task.folder)[VALIDATION]["mre_mm"]
        self.say(
            f"{head}{minutes:.1f} min, validation MRE {'-' if mre is None else f'{mre:.3f}'} mm{self.left(outcome)}"
        )

    def left(self, outcome: Outcome) -> str:
        """About how long the rest takes, by the runs that were trained so far."""
        self.spent += [outcome.minutes] if outcome.minutes else []
        if not self.spent or self.done == self.total:
            return ""
        minutes = (self.total - self.done) * sum(self.spent) / len(self.spent) / self.jobs
        return f"; about {minutes:.0f} min left"


def train_all(
    tasks: Sequence[Task], force: Workforce, record: dict[str, Any], file: Path, say: Say, *, what: str
) -> list[Task]:
    """Train and score what is missing of `tasks`, which are `what`; the tasks that failed do not stop the others.

    Minutes are kept in `record`, which is written to `file`. Raises Interrupted with the signal that stopped it, after
    each run has its checkpoint.
    """
    jobs, threads = force.share(len(tasks))
    left = [replace(task, threads=threads) for task in tasks if not task.is_done()]
    each = f" with {threads} thread{'s' if threads != 1 else ''} each" if threads else ""
    say(f"{what}, {len(tasks) - len(left)} done; {jobs} at a time{each}")
    if not left:
        return []
    told = Told(say, jobs, len(tasks) - len(left), len(tasks), record, file)
    with closing(force.pool(jobs)) as pool, stop_between_steps() as stop:

        def tell(task: Task, outcome: Outcome) -> None:
            told.stopped = bool(stop)
            told(task, outcome)

        drive(left, pool, jobs, stop, tell)
        if stop:
            raise Interrupted(
                "stopped; what was running has its checkpoint", signal=stop.signal, hint="the same command goes on"
            )
    return told.failed


def raise_failures(failed: Sequence[Task]) -> None:
    """Raise CephError naming the failed runs and their logs, if there are any."""
    if failed:
        hint = "mend it and give the same command again: what is done is kept"
        raise CephError([Problem(f"{task.name} failed: see {task.log}", hint=hint) for task in failed])
