"""`ceph ablate` from Python: check the call, train what is missing, report what is there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ceph.ablation import cells as cell_calls
from ceph.ablation.costs import how_made
from ceph.ablation.design import Design, cell_plugins, cells, families
from ceph.ablation.effects import finished, hardest_landmarks, split_report
from ceph.config.load import Resolved
from ceph.errors import ConfigError, nearest
from ceph.fanout.record import describe, open_record
from ceph.fanout.train import VALIDATION, Say, Workforce, raise_failures, train_all
from ceph.fanout.workers import Task
from ceph.report.ablation import SplitReport, markdown
from ceph.run.assembly import make_hooks
from ceph.run.films import read_data
from ceph.runfolder import locked


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
        raise_failures(self.failed)


def ablate(asked: Ablation, say: Say = lambda _: None) -> Findings:
    """Train the cells that are missing, one run folder `out/<cell>/s<seed>` each, and report.

    A run that fails does not stop the others. Raises ConfigError or DataError before anything is trained; Interrupted
    with the signal that stopped it, after each run has its checkpoint.
    """
    named = cell_calls.plan(asked.common, asked.plugins)
    names = cells(asked.design, named.plugins)
    base, found = cell_calls.resolve_all(named, [cell_plugins(name) for name in names])
    check_data(base, asked)
    record = open_record(asked.out / cell_calls.RECORD, describe(base, found, named.plugins))
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
    say: Say,
) -> list[Task]:
    """Train and score what is missing; the tasks that failed."""
    tasks = [
        Task(
            cell,
            seed,
            asked.out / cell / f"s{seed}",
            tuple(named.call(cell_plugins(cell)).words()),
            (VALIDATION, *asked.splits),
            cwd=Path.cwd(),
        )
        for seed in seeds
        for cell in names
    ]
    force = Workforce(device, asked.jobs, asked.on)
    what = f"{len(tasks)} runs ({len(names)} cells, seeds {', '.join(map(str, seeds))})"
    return train_all(tasks, force, record, asked.out / cell_calls.RECORD, say, what=what)


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
