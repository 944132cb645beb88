"""Who trains many runs: processes of this machine or tasks of a ray cluster, each an ordinary `ceph run`."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ceph.errors import ConfigError
from ceph.files import appending
from ceph.runfolder import has_checkpoint, is_locked, is_run, predictions_file, read_state
from ceph.stop import StopRequest

HELD_SECONDS = 60
RETRIES = 3  # of a task whose worker or node is lost; a run that fails is not tried again
Call = Callable[[Sequence[str], Path, Path, Mapping[str, str]], int]  # (command, folder to be in, log, env) -> code


@dataclass(frozen=True)
class Task:
    """One run of a cell: its folder, the words after `ceph` that make it, and the splits to score it on."""

    cell: str
    seed: int
    folder: Path
    words: tuple[str, ...]
    splits: tuple[str, ...] = ()
    threads: int | None = None
    cwd: Path = Path()  # paths above are relative to it

    @property
    def name(self) -> str:
        """`hard-mining/s0`."""
        return f"{self.cell}/s{self.seed}"

    @property
    def log(self) -> Path:
        """Where its output goes, beside the run folder."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def is_trained(self) -> bool:
        """Whether the run has finished."""
        where = self.cwd / self.folder
        return is_run(where) and has_checkpoint(where) and read_state(where).state == "finished"

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_trained() and not self._unscored()

    def steps(self) -> Iterator[list[str]]:
        """The commands that are still to run, as words after `ceph`; each is asked for when the one before is done."""
        where = self.cwd / self.folder
        if not self.is_trained():
            if has_checkpoint(where):
                yield ["run", "--resume", str(self.folder)]
            else:
                shutil.rmtree(where, ignore_errors=True)  # it ended before its first checkpoint: nothing is lost
                yield [*self.words, "--seed", str(self.seed), "--out", str(self.folder)]
        for split in self._unscored():
            yield ["evaluate", str(self.folder), "--split", split]

    def _unscored(self) -> list[str]:
        return [s for s in self.splits if not predictions_file(self.cwd / self.folder, s).is_file()]


@dataclass(frozen=True)
class Outcome:
    """How a task ended: the exit code of its last command, and the minutes that it trained."""

    code: int
    minutes: float


def execute(task: Task, call: Call) -> Outcome:
    """Do what is left of a task."""
    log = task.cwd / task.log
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {"COLUMNS": "120", **os.environ}
    if task.threads is not None:
        environment["OMP_NUM_THREADS"] = str(task.threads)
    minutes = 0.0
    _wait_for_release(task.cwd / task.folder)
    for words in task.steps():
        began = time.monotonic()
        code = call([sys.executable, "-m", "ceph.cli.tied", *words], task.cwd, log, environment)
        minutes += (time.monotonic() - began) / 60 if words[0] == "run" else 0.0
        if code:
            return Outcome(code, minutes)
    return Outcome(0, minutes)


def _wait_for_release(folder: Path) -> None:
    """Wait until the run of a call that was killed has ended; after a minute the command itself says who holds it."""
    until = time.monotonic() + HELD_SECONDS
    while is_locked(folder) and time.monotonic() < until:
        time.sleep(0.2)


def begin(command: Sequence[str], cwd: Path, log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a command with its output at the end of `log`.

    It gets a session of its own: Ctrl-C in a terminal reaches a whole group, and a second signal ends a run at once.
    Its standard input is a pipe by which it learns that this process is gone (`ceph.cli.tied`).
    """
    with appending(log) as file:
        file.write(f"$ ceph {shlex.join(command[3:])}\n".encode())
        file.flush()
        return subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True
        )


def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a command, and let go of its pipe only then; its exit code."""
    try:
        return process.wait()
    finally:
        if process.stdin:
            process.stdin.close()


class Pool(Protocol):
    """Takes tasks, and stops them on a signal so that each leaves a checkpoint."""

    def submit(self, task: Task) -> Future[Outcome]:
        """Begin a task."""

    def stop(self, number: int) -> None:
        """Pass a signal on to all that runs."""

    def close(self) -> None:
        """Let go of what the pool holds."""


class Local:
    """`jobs` processes at a time on this machine."""

    def __init__(self, jobs: int) -> None:
        self.threads = ThreadPoolExecutor(jobs)
        self.lock, self.live, self.signal = threading.Lock(), set[subprocess.Popen[bytes]](), 0

    def submit(self, task: Task) -> Future[Outcome]:
        """Begin a task in a thread that waits for its processes."""
        return self.threads.submit(execute, task, self._call)

    def stop(self, number: int) -> None:
        """Pass the signal on, and start nothing any more."""
        with self.lock:
            self.signal = number
            for process in self.live:
                process.send_signal(number)

    def close(self) -> None:
        """End the threads, which have nothing left to wait for."""
        self.threads.shutdown()

    def _call(self, command: Sequence[str], cwd: Path, log: Path, env: Mapping[str, str]) -> int:
        with self.lock:
            if self.signal:
                return 128 + self.signal
            process = begin(command, cwd, log, env)
            self.live.add(process)
        try:
            return ended(process)
        finally:
            with self.lock:
                self.live.discard(process)


class Ray:
    """Tasks of a ray cluster, found as ray finds it (RAY_ADDRESS), else one on this machine.

    What a worker or a node that is lost leaves undone goes on elsewhere, from its last checkpoint. Every node must have
    ceph installed and see the same files under the same paths.
    """

    def __init__(self, device: str) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError("ray is not installed", key="--on", hint="pip install 'ceph-trainer[ray]'") from None
        self.ray, self.tasks = ray, list[Any]()
        ray.init(log_to_driver=False, logging_level="warning", ignore_reinit_error=True)
        self.gpus = int(device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) >= 1)

    def submit(self, task: Task) -> Future[Outcome]:
        """Queue a task; ray places it on a node with a free GPU, or with free cores."""
        remote = self.ray.remote(_execute_on_ray).options(
            num_cpus=task.threads or 1, num_gpus=self.gpus, max_retries=RETRIES, name=task.name
        )
        self.tasks.append(remote.remote(task))
        future: Future[Outcome] = self.tasks[-1].future()
        return future

    def stop(self, number: int) -> None:
        """Interrupt every task."""
        del number
        for task in self.tasks:
            self.ray.cancel(task)

    def close(self) -> None:
        """Leave the cluster."""
        self.ray.shutdown()


def _execute_on_ray(task: Task) -> Outcome:
    def call(command: Sequence[str], cwd: Path, log: Path, env: Mapping[str, str]) -> int:
        process = begin(command, cwd, log, env)
        try:
            while process.poll() is None:
                time.sleep(0.2)  # ray cancels by a KeyboardInterrupt between two lines of Python
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)  # SIGINT is blocked in what ray starts
            ended(process)
            raise
        return ended(process)

    return execute(task, call)


def drive(
    tasks: Sequence[Task], pool: Pool, jobs: int, stop: StopRequest, tell: Callable[[Task, Outcome], None]
) -> None:
    """Run the tasks, at most `jobs` at a time, and `tell` how each ended; a request to stop is passed on once."""
    waiting, running, told = deque(tasks), dict[Future[Outcome], Task](), False
    while running or (waiting and not stop):
        while waiting and len(running) < jobs and not stop:
            task = waiting.popleft()
            running[pool.submit(task)] = task
        if stop and not told:
            pool.stop(stop.signal)
            told = True
        for future in wait(running, timeout=0.2, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            fault = future.exception()
            if fault is not None and not stop:
                with appending(task.cwd / task.log) as log:
                    log.write(f"{type(fault).__name__}: {fault}\n".encode())
            tell(task, future.result() if fault is None else Outcome(1, 0.0))
