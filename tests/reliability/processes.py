"""Start, kill and await real processes of `ceph`; how often a fault is tried; and small runs to try it on."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from ceph.training import checkpoint

NURSERY = Path(__file__).with_name("nursery.py")
SETTINGS = (
    *("data.size=[64,64]", "model.backbone=test_resnet", "model.weights=none", "model.width=8"),
    *("train.batch_size=4", "train.precision=fp32", "train.device=cpu", "train.warmup_epochs=0.5"),
)
# Every built-in plugin that trains, but hard-only, set so that it acts in a run of a few steps; they go together.
SHELF = {
    "anisotropic-targets": ("spread=20",),
    "annotator-noise": (),
    "attention-head": (),
    "coordinate-loss": (),
    "ema": ("decay=0.5",),
    "fine-tune": ("layer_decay=0.5", "freeze=1", "freeze_epochs=1"),
    "hard-mining": ("warmup_epochs=1",),
    "heavy-augmentation": (),
    "multi-scale": ("scales=[0.5, 1.0]",),
    "shape-prior": ("warmup_epochs=0",),
    "tta": (),
    "weighted-loss": (),
}
HARD_ONLY = {**{name: values for name, values in SHELF.items() if name != "hard-mining"}, "hard-only": ()}
# The built-in plugins that only observe, as far as they are installed; trackio's curves go where `whole` says.
SINKS = {name: ("every=1",) for name in ("tensorboard", "trackio", "wandb", "mlflow") if importlib.util.find_spec(name)}


def tries(short: int, full: int):
    """Try a fault `short` times in `make test` and `full` times in `make soak`."""
    return pytest.mark.parametrize("tries", [short, pytest.param(full, marks=pytest.mark.slow)])


def shelf(plugins: Mapping[str, Sequence[str]] = SHELF) -> list[str]:
    """The words that switch these plugins on, with their settings."""
    on = [word for name in plugins for word in ("--plugin", name)]
    return [*on, *settings(*(f"plugins.{name}.{value}" for name, values in plugins.items() for value in values))]


def settings(*values: str) -> list[str]:
    """The words that set these `KEY=VALUE`s."""
    return [word for value in values for word in ("--set", value)]


def run_words(films: Path, out: Path, *more: str, epochs: int = 2, workers: int = 0) -> list[str]:
    """The words of a tiny run."""
    few = settings(*SETTINGS, f"train.epochs={epochs}", f"data.workers={workers}")
    return ["run", "--data", str(films), *few, *more, "--out", str(out)]


class Process:
    """A process of `ceph`; `code` after `wait` is negative where a signal ended it."""

    def __init__(self, pid: int, folder: Path, wait) -> None:
        self.pid, self.folder, self._wait = pid, folder, wait

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def signal_all(self, number: int) -> None:
        os.killpg(self.pid, number)

    def catches(self, number: int) -> bool:
        """Whether the program handles this signal by now."""
        caught = next(s for s in Path(f"/proc/{self.pid}/status").read_text().splitlines() if s.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (number - 1) & 1)

    def stopped(self) -> bool:
        """Whether a signal holds it where it is."""
        return "State:\tT" in Path(f"/proc/{self.pid}/status").read_text()

    def children(self) -> list[Process]:
        """The processes that it has started, its loader workers."""
        pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [Process(int(pid), self.folder, None) for pid in pids]

    def wait(self, seconds: float = 120) -> int:
        """The exit code; kills the process, and fails, where it does not end in time."""
        alarm = threading.Timer(seconds, lambda: os.killpg(self.pid, signal.SIGKILL))
        alarm.start()
        code = self._wait()
        assert alarm.is_alive(), f"did not end within {seconds} s: {self.errors()}"
        alarm.cancel()
        return code

    def errors(self) -> str:
        return (self.folder / "err").read_text()


class Nursery:
    """Starts `ceph` in forks of a process that has imported it already."""

    def __init__(self, *words: str) -> None:
        self.running: set[int] = set()
        self.process = subprocess.Popen(
            [sys.executable, str(NURSERY), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"},
        )
        first = self.process.stdout.readline()
        if first != "0\n":
            self.close()
            raise RuntimeError(f"the first run of the nursery ended with {first!r}")

    def start(self, words, folder: Path, **order) -> Process:
        """Start `ceph WORDS`, its output in `folder`; nursery.py says what else an order may hold."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("out", "err"):
            (folder / name).touch()
            (folder / name).chmod(0o666)
        streams = {"out": str(folder / "out"), "err": str(folder / "err")}
        pid = self._ask({"words": words, **streams, **order})
        self.running.add(pid)
        return Process(pid, folder, lambda: self._end_of(pid))

    def run(self, words, folder: Path, **limits) -> tuple[int, str]:
        """Run `ceph WORDS` to its end: its code and what it printed on stderr."""
        process = self.start(words, folder, **limits)
        return process.wait(), process.errors()

    def _end_of(self, pid: int) -> int:
        code = self._ask({"wait": pid})
        self.running.discard(pid)
        return code

    def _ask(self, order) -> int:
        self.process.stdin.write(json.dumps(order) + "\n")
        return int(self.process.stdout.readline())

    def close(self) -> None:
        for pid in self.running:  # what a test that failed has left
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.stdin.close()
        self.process.kill()  # it has nothing to save, and takes its time to end on a busy machine
        self.process.wait()
        self.process.stdout.close()


def outside(words, folder: Path, *, prefix=(), env=None) -> Process:
    """Start `ceph WORDS` as a person does, as a new process, after the words of `prefix`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "out").open("ab") as out, (folder / "err").open("ab") as err:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "ceph", *words],
            stdout=out,
            stderr=err,
            start_new_session=True,
            env={**os.environ, "COLUMNS": "200", **(env or {})},
        )
    return Process(process.pid, folder, process.wait)


def wait_for(condition, seconds: float = 60) -> bool:
    """Look until `condition()` is true, at most so long."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(condition())


def began(run: Path) -> bool:
    """Whether a run has a checkpoint to go on from."""
    return (run / "checkpoints" / checkpoint.LAST).exists()


def one_message(errors: str) -> bool:
    """Whether a person saw one message and no traceback."""
    return errors.count("error: ") == 1 and "Traceback" not in errors
