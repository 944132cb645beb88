"""Helpers of the tests with several processes: real ones, started by torchrun, speaking gloo on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def start(ranks, *arguments):
    """`torchrun --nproc-per-node RANKS -m ceph ...`, started."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m", "ceph"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def launch(ranks, *arguments, timeout=300):
    """The same, to its end: (exit code, stdout, stderr)."""
    process = start(ranks, *arguments)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err


def written(config, path):
    """A config of the fixture `tiny` as a file."""
    path.write_text(json.dumps(config))
    return path


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
