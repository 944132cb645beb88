"""The benchmark of a GPU comes to its last line on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["speed", "accuracy"])  # the tests of `works` run here by themselves
def test_a_part_goes_to_its_end_and_writes_its_table(part, tiny_set, tmp_path):
    command = [sys.executable, SCRIPT, "--data", tiny_set, "--out", tmp_path, "--dry-run", "--only", part]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + (tmp_path / "log.txt").read_text()[-2000:]
    assert f"{part}: to its end" in done.stdout
    rows = json.loads((tmp_path / f"{part}.json").read_text())["rows"]
    assert len(rows) >= 2
    assert (tmp_path / f"{part}.md").read_text().count("\n") == len(rows) + 4
