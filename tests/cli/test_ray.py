"""On a real ray cluster of three nodes on this machine: what a lost worker or node leaves undone goes on elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.cli.test_ablate_cli import call, command
from tests.cli.test_run_cli import TINY
from tests.training.runs import last_weights, same_weights

from ceph.cli.app import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'ceph-trainer[ray]'"),
]

# A head that runs nothing, and two nodes of one core each; it ends with its input.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
for _ in range(2):
    cluster.add_node(num_cpus=1)
print("at", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture
def address():
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield next(line.split()[1] for line in process.stdout if line.startswith("at "))
    process.communicate(timeout=120)


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def trains(run, process):
    """The process that trains `run`, once it has an epoch."""
    while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    text = f"--out {run}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text in (folder / "cmdline").read_bytes().replace(b"\0", b" "):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"nobody trains {run}")


@pytest.mark.parametrize("lost", ["worker", "node"])
def test_the_runs_of_a_lost_worker_or_node_go_on_elsewhere_to_the_same_bits(tiny_set, tmp_path, address, lost):
    epochs = ("--set", "train.epochs=6")
    out = tmp_path / "out"
    words = call(tiny_set, out, "--plugin", "hard-mining", "--seeds", "1", "--on", "ray", *epochs)
    process = subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ADDRESS": address},
    )
    victim = trains(out / "none" / "s0", process)
    worker = parent(victim)
    gone = [worker] if lost == "worker" else [parent(worker), worker]  # a node that is lost takes all with it
    for pid in gone:
        os.kill(pid, signal.SIGKILL)
    text, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert text.count("validation MRE") == 2
    assert f"$ ceph run --resume {out}/none/s0" in (out / "none" / "s0.log").read_text()
    settings = [word for setting in (*TINY, "train.epochs=6") for word in ("--set", setting)]
    alone = ["run", "--data", str(tiny_set), *settings, "--seed", "0", "--out", str(tmp_path / "alone")]
    assert main(alone) == 0
    assert same_weights(last_weights(out / "none" / "s0"), last_weights(tmp_path / "alone"))


def test_folds_of_a_lost_worker_go_on_elsewhere(tiny_set, tmp_path, address):
    settings = [word for setting in (*TINY, "train.epochs=6") for word in ("--set", setting)]
    out = tmp_path / "out"
    words = ["folds", "--data", str(tiny_set), *settings, "--folds", "2", "--out", str(out), "--on", "ray"]
    process = subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ADDRESS": address},
    )
    run = out / "members" / "fold-1"
    os.kill(parent(trains(run, process)), signal.SIGKILL)
    text, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert text.count("validation MRE") == 2
    assert f"$ ceph run --resume {run}" in run.with_suffix(".log").read_text()
    assert (out / "predictions-out-of-fold.csv").is_file()
