"""How long the first answer takes: `python benchmarks/startup.py`, wall seconds of new processes, medians.

The last row is from the call of `ceph run` to the end of its first training step, on the embedded synthetic set.
"""

from __future__ import annotations

import argparse
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
    began = time.perf_counter()
    subprocess.run(call, check=True, capture_output=True)  # noqa: S603 - ceph itself
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    ways = {
        "ceph --help": (lambda: seconds([*CEPH, "--help"]), 0.4),
        "ceph plugins list": (lambda: seconds([*CEPH, "plugins", "list"]), 0.5),
        "first training step of ceph run": (first_step, 8),
    }
    print("| what | seconds | goal |\n|---|---|---|")
    for name, (way, goal) in ways.items():
        found = [way() for _ in range(given.rounds + 1)][1:]
        print(f"| {name} | {statistics.median(found):.2f} | <= {goal} |", flush=True)


if __name__ == "__main__":
    main()
