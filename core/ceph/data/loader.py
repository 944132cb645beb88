"""From a plan's batches to collated items: worker processes, their signals, and what is wrong with a film."""

from __future__ import annotations

import multiprocessing.queues
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ceph.data.dataset import Films, Item, State, collate
from ceph.data.plan import Entry
from ceph.errors import CephError

GRACE_S = 20  # for a training process that was told to end: its step, and the checkpoint
HANGUP = getattr(signal, "SIGHUP", signal.SIGINT)  # a closed terminal
HELD_BACK = (signal.SIGINT, signal.SIGTERM, HANGUP)  # while workers are started


class _Request(NamedTuple):
    """A batch to load, in which epoch; `state` is that of the epoch, for a process that has not been given it yet."""

    entries: Sequence[Entry]
    epoch: int
    state: State | None


class _Told(Dataset[Item | CephError]):
    """Films, or what is wrong with them: raised in a worker, an error would reach a person inside its traceback."""

    def __init__(self, films: Films) -> None:
        self.films = films
        self.epoch = 0

    def __getitems__(self, request: _Request) -> list[Item | CephError]:
        try:
            if request.state is not None and self.films.begin is not None:
                self.films.augmentation = self.films.begin(request.state)
                self.epoch = request.epoch
            elif request.epoch != self.epoch:
                raise RuntimeError("a loader worker was not given the state with which the epoch began")
            return [self.films[entry] for entry in request.entries]
        except CephError as error:
            return [error]


def _item(found: Item | CephError) -> Item:
    if isinstance(found, CephError):
        raise found
    return found


def _collate_told(found: Sequence[Item | CephError]) -> Item | CephError:
    return next((f for f in found if isinstance(f, CephError)), None) or collate([_item(f) for f in found])


class _Planned(Sampler[_Request]):
    """The batches of the plan at hand, as they stand."""

    batches: Sequence[_Request] = ()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[_Request]:
        return iter(self.batches)


def _end_of_worker(_error: BaseException, _batch: object) -> None:
    """End this process as one that touched shared memory that is not there, as the training process will be told."""
    os.kill(os.getpid(), signal.SIGBUS)


def _end_soon(number: int, _frame: object) -> None:
    """End this process in GRACE_S seconds, or at the next signal: interpreters that end wait for their workers."""
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(GRACE_S)


def quiet_worker(_worker: int = 0) -> None:
    """One thread a loader worker: the cores belong to the training process, and so do Ctrl-C and a closed terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(HANGUP, signal.SIG_IGN)
    # A batch system sends SIGTERM to all processes of a job: the first is the training process's to answer.
    signal.signal(signal.SIGTERM, _end_soon)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
    # Otherwise a batch that finds no room in the shared memory is lost, and the training process waits for it forever.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_of_worker)  # type: ignore[attr-defined] # noqa: SLF001
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Keep signals that end a run waiting, where the system can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tell_of_dead_workers_here() -> None:
    """Let `next` tell of a dead worker, in seconds: torch's handler raises wherever the process is just then."""
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _received(items: Iterator[Any]) -> Iterator[Any]:
    """The batches of workers; one that dies while it hands a batch over is told of as torch tells of others."""
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except (EOFError, ConnectionError, FileNotFoundError) as error:
            if "DataLoader worker" in str(error):  # the fault of what a worker ran, which torch raises again here
                raise
            raise RuntimeError(f"DataLoader worker exited while it handed over a batch ({error})") from error
        yield item


class Loader:
    """Loads planned batches, in order, with `workers` processes that live as long as the loader (0: in this one)."""

    def __init__(self, films: Films, workers: int, *, pin: bool = False) -> None:
        self._planned = _Planned()
        self._epoch = 0
        self._begins = films.begin is not None
        self._loader = DataLoader(
            _Told(replace(films)),
            batch_sampler=self._planned,  # type: ignore[arg-type] # a batch is a request
            num_workers=workers,
            collate_fn=_collate_told,
            pin_memory=pin,
            worker_init_fn=quiet_worker if workers else None,
            persistent_workers=workers > 0,
        )

    def load(self, batches: Sequence[list[Entry]], state: State | None = None) -> Iterator[Item]:
        """The collated items of `batches`; one such iteration at a time.

        `state` is that of the plugins when the epoch began: it goes with the first batch of each worker, which are the
        first of all. Without one plugins are asked as they are.
        """
        state = state if self._begins else None
        self._epoch += state is not None
        first = max(1, self._loader.num_workers)
        self._planned.batches = [
            _Request(batch, self._epoch, state if i < first else None) for i, batch in enumerate(batches)
        ]
        with _signals_held_back():  # a worker inherits this, and so none dies before it has its handlers
            items = iter(self._loader)
        _tell_of_dead_workers_here()
        return self._told(_received(items) if self._loader.num_workers else items)

    def _told(self, items: Iterator[Any]) -> Iterator[Item]:
        try:
            yield from map(_item, items)
        except Exception:  # not where an epoch has all it wants, which closes this: workers live on
            self.end()
            raise

    def end(self) -> None:
        """End the workers, now: of those that are left to the garbage collector, torch waits seconds for each.

        A later `load` starts others.
        """
        if self._loader._iterator is not None and self._loader.num_workers:  # noqa: SLF001
            self._loader._iterator._shutdown_workers()  # type: ignore[attr-defined]  # noqa: SLF001
            self._loader._iterator = None  # noqa: SLF001


def in_order(films: int, batch_size: int, sizes: Sequence[tuple[int, int]]) -> list[list[Entry]]:
    """The batches of an evaluation: every film once, in order; each batch at every size in turn."""
    starts = range(0, films, batch_size)
    return [[Entry(i, size, 0) for i in range(s, min(s + batch_size, films))] for s in starts for size in sizes]
