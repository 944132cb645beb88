"""The mean of paired differences over films and seeds: its interval, its p-value, and Holm's correction.

Method, sources and what was measured: `docs/statistics.md`; the check is `benchmarks/check_statistics.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 4999
_AT_ONCE = 64  # quantities whose resamples are in memory together


@dataclass(frozen=True)
class Estimate:
    """A mean difference, its interval, and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p: float


def estimate(
    differences: Floats,
    weights: Floats,
    units: NDArray[np.int64],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Estimate:
    """The weighted mean of paired differences [S, F] over S seeds and F films, with interval and p-value.

    `weights` [F] >= 0; a film of weight 0 is not looked at. Films of equal `units` [F] are one piece of evidence. With
    S = 1 the statement is about these two trained networks, not about what another seed would give. Signs of fewer than
    six units have too few patterns for a level of 95 %: the interval is infinite.
    """
    return estimate_many(differences[None], weights, units, seed=seed, resamples=resamples, level=level)[0]


def estimate_many(
    differences: Floats,
    weights: Floats,
    units: NDArray[np.int64],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> list[Estimate]:
    """`estimate` of M quantities of the same films at once: differences [M, S, F]."""
    parts = _split(differences, weights, units)
    if parts.units < 2:
        return [Estimate(float(mean), -np.inf, np.inf, 1.0) for mean in parts.mean]
    signs, luck = _draws(parts.units, parts.seeds, resamples, seed)
    half, p = np.empty_like(parts.mean), np.empty_like(parts.mean)
    for chunk in _chunks(len(half)):
        quantile = np.quantile(np.abs(_flipped(parts.residuals[chunk], parts.size, signs)), level, axis=0)
        half[chunk] = _half_width(quantile, parts.films[chunk], parts.luck[chunk], parts.seeds, level)
        null = np.sqrt(parts.films[chunk]) * _flipped(parts.sums[chunk], parts.size, signs)
        null += np.sqrt(parts.luck[chunk]) * luck[:, None]
        # A null that equals the mean but for rounding counts as it.
        p[chunk] = (1 + (np.abs(null) >= np.abs(parts.mean[chunk]) * (1 - 1e-9)).sum(axis=0)) / (1 + resamples)
    if 2.0 ** (1 - parts.units) > 1 - level + 1e-12:
        half[:] = np.inf
    return [
        Estimate(float(m), float(m - h), float(m + h), float(q)) for m, h, q in zip(parts.mean, half, p, strict=True)
    ]


def units_of(labels: Sequence[Collection[Hashable]]) -> NDArray[np.int64]:
    """Number films [F] by the piece of evidence they belong to: films that share a label, directly or by way of others.

    A film's labels are its group (a patient), its pixels, and the like.
    """
    parent = list(range(len(labels)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, of_film in enumerate(labels):
        for label in of_film:
            parent[root(i)] = root(first.setdefault(label, i))
    return np.unique([root(i) for i in range(len(labels))], return_inverse=True)[1].astype(np.int64)


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the same order (Holm 1979, Scand. J. Statist. 6:65-70)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


@dataclass(frozen=True, eq=False)
class _Parts:
    """What differences [M, S, F] come to: `mean` [M], and the two parts of its variance [M].

    `films` is the part that is the films' own, `luck` the part that varies with the seed; `sums` [M, U] are the means
    over seeds of each unit's share in the mean, `residuals` [M, U] the same about the mean; `size` [U] sums to 1.
    """

    mean: Floats
    films: Floats
    luck: Floats
    sums: Floats
    residuals: Floats
    size: Floats
    seeds: int

    @property
    def units(self) -> int:
        return len(self.size)


def _split(differences: Floats, weights: Floats, units: NDArray[np.int64]) -> _Parts:
    """Two-way variance components, films (by unit) x seeds (Cameron, Gelbach & Miller 2011)."""
    used = weights > 0
    if not used.any():
        raise ValueError("no film has a weight")
    joined = np.unique(units[used], return_inverse=True)[1]
    share = np.zeros((len(joined), joined.max() + 1))
    share[np.arange(len(joined)), joined] = weights[used] / weights[used].sum()
    size = share.sum(axis=0)
    cells = differences[:, :, used] @ share  # [M, S, U]
    seeds, n = cells.shape[1:]
    of_seed, sums = cells.sum(axis=2), cells.mean(axis=1)
    mean = of_seed.mean(axis=1)
    residuals = sums - mean[:, None] * size
    correction = n / max(n - 1, 1)
    films = correction * (residuals**2).sum(axis=1)
    luck = np.zeros_like(mean)
    if seeds > 1:
        # What varies from film to film and from seed to seed at once is in both: count it once, with the seeds.
        rest = cells - sums[:, None] - (of_seed - mean[:, None])[:, :, None] * size
        films = np.maximum(films - correction * (rest**2).sum(axis=(1, 2)) / (seeds * (seeds - 1)), 0)
        luck = of_seed.var(axis=1, ddof=1) / seeds
    return _Parts(mean, films, luck, sums, residuals, size, seeds)


@lru_cache(maxsize=8)
def _draws(units: int, seeds: int, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Random signs of the units [R, U], and draws of Student's t with S - 1 degrees of freedom [R]; S = 1: zeros."""
    rng = np.random.default_rng((seed, units, seeds))
    signs = rng.choice((-1.0, 1.0), size=(resamples, units))
    return signs, rng.standard_t(seeds - 1, resamples) if seeds > 1 else np.zeros(resamples)


def _flipped(sums: Floats, size: Floats, signs: Floats) -> Floats:
    """Studentised means [R, M] of `sums` [M, U] whose signs are flipped unit by unit.

    Of the sums themselves this is what no difference looks like (the sign-flip test); of their residuals, how a mean
    strays from the truth (the wild cluster bootstrap-t: Liu 1988; Cameron, Gelbach & Miller 2008, sec. III).
    """
    n = len(size)
    mean, total = signs @ sums.T, (sums**2).sum(axis=1)
    squares = total - 2 * mean * (signs @ (sums * size).T) + mean**2 * (size**2).sum()
    variance = np.maximum(squares, 1e-12 * total) * n / (n - 1)  # all signs equal may leave nothing but rounding
    return np.asarray(np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 0))


def _half_width(quantile: Floats, films: Floats, luck: Floats, seeds: int, level: float) -> Floats:
    """Half the interval: its quantile goes from the films' to Student's t as the seeds' share of the variance grows.

    Cochran (1964) goes with the share, which is too wide; Welch (1947) about with its square, which is too narrow where
    seeds are few. The power between the two holds (`docs/statistics.md`).
    """
    total = films + luck
    if seeds > 1:
        share = np.divide(luck, total, out=np.zeros_like(total), where=total > 0)
        quantile = quantile + (t_quantile(seeds - 1, level) - quantile) * share**1.5
    return np.asarray(quantile * np.sqrt(total))


@lru_cache(maxsize=32)
def t_quantile(freedom: int, level: float) -> float:
    """The t for which P(|T| <= t) = level, T of Student's law with `freedom` degrees."""
    # With t = sqrt(freedom) / tan(a) the tail beyond t is the integral of sin(a)^(freedom - 1), from 0 to a.
    steps = 200_000
    edges = np.linspace(0, np.pi / 2, steps + 1)
    tail = np.cumsum(np.sin((edges[1:] + edges[:-1]) / 2) ** (freedom - 1))
    return float(np.sqrt(freedom) / np.tan(np.interp(1 - level, tail / tail[-1], edges[1:])))


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _AT_ONCE) for start in range(0, count, _AT_ONCE))
