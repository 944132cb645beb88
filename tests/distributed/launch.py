"""Helpers of the tests with several processes: real ones, started by torchrun, speaking gloo on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from ceph.training import checkpoint

CEPH = ("-m", "ceph")
DOUBLE = (str(Path(__file__).with_name("double.py")),)


def start(ranks, *arguments, program=CEPH, **environment):
    """`torchrun --nproc-per-node RANKS -m ceph ...`, started."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks))
    command = [sys.executable, *torchrun, *program]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        start_new_session=True,
    )


def launch(ranks, *arguments, timeout=600, program=CEPH, **environment):
    """The same, to its end: (exit code, stdout, stderr)."""
    process = start(ranks, *arguments, program=program, **environment)
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


def until(run, epochs, timeout=300):
    """Wait until a run has its first checkpoint and so many epochs."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if (run / "checkpoints" / f"{checkpoint.LAST}.sha256").exists():
            file = run / "metrics.jsonl"
            if epochs == 0 or (file.exists() and len(file.read_text().splitlines()) >= epochs):
                return
        time.sleep(0.02)
    raise TimeoutError(f"{run} has not come to epoch {epochs}")


def ranks_of(job):
    """The processes of a job that train: rank -> process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = dict(v.split("=", 1) for v in (folder / "environ").read_text().split("\0") if "=" in v)
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, UnicodeDecodeError):
            continue
        if parent == job.pid and "RANK" in variables:
            found[int(variables["RANK"])] = int(folder.name)
    return found
