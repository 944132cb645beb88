"""Films without truth for the network: read and letterboxed by threads, ahead of the network, in batches."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ceph.data.cache import pyramid_level
from ceph.data.dataset import Item, bare_item, collate
from ceph.data.images import read_film
from ceph.errors import DataError

Image = Path | str | NDArray[np.uint8]  # a file, or a grey film [H, W]

AHEAD = 2  # films being read or waiting, for each thread


class BareFilm(NamedTuple):
    """A film as the network will see it: `size` (H, W) of the film, and an item for each of the network's sizes."""

    size: tuple[int, int]
    items: tuple[Item, ...]


def load_bare(
    images: Iterable[Image],
    sizes: Sequence[tuple[int, int]],
    landmarks: int,
    mm_per_px: Sequence[float | None] | None = None,
) -> Iterator[BareFilm | DataError]:
    """`images` in their order, each letterboxed into all `sizes` (H, W); one that cannot be read is its DataError.

    `mm_per_px` are those of the films' own pixels, None where unknown.

    At most a few films a thread are held, and none at its full size once it is letterboxed.
    """
    threads = min(8, os.cpu_count() or 1)
    one = partial(_load, sizes=sizes, landmarks=landmarks)
    waiting: deque[Future[BareFilm | DataError]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for number, image in enumerate(images):
                mm = math.nan if mm_per_px is None else mm_per_px[number] or math.nan
                waiting.append(pool.submit(one, number, image, mm))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _load(
    number: int, image: Image, mm_per_px: float, *, sizes: Sequence[tuple[int, int]], landmarks: int
) -> BareFilm | DataError:
    try:
        film = _pixels(image)
    except DataError as error:
        return error
    shape = (film.shape[0], film.shape[1])
    return BareFilm(shape, tuple(bare_item(film, size, landmarks, number, mm_per_px) for size in sizes))


def _pixels(image: Image) -> NDArray[np.uint8]:
    return read_film(Path(image)) if isinstance(image, str | Path) else image


def bare_film(images: Sequence[Image], number: int, scale: float) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Film `number` of `images` at the smallest pyramid level not below `scale`, and its own (H, W); read anew."""
    film = _pixels(images[number])
    return pyramid_level(film, scale), (film.shape[0], film.shape[1])


def readable(films: Iterable[BareFilm | DataError]) -> Iterator[BareFilm]:
    """The films as they come; raises the first DataError."""
    for film in films:
        if isinstance(film, DataError):
            raise film
        yield film


def in_batches(films: Iterable[BareFilm], batch_size: int) -> Iterator[Item]:
    """Collated batches of `batch_size` films (the last may be smaller), each at every size in turn."""
    rest = iter(films)
    while batch := list(islice(rest, batch_size)):
        for at_size in zip(*(film.items for film in batch), strict=True):
            yield collate(at_size)
