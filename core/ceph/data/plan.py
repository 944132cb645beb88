"""Which film, at what size, with what seed: the whole epoch as a pure function, fixed before its first step."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BatchShape = Callable[[int], tuple[int, int]]  # index of the micro-batch in the epoch -> (H, W)


class Entry(NamedTuple):
    """One film to load: its place in the samples, the size (H, W) to load it at, and its own seed."""

    film: int
    size: tuple[int, int]
    seed: int


@dataclass(frozen=True)
class EpochPlan:
    """The global micro-batches of one epoch, in order."""

    batches: tuple[tuple[Entry, ...], ...]

    @property
    def films(self) -> int:
        """Films drawn in the epoch, each as often as it is drawn."""
        return sum(len(batch) for batch in self.batches)

    @property
    def pixels(self) -> int:
        """Network pixels of all of them."""
        return sum(entry.size[0] * entry.size[1] for batch in self.batches for entry in batch)

    @property
    def sizes(self) -> dict[str, int]:
        """Films drawn, by the size they are loaded at, as `480x384` (H x W); the smallest size first."""
        counts = Counter(entry.size for batch in self.batches for entry in batch)
        return {f"{height}x{width}": counts[height, width] for height, width in sorted(counts)}

    def part(self, rank: int, ranks: int, start: int = 0) -> list[list[Entry]]:
        """What rank r of `ranks` loads, from micro-batch `start` on: its slice of each global batch.

        Where that is empty the batch's first film stands in, so that no rank is without a film.
        """
        return [list(batch[rank::ranks] or batch[:1]) for batch in self.batches[start:]]


def derive(*parts: object) -> int:
    """A 63-bit seed from any printable parts; the same on every machine and in every process."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def epoch_order(films: int, weights: NDArray[np.float64] | None, seed: int, epoch: int) -> NDArray[np.int64]:
    """The films [N] of an epoch in order: a permutation, or, with unequal weights, N draws with replacement.

    The draws are systematic: N equally spaced marks on the films' shuffled, stacked chances. A film is drawn as often
    as its chance says, up or down to a whole number, so that no film with an average chance is missed by bad luck.
    """
    rng = np.random.default_rng(derive("order", seed, epoch))
    if weights is None or np.all(weights == weights[0]):
        return np.asarray(rng.permutation(films), dtype=np.int64)
    shuffled = rng.permutation(films)
    table = np.asarray(weights, dtype=np.float64)
    table = np.ldexp(table, -np.frexp(table.max())[1])  # an exact scaling: the tiniest weights have no digits to share
    chances = np.cumsum(table[shuffled])
    marks = (np.arange(films) + rng.random()) / films * chances[-1]
    drawn = shuffled[np.minimum(np.searchsorted(chances, marks, side="right"), films - 1)]
    return np.asarray(rng.permutation(drawn), dtype=np.int64)


def unmarked_in(batch_size: int, share: float) -> int:
    """How many of a batch's films are unmarked, at least one being marked."""
    return min(batch_size - 1, round(share * batch_size))


def unmarked_order(films: int, seed: int, epoch: int) -> Iterator[int]:
    """The unmarked films of an epoch, in an order of their own: one permutation after another, without an end."""
    for turn in count():
        yield from np.random.default_rng(derive("unmarked", seed, epoch, turn)).permutation(films).tolist()


def plan_epoch(
    films: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    size: tuple[int, int],
    weights: NDArray[np.float64] | None = None,
    batch_shape: BatchShape | None = None,
    constant_pixels: bool = False,
    unmarked: int = 0,
    unmarked_share: float = 0.0,
) -> EpochPlan:
    """Plan an epoch over `films` training films, each batch filled up with `unmarked_share` of `unmarked` others.

    These stand behind the training films (their places go on from `films`), and in each batch behind its marked ones.

    `weights` [N] >= 0 are the chances of each film (None: all alike). `batch_shape` gives each micro-batch its size
    (None: `size`). With `constant_pixels` a batch at another size holds as many films as keep the pixels of
    `batch_size` films at `size`. A last batch that would be smaller is left out, unless it is the only one.
    """
    order, others = epoch_order(films, weights, seed, epoch), unmarked_order(unmarked, seed, epoch)
    batches: list[tuple[Entry, ...]] = []
    used = 0
    while used < films:
        shape = size if batch_shape is None else batch_shape(len(batches))
        whole = batch_size
        if constant_pixels:
            whole = max(1, round(batch_size * (size[0] * size[1]) / (shape[0] * shape[1])))
        beside = unmarked_in(whole, unmarked_share) if unmarked else 0
        marked = whole - beside
        if batches and used + marked > films:
            break
        chosen: Sequence[int] = order[used : used + marked].tolist()
        entries = [Entry(film, shape, derive(seed, epoch, used + i, film)) for i, film in enumerate(chosen)]
        added = enumerate(islice(others, beside))
        entries += [Entry(films + i, shape, derive(seed, epoch, "unmarked", len(batches), n, i)) for n, i in added]
        batches.append(tuple(entries))
        used += marked
    return EpochPlan(tuple(batches))


def steps_per_epoch(films: int, batch_size: int, accumulate: int) -> int:
    """Optimiser steps of an epoch at the base size."""
    return max(1, -(-max(1, films // batch_size) // accumulate))
