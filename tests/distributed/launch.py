"""Helpers of the tests with several processes: real ones, started by torchrun, speaking gloo on the CPU."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from ceph.cli.app import main
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


def forked(ranks, *arguments, folder):
    """The same in forks of this process, without torchrun and its imports: (exit codes, [stdout], [stderr])."""
    import accelerate  # noqa: F401 - once for all of them

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    told = [[folder / f"{name}-{rank}" for rank in range(ranks)] for name in ("out", "err")]
    fork = multiprocessing.get_context("fork")
    jobs = [fork.Process(target=_rank, args=(r, ranks, port, list(map(str, arguments)), *told)) for r in range(ranks)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(600)
        job.kill()
    return [job.exitcode for job in jobs], *([file.read_text() for file in files] for files in told)


def _rank(rank, ranks, port, words, out, err):
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{ranks}", "LOCAL_WORLD_SIZE": f"{ranks}"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}", "OMP_NUM_THREADS": "1"}
    with out[rank].open("w") as sys.stdout, err[rank].open("w") as sys.stderr:
        sys.exit(main(words))


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
