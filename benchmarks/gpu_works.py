"""The part `works` of `benchmarks/gpu.py`: the tests marked `gpu`, a row each; dry, the same bodies on the CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from gpu_table import Given, Table


class Rows:
    """A pytest plugin that writes each test's outcome at once."""

    def __init__(self, table):
        self.table = table

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            why = ""
            if report.failed:
                why = str(report.longrepr).strip().splitlines()[-1][:160].replace("|", "/")
            elif report.skipped:
                why = report.longrepr[2]
            self.table.add(report.nodeid.rpartition("::")[2], report.outcome, round(report.duration, 1), why)


def main():
    given = Given()
    table = Table(given.out, "works", ["test", "outcome", "seconds", "why"])
    root = Path(__file__).resolve().parent.parent
    marks = "not gpu" if given.dry else "gpu"
    # What another version of a package warns of is no fault of a GPU.
    options = ["-m", marks, "--rootdir", str(root), "-p", "no:cacheprovider", "-W", "default"]
    options += ["-n", "2" if given.dry else "8", "--dist", "worksteal"]
    sys.exit(pytest.main([str(root / "tests" / "gpu" / "test_gpu.py"), *options], plugins=[Rows(table)]))


if __name__ == "__main__":
    main()
