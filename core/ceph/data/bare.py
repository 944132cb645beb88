"""Films without truth for the network: read and letterboxed by threads, ahead of the network, in batches."""

from __future__ import annotations

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
    images: Iterable[Image], sizes: Sequence[tuple[int, int]], landmarks: int
) -> Iterator[BareFilm | DataError]:
    """`images` in their order, each letterboxed into all `sizes` (H, W); one that cannot be read is its DataError.

    At most a few films a thread are held, and none at its full size once it is letterboxed.
    """
    threads = min(8, os.cpu_count() or 1)
    one = partial(_load, sizes=sizes, landmarks=landmarks)
    waiting: deque[Future[BareFilm | DataError]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for image in images:
                waiting.append(pool.submit(one, image))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _load(image: Image, *, sizes: Sequence[tuple[int, int]], landmarks: int) -> BareFilm | DataError:
    try:
        film = read_film(Path(image)) if isinstance(image, str | Path) else image
    except DataError as error:
        return error
    return BareFilm((film.shape[0], film.shape[1]), tuple(bare_item(film, size, landmarks) for size in sizes))


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
