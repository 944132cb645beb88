"""What a recipe's minutes buy: how long until the validation MRE is near what the first recipe ends at.

    python benchmarks/time_to.py OUT --data FOLDER --set data.mm_per_px=0.1 --recipe quick --recipe sharp --seeds 0 1 2

A recipe is a preset, perhaps with settings of its own ("sharp data.size=[320,256]"). Each is trained with each seed,
in turns, one process at a time; a run that is done is not done again. The targets are the median of the first recipe's
last validation MRE plus 0.10 and 0.02 mm, as training sees it (films at one scale). Minutes are from the start of the
process to the end of the first epoch that is as good, by the clock and of all cores; those by the clock mean nothing
on a machine that does something else.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ceph.report.progress import Silent

BEYOND_MM = (0.10, 0.02)
TIMES = "times.json"


class Timed(Silent):
    """Keeps of each epoch the minutes since `began` (by time.time), by the clock and of all cores, and the MRE."""

    def __init__(self, began: float) -> None:
        self.began, self.epochs = began, list[list[float]]()

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Keep the epoch."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cores = sum(each.ru_utime + each.ru_stime for each in used)
        self.epochs.append([(time.time() - self.began) / 60, cores / 60, record["validation"]["mre_mm"]])


def train(recipe: str, seed: int, settings: list[str], out: Path, began: float) -> None:
    """Train one run, in a process of its own."""
    import ceph
    from ceph.config.load import from_values

    watcher, (preset, *own) = Timed(began), recipe.split()
    ceph.train(from_values({}, preset=preset, settings=[*settings, *own], seed=seed), out=out, watcher=watcher)
    (out / TIMES).write_text(json.dumps(watcher.epochs), encoding="utf-8")


def reached(epochs: list[list[float]], target_mm: float) -> list[float]:
    """Minutes by the clock and of all cores to the first epoch that is as good as the target; [inf, inf]: none is."""
    return next((minutes for *minutes, mre_mm in epochs if mre_mm <= target_mm), [float("inf")] * 2)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", action="append", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    settings = [f"data.path={json.dumps(given.data)}", *given.set]
    runs = {(recipe, s): given.out / recipe.replace(" ", "_") / str(s) for s in given.seeds for recipe in given.recipe}
    for (recipe, seed), out in runs.items():
        if not (out / TIMES).exists():
            shutil.rmtree(out, ignore_errors=True)  # its minutes are lost with the process that was stopped
            call = (recipe, seed, settings, out, time.time())
            process = multiprocessing.get_context("spawn").Process(target=train, args=call)
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{out} failed")
    epochs = {run: json.loads((out / TIMES).read_text(encoding="utf-8")) for run, out in runs.items()}
    last = {recipe: statistics.median(epochs[recipe, s][-1][2] for s in given.seeds) for recipe in given.recipe}
    print("| recipe | last MRE mm | minutes | " + " | ".join(f"to {b:+.2f} mm" for b in BEYOND_MM) + " |")
    print("|---|---:|---:|" + "---:|" * len(BEYOND_MM))
    for recipe in given.recipe:
        ends = [epochs[recipe, seed][-1][:2] for seed in given.seeds]
        times = [[reached(epochs[recipe, s], last[given.recipe[0]] + b) for s in given.seeds] for b in BEYOND_MM]
        print(f"| {recipe} | {last[recipe]:.3f} | " + " | ".join(map(told, [ends, *times])) + " |")


def told(minutes: list[list[float]]) -> str:
    """The median over seeds, by the clock and of all cores."""
    clock, cores = (statistics.median(column) for column in zip(*minutes, strict=True))
    return f"{clock:.1f} ({cores:.1f} of cores)"


if __name__ == "__main__":
    main()
