"""From a plan's entry to a network image and its points: cache, one resampling, pixel changes, collation."""

from __future__ import annotations

import math
import multiprocessing.queues
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from ceph.data.cache import FilmCache, pyramid_level
from ceph.data.geometry import (
    Field,
    displace,
    inverse,
    letterbox,
    letterbox_scale,
    local_scale,
    resample,
    resize,
    transform,
)
from ceph.data.look import windows
from ceph.data.plan import Entry, derive
from ceph.data.types import Batch, Draw, Flags, Matrix, Points, Sample
from ceph.errors import CephError

if TYPE_CHECKING:
    from ceph.data.augment import Augmentation

GRACE_S = 20  # for a training process that was told to end: its step, and the checkpoint
HANGUP = getattr(signal, "SIGHUP", signal.SIGINT)  # a closed terminal
HELD_BACK = (signal.SIGINT, signal.SIGTERM, HANGUP)  # while workers are started

# (sample, the entry's seed) -> points [K, 2] in film px, valid [K], and perhaps reader [K], -1 where it is a mean
Truth = Callable[[Sample, int], tuple[Any, ...]]
Look = Callable[[Points, float, int], NDArray[np.float32]]  # (centre [..., 2] in film px, mm, px) -> [..., px, px]
# (sample, (points, valid), look, the entry's seed) -> what travels with the film
Extras = Callable[[Sample, tuple[Points, Flags], Look, int], Mapping[str, torch.Tensor]]
State = Mapping[str, Any]  # of the plugins that are asked for each film, by plugin, as an epoch finds it


class Drawn(NamedTuple):
    """One draw of a film, or, collated, of B: image uint8 [(B), H, W], points [(B), K, 2] in network px, ..."""

    image: torch.Tensor
    points: torch.Tensor
    valid: torch.Tensor
    film_to_network: torch.Tensor


class Item(NamedTuple):
    """One loaded film, or, collated, B of them.

    image uint8 [(B), H, W]; points [(B), K, 2] in network px; valid [(B), K]; film [(B)], its place in the samples;
    -1 where it is unmarked; mm_per_px [(B)] of a network pixel; film_to_network [(B), 3, 3]; reader [(B), K]; what
    plugins asked for, by name.
    """

    image: torch.Tensor
    points: torch.Tensor
    valid: torch.Tensor
    film: torch.Tensor
    mm_per_px: torch.Tensor
    film_to_network: torch.Tensor
    reader: torch.Tensor
    extras: Mapping[str, torch.Tensor]
    draws: Mapping[str, Drawn]


@dataclass
class Films(Dataset[Item]):
    """Films that load as a plan says. With an `augmentation` each draw is random by its entry's seed.

    The last `unmarked` of the samples have no points; their place in an item is -1. `extras` gives what travels with a
    film, `second_draws` names its further draws. `begin` hands the state of an epoch to those who are asked for each
    film, and gives the epoch's augmentation.
    """

    samples: Sequence[Sample]
    digests: Sequence[str]
    truth: Truth
    cache: FilmCache
    augmentation: Augmentation | None = None
    extras: Extras | None = None
    second_draws: Sequence[str] = ()
    begin: Callable[[State], Augmentation] | None = None
    unmarked: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, entry: Entry) -> Item:
        """Load one film at the entry's size."""
        sample = self.samples[entry.film]
        points, valid, *whose = self.truth(sample, entry.seed)
        map_ = self._map(entry)
        drawn = self._drawn(entry, map_, points, valid)
        looked = partial(self._look, entry, map_)
        again = [entry._replace(seed=derive(entry.seed, name)) for name in self.second_draws]
        return Item(
            drawn.image,
            drawn.points,
            drawn.valid,
            torch.tensor(entry.film if entry.film < len(self) - self.unmarked else -1),
            torch.tensor(map_.mm_per_px, dtype=torch.float32),
            drawn.film_to_network,
            torch.from_numpy(np.asarray(whose[0] if whose else np.full(len(valid), -1), np.int64)),
            self.extras(sample, (points, valid), looked, entry.seed) if self.extras else {},
            {n: self._drawn(e, self._map(e), points, valid) for n, e in zip(self.second_draws, again, strict=True)},
        )

    def _map(self, entry: Entry) -> _Map:
        """Where this draw of the film lands in the network's image."""
        sample = self.samples[entry.film]
        warp, field = np.eye(3), None
        if self.augmentation is not None:
            warp, field = self.augmentation.draw_warp(entry.seed, entry.size)
        film_to_network: Matrix = warp @ letterbox(sample.size, entry.size)
        zoom = local_scale(film_to_network, np.array([(sample.size[1] - 1) / 2, (sample.size[0] - 1) / 2]))
        return _Map(film_to_network, field, sample.mm_per_px / zoom)

    def _drawn(self, entry: Entry, map_: _Map, points: Points, valid: Flags) -> Drawn:
        """Draw the film, of which `points` [K, 2], film px, are true where `valid` [K]."""
        sample = self.samples[entry.film]
        level = self.cache.level(sample.path, self.digests[entry.film], letterbox_scale(sample.size, entry.size))
        image = resample(*seen_from(level, sample.size, map_.film_to_network), entry.size, map_.field)
        if self.augmentation is not None:
            image = self.augmentation.change_pixels(image, entry.seed)
        points = map_.at(points)
        inside = np.all((points > -0.5) & (points < np.array([entry.size[1], entry.size[0]]) - 0.5), axis=-1)
        valid = valid & inside  # NaN compares false
        return Drawn(
            torch.from_numpy(np.ascontiguousarray(image)),
            torch.from_numpy(np.where(valid[:, None], points, 0.0).astype(np.float32)),
            torch.from_numpy(valid),
            torch.from_numpy(map_.film_to_network),
        )

    def film(self, number: int, scale: float) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """The film at place `number` at the smallest pyramid level not below `scale`, and its own (H, W)."""
        sample = self.samples[number]
        return self.cache.level(sample.path, self.digests[number], scale), sample.size

    def _look(self, entry: Entry, map_: _Map, centre: Points, mm: float, px: int) -> NDArray[np.float32]:
        """Windows [..., px, px], 0..1, `mm` wide, about `centre` [..., 2], film px, as this draw shows them.

        Each window goes through the photometric changes by itself, with the draw's seed. One whose centre is NaN is 0.
        """
        sample, step_mm = self.samples[entry.film], mm / px
        at = np.asarray(centre, np.float64).reshape(-1, 2)
        known = np.isfinite(at).all(axis=-1)
        level = self.cache.level(sample.path, self.digests[entry.film], sample.mm_per_px / step_mm)
        level, to_network = seen_from(level, sample.size, map_.film_to_network)
        found = np.zeros((len(at), px, px), np.uint8)
        if known.any():
            step = step_mm / map_.mm_per_px
            found[known] = windows(level, inverse(to_network), map_.at(at[known]), step, px, map_.field)
        if self.augmentation is not None:
            for i in np.flatnonzero(known):
                found[i] = self.augmentation.change_pixels(found[i], entry.seed, ("photometric",))
        return (found / np.float32(255)).reshape(*np.shape(centre)[:-1], px, px).astype(np.float32)


class _Map(NamedTuple):
    """Film px to network px in one draw: a matrix, perhaps a displacement after it, and the mm of a network pixel."""

    film_to_network: Matrix
    field: Field | None
    mm_per_px: float

    def at(self, points: Points) -> Points:
        """Points [N, 2] in film px, in network px."""
        found = transform(self.film_to_network, points)
        return found if self.field is None else displace(self.field, found)


def seen_from(
    level: NDArray[np.uint8], film: tuple[int, int], film_to_network: Matrix
) -> tuple[NDArray[np.uint8], Matrix]:
    """A pyramid level [h, w] of a film of size (H, W), and the map from its pixels to the network's."""
    return level, film_to_network @ inverse(resize(level.shape[1] / film[1], level.shape[0] / film[0]))


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


def collate(items: Sequence[Item]) -> Item:
    """Stack items of one size."""
    return Item(*(_stacked(column) for column in zip(*items, strict=True)))


def _stacked(column: Sequence[Any]) -> Any:
    """Tensors, dicts or tuples of them, stacked."""
    first = column[0]
    if isinstance(first, torch.Tensor):
        return torch.stack(tuple(column))
    if isinstance(first, Mapping):
        return {name: _stacked([part[name] for part in column]) for name in first}
    return type(first)(*(_stacked(parts) for parts in zip(*column, strict=True)))


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


def bare_item(
    film: NDArray[np.uint8], size: tuple[int, int], landmarks: int, number: int = 0, mm_per_px: float = math.nan
) -> Item:
    """A film [H, W] without truth, letterboxed into `size`, at place `number`; `mm_per_px` is of its own pixels."""
    shape = (film.shape[0], film.shape[1])
    to_network = letterbox(shape, size)
    image = resample(*seen_from(pyramid_level(film, letterbox_scale(shape, size)), shape, to_network), size)
    nothing = torch.zeros((landmarks, 2)), torch.zeros(landmarks, dtype=torch.bool), torch.tensor(number)
    spacing = torch.tensor(mm_per_px / letterbox_scale(shape, size), dtype=torch.float32)
    frame = spacing, torch.from_numpy(to_network), torch.full((landmarks,), -1)
    return Item(torch.from_numpy(image), *nothing, *frame, {}, {})


def to_batch(item: Item, device: torch.device, *, epoch: int = 0, step: int = 0, epochs_done: float = 0.0) -> Batch:
    """Move a collated item to the device, images as bytes, and make these floating there."""

    def moved(part: torch.Tensor) -> torch.Tensor:
        halved = part.dtype == torch.float64 and device.type == "mps"  # which knows no doubles
        return part.to(device, torch.float32 if halved else None, non_blocking=True)

    def grey(image: torch.Tensor) -> torch.Tensor:
        return moved(image)[:, None].to(torch.float32, memory_format=torch.channels_last).mul_(1 / 255)

    return Batch(
        grey(item.image),
        moved(item.points),
        moved(item.valid),
        moved(item.film),
        moved(item.mm_per_px),
        moved(item.film_to_network),
        epoch=epoch,
        step=step,
        epochs_done=epochs_done,
        reader=moved(item.reader),
        extras={name: moved(part) for name, part in item.extras.items()},
        draws={name: Draw(grey(drawn.image), *map(moved, drawn[1:])) for name, drawn in item.draws.items()},
    )


def film_points(points: NDArray[np.float64], film_to_network: Matrix) -> Points:
    """Network px [..., 2] back to film px."""
    return transform(inverse(film_to_network), points)
