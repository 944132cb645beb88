"""From a plan's entry to a network image and its points: cache, one resampling, pixel changes, collation."""

from __future__ import annotations

import multiprocessing.queues
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from ceph.data.augment import Augmentation
from ceph.data.cache import FilmCache, pyramid_level
from ceph.data.geometry import displace, inverse, letterbox, letterbox_scale, local_scale, resample, resize, transform
from ceph.data.plan import Entry, derive
from ceph.data.types import Batch, Flags, Matrix, Points, Sample
from ceph.errors import CephError

GRACE_S = 20  # for a training process that was told to end: its step, and the checkpoint
HELD_BACK = (signal.SIGINT, signal.SIGTERM)  # while workers are started

Truth = Callable[[Sample, np.random.Generator], tuple[Points, Flags]]


class Item(NamedTuple):
    """One loaded film, or, collated, B of them.

    image uint8 [(B), H, W]; points [(B), K, 2] in network px; valid [(B), K]; film [(B)], its place in the samples;
    mm_per_px [(B)] of a network pixel; film_to_network [(B), 3, 3].
    """

    image: torch.Tensor
    points: torch.Tensor
    valid: torch.Tensor
    film: torch.Tensor
    mm_per_px: torch.Tensor
    film_to_network: torch.Tensor


@dataclass
class Films(Dataset[Item]):
    """Films that load as a plan says. With an `augmentation` each draw is random by its entry's seed."""

    samples: Sequence[Sample]
    digests: Sequence[str]
    truth: Truth
    cache: FilmCache
    augmentation: Augmentation | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, entry: Entry) -> Item:
        """Load one film at the entry's size."""
        sample = self.samples[entry.film]
        points, valid = self.truth(sample, np.random.default_rng(derive(entry.seed, "truth")))
        boxed = letterbox(sample.size, entry.size)
        warp, field = np.eye(3), None
        if self.augmentation is not None:
            warp, field = self.augmentation.draw_warp(entry.seed, entry.size)
        film_to_network: Matrix = warp @ boxed
        zoom = local_scale(film_to_network, np.array([(sample.size[1] - 1) / 2, (sample.size[0] - 1) / 2]))
        level = self.cache.level(sample.path, self.digests[entry.film], letterbox_scale(sample.size, entry.size))
        image = resample(*seen_from(level, sample.size, film_to_network), entry.size, field)
        points = transform(film_to_network, points)
        if field is not None:
            points = displace(field, points)
        if self.augmentation is not None:
            image = self.augmentation.change_pixels(image, entry.seed)
        inside = np.all((points > -0.5) & (points < np.array([entry.size[1], entry.size[0]]) - 0.5), axis=-1)
        valid = valid & inside  # NaN compares false
        return Item(
            torch.from_numpy(np.ascontiguousarray(image)),
            torch.from_numpy(np.where(valid[:, None], points, 0.0).astype(np.float32)),
            torch.from_numpy(valid),
            torch.tensor(entry.film),
            torch.tensor(sample.mm_per_px / zoom, dtype=torch.float32),
            torch.from_numpy(film_to_network),
        )


def seen_from(
    level: NDArray[np.uint8], film: tuple[int, int], film_to_network: Matrix
) -> tuple[NDArray[np.uint8], Matrix]:
    """A pyramid level [h, w] of a film of size (H, W), and the map from its pixels to the network's."""
    return level, film_to_network @ inverse(resize(level.shape[1] / film[1], level.shape[0] / film[0]))


class _Told(Dataset[Item | CephError]):
    """Films, or what is wrong with them: raised in a worker, an error would reach a person inside its traceback."""

    def __init__(self, films: Films) -> None:
        self.films = films

    def __getitem__(self, entry: Entry) -> Item | CephError:
        try:
            return self.films[entry]
        except CephError as error:
            return error


def _item(found: Item | CephError) -> Item:
    if isinstance(found, CephError):
        raise found
    return found


def _collate_told(found: Sequence[Item | CephError]) -> Item | CephError:
    return next((f for f in found if isinstance(f, CephError)), None) or collate([_item(f) for f in found])


def collate(items: Sequence[Item]) -> Item:
    """Stack items of one size."""
    return Item(*(torch.stack(column) for column in zip(*items, strict=True)))


class _Planned(Sampler[list[Entry]]):
    """The batches of the plan at hand, as they stand."""

    batches: Sequence[list[Entry]] = ()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Entry]]:
        return iter(self.batches)


def _end_of_worker(_error: BaseException, _batch: object) -> None:
    """End this process as one that touched shared memory that is not there, as the training process will be told."""
    os.kill(os.getpid(), signal.SIGBUS)


def _end_soon(number: int, _frame: object) -> None:
    """End this process in GRACE_S seconds, or at the next signal: interpreters that end wait for their workers."""
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(GRACE_S)


def quiet_worker(_worker: int = 0) -> None:
    """One thread a loader worker: the cores belong to the training process, and so does Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        self._loader = DataLoader(
            _Told(films),
            batch_sampler=self._planned,
            num_workers=workers,
            collate_fn=_collate_told,
            pin_memory=pin,
            worker_init_fn=quiet_worker if workers else None,
            persistent_workers=workers > 0,
        )

    def load(self, batches: Sequence[list[Entry]]) -> Iterator[Item]:
        """The collated items of `batches`; one such iteration at a time."""
        self._planned.batches = batches
        with _signals_held_back():  # a worker inherits this, and so none dies before it has its handlers
            items = iter(self._loader)
        _tell_of_dead_workers_here()
        return map(_item, _received(items) if self._loader.num_workers else items)


def in_order(films: int, batch_size: int, sizes: Sequence[tuple[int, int]]) -> list[list[Entry]]:
    """The batches of an evaluation: every film once, in order; each batch at every size in turn."""
    starts = range(0, films, batch_size)
    return [[Entry(i, size, 0) for i in range(s, min(s + batch_size, films))] for s in starts for size in sizes]


def bare_item(film: NDArray[np.uint8], size: tuple[int, int], landmarks: int) -> Item:
    """A film [H, W] without truth, letterboxed into `size`; its millimetres are unknown."""
    shape = (film.shape[0], film.shape[1])
    to_network = letterbox(shape, size)
    image = resample(*seen_from(pyramid_level(film, letterbox_scale(shape, size)), shape, to_network), size)
    nothing = torch.zeros((landmarks, 2)), torch.zeros(landmarks, dtype=torch.bool), torch.tensor(0)
    return Item(torch.from_numpy(image), *nothing, torch.tensor(torch.nan), torch.from_numpy(to_network))


def to_batch(item: Item, device: torch.device, *, epoch: int = 0, step: int = 0) -> Batch:
    """Move a collated item to the device as bytes and make it floating there."""
    moved = [part.to(device, non_blocking=True) for part in item[:5]]
    image = moved[0][:, None].to(torch.float32, memory_format=torch.channels_last).mul_(1 / 255)
    return Batch(image, moved[1], moved[2], moved[3], moved[4], epoch, step)


def film_points(points: NDArray[np.float64], film_to_network: Matrix) -> Points:
    """Network px [..., 2] back to film px."""
    return transform(inverse(film_to_network), points)
