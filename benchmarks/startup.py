"""How long the first answer takes: `python benchmarks/startup.py`, wall seconds of new processes, medians.

The first step of `ceph run` is timed to its end, on the embedded synthetic set; `--run RUN --film FILE` adds
`ceph predict` of one film; `import torch` alone is the floor under it. Seconds of CPU, user and system, stand beside
wall seconds: they tell more on a machine that others use; `x torch` is their ratio to `import torch`.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time

FIRST_STEP = """
import os, sys
from ceph.report import progress
class Ends(progress.Silent):
    def step(self, *_):
        os._exit(0)
progress.Live = progress.Lines = lambda *_a, **_k: Ends()
progress.Silent = Ends
from ceph.cli.app import main
main(["run", "--out", sys.argv[1], "--plugin", "weighted-loss"])
os._exit(1)
"""
CEPH = [sys.executable, "-m", "ceph"]


def first_step():
    with tempfile.TemporaryDirectory() as folder:
        return seconds([sys.executable, "-c", FIRST_STEP, f"{folder}/run"])


def seconds(call):
    began, cpu = time.perf_counter(), of_children()
    subprocess.run(call, check=True, capture_output=True)  # noqa: S603 - ceph itself
    return time.perf_counter() - began, of_children() - cpu


def of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--run", help="a run folder to predict with")
    parser.add_argument("--film", help="an image file to predict")
    given = parser.parse_args()
    ways = {
        "import torch": (lambda: seconds([sys.executable, "-c", "import torch"]), None),
        "ceph --help": (lambda: seconds([*CEPH, "--help"]), 0.4),
        "ceph plugins list": (lambda: seconds([*CEPH, "plugins", "list"]), 0.5),
        "ceph config show": (lambda: seconds([*CEPH, "config", "show"]), None),
        "first training step of ceph run": (first_step, 8),
    }
    if given.run and given.film:
        ways["ceph predict, one film"] = lambda: seconds([*CEPH, "predict", given.run, given.film]), 5
    print("| what | wall s | CPU s | x torch | goal, wall s |\n|---|---|---|---|---|")
    torch = None
    for name, (way, goal) in ways.items():
        found = [way() for _ in range(given.rounds + 1)][1:]
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        torch = torch or cpu
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {cpu / torch:.2f} | {f'<= {goal}' if goal else ''} |", flush=True)


if __name__ == "__main__":
    main()
