"""`ceph ablate` from Python: check the call, train what is missing, report what is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ceph.ablation import cells as cell_calls
from ceph.ablation.costs import how_made
from ceph.ablation.design import Design, cell_plugins, cells, families
from ceph.ablation.effects import finished, hardest_landmarks, split_report
from ceph.ablation.workers import Local, Outcome, Pool, Ray, Task, drive
from ceph.config.load import Resolved
from ceph.errors import CephError, ConfigError, Interrupted, Problem, nearest
from ceph.report.ablation import SplitReport, markdown
from ceph.run.assembly import make_hooks
from ceph.run.films import read_data
from ceph.runfolder import locked, read_figures, write_json
from ceph.training.stop import stop_between_steps

VALIDATION = "validation"


@dataclass(frozen=True)
class Ablation:
    """What was asked for. `common` holds the arguments of `ceph run` that all cells share, `plugins` what varies."""

    common: cell_calls.RunCall
    plugins: tuple[str, ...]
    design: Design = "leave-one-out"
    seeds: int = 3
    out: Path = Path("runs/ablation")
    splits: tuple[str, ...] = ()
    hardest: int = 5
    landmarks: tuple[str, ...] = ()
    jobs: int | None = None
    on: Literal["local", "ray"] = "local"


@dataclass(frozen=True)
class Findings:
    """The reports of the splits, validation first, the page that holds them, and the runs that failed.

    Reports are of the seeds that every cell has finished; without such a seed there are none.
    """

    reports: tuple[SplitReport, ...] = ()
    page: str = ""
    failed: tuple[Task, ...] = ()

    def raise_failures(self) -> None:
        """Raise CephError naming the failed runs and their logs, if there are any."""
        if self.failed:
            hint = "mend it and give the same command again: what is done is kept"
            raise CephError([Problem(f"{task.name} failed: see {task.log}", hint=hint) for task in self.failed])


@dataclass
class Told:
    """Prints a line for each run that ends, with the time that is left."""

    say: Callable[[str], None]
    jobs: int
    done: int
    total: int
    record: dict[str, Any]
    out: Path
    spent: list[float] = field(default_factory=list)
    failed: list[Task] = field(default_factory=list)
    stopped: bool = False

    def __call__(self, task: Task, outcome: Outcome) -> None:
        """Note how a run ended."""
        minutes = self.record["minutes"].get(task.name, 0.0) + outcome.minutes
        self.record["minutes"][task.name] = round(minutes, 4)
        write_json(self.out / cell_calls.RECORD, self.record)
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


def ablate(asked: Ablation, say: Callable[[str], None] = lambda _: None) -> Findings:
    """Train the cells that are missing, one run folder `out/<cell>/s<seed>` each, and report.

    A run that fails does not stop the others. Raises ConfigError or DataError before anything is trained; Interrupted
    with the signal that stopped it, after each run has its checkpoint.
    """
    named = cell_calls.plan(asked.common, asked.plugins)
    names = cells(asked.design, named.plugins)
    base, found = cell_calls.resolve_all(named, [cell_plugins(name) for name in names])
    check_data(base, asked)
    record = cell_calls.open_folder(asked.out, cell_calls.describe(base, found, named.plugins))
    seeds = tuple(range(base.config.train.seed, base.config.train.seed + asked.seeds))
    with locked(asked.out):
        failed = train(asked, named, names, seeds, base.config.train.device, record, say)
    whole = [s for s in seeds if all(finished(asked.out, name, s, (VALIDATION, *asked.splits)) for name in names)]
    return replace(report(asked, names, whole, record) if whole else Findings(), failed=tuple(failed))


def check_data(base: Resolved, asked: Ablation) -> None:
    """Read the set's annotations, to refuse a wrong split or landmark before hours of training."""
    data = read_data(base.config, make_hooks(base))
    there = sorted({sample.split for sample in data.samples})
    for split in asked.splits:
        if split not in there:
            raise ConfigError(f"the set has no split {split!r}", key="--split", hint=nearest(split, there))
    for symbol in asked.landmarks:
        if symbol not in data.landmarks:
            raise ConfigError(
                f"the set has no landmark {symbol!r}", key="--landmarks", hint=nearest(symbol, data.landmarks)
            )


def train(
    asked: Ablation,
    named: cell_calls.Cells,
    names: Sequence[str],
    seeds: Collection[int],
    device: str,
    record: dict[str, Any],
    say: Callable[[str], None],
) -> list[Task]:
    """Train and score what is missing; the tasks that failed."""
    jobs, threads = workforce(asked, len(names) * len(seeds), device)
    every = [
        Task(
            cell,
            seed,
            asked.out / cell / f"s{seed}",
            tuple(named.call(cell_plugins(cell)).words()),
            (VALIDATION, *asked.splits),
            threads,
            Path.cwd(),
        )
        for seed in seeds
        for cell in names
    ]
    left = [task for task in every if not task.is_done()]
    each = f" with {threads} thread{'s' if threads != 1 else ''} each" if threads else ""
    size = f"{len(every)} runs ({len(names)} cells, seeds {', '.join(map(str, seeds))})"
    say(f"{size}, {len(every) - len(left)} done; {jobs} at a time{each}")
    if not left:
        return []
    told = Told(say, jobs, len(every) - len(left), len(every), record, asked.out)
    with closing(pool_for(asked, jobs, device)) as pool, stop_between_steps() as stop:

        def tell(task: Task, outcome: Outcome) -> None:
            told.stopped = bool(stop)
            told(task, outcome)

        drive(left, pool, jobs, stop, tell)
        if stop:
            raise Interrupted(
                "stopped; what was running has its checkpoint", signal=stop.signal, hint="the same command goes on"
            )
    return told.failed


def pool_for(asked: Ablation, jobs: int, device: str) -> Pool:
    """Who trains."""
    return Ray(device) if asked.on == "ray" else Local(jobs)


def workforce(asked: Ablation, runs: int, device: str) -> tuple[int, int | None]:
    """How many runs at a time, and the threads of each (None: as torch likes).

    On a CPU each run has its share of the cores; a GPU trains one run at a time; ray knows its own machines.
    """
    if asked.on == "ray":
        return asked.jobs or runs, None
    on_cpu = device == "cpu" or (
        device == "auto" and not torch.cuda.is_available() and not torch.backends.mps.is_available()
    )
    if not on_cpu:
        return asked.jobs or 1, None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = asked.jobs or max(min(cores, runs), 1)
    return jobs, max(cores // jobs, 1)


def report(asked: Ablation, names: Sequence[str], seeds: Sequence[int], record: dict[str, Any]) -> Findings:
    """Validation and every wanted split."""
    effects = families(asked.design, {p for name in names for p in cell_plugins(name)})
    hardest = hardest_landmarks(asked.out, names, seeds, asked.hardest, asked.landmarks)
    splits = dict.fromkeys((VALIDATION, *asked.splits))
    reports = tuple(
        split_report(asked.out, split, names, seeds, effects, hardest, record["minutes"]) for split in splits
    )
    made = how_made(asked.out, names, seeds, record)
    return Findings(reports, markdown(f"Ablation ({asked.design})", made, reports))
