"""The mean difference of configs over films and seeds: its interval, its p-value, and Holm's correction.

Method, sources and what was measured: `docs/statistics.md`; the check is `benchmarks/check_statistics.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 4999
_AT_ONCE = 64  # quantities whose resamples are in memory together
_ROUNDING = 1e-12  # what of a sum of squares may be no more than that


@dataclass(frozen=True)
class Estimate:
    """A mean difference, its interval, and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p: float


def estimate(terms: Sequence[Floats], weights: Floats, units: NDArray[np.int64], **more: float) -> Estimate:
    """`estimate_many` of one quantity: terms [S, F]."""
    return estimate_many([term[None] for term in terms], weights, units, **more)[0]  # type: ignore[arg-type]


def estimate_many(
    terms: Sequence[Floats],
    weights: Floats,
    units: NDArray[np.int64],
    *,
    step: float = 0.0,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> list[Estimate]:
    """The weighted means of M quantities over films, with intervals and p-values.

    A quantity is the sum of `terms`, [M, S, F] each: runs that share the F films and nothing else, such as those of one
    config less those of another; S may differ. `weights` [F] >= 0; a film of weight 0 is not looked at. Films of equal
    `units` [F] are one piece of evidence. `step` is what one point moves a mean of counts. With one seed in any term
    the statement is about these trained networks, not about what another seed would give. Signs of fewer than six units
    have too few patterns for a level of 95 %: the interval is infinite.
    """
    found: list[Estimate] = []
    for start in range(0, len(terms[0]), _AT_ONCE):
        parts = _split([term[start : start + _AT_ONCE] for term in terms], weights, units)
        signs = _signs(parts.units, resamples, seed)
        half, p = _half_widths(parts, signs, step, level), _p_values(parts, signs)
        ends = zip(parts.mean, parts.mean - half, parts.mean + half, p, strict=True)
        found += [Estimate(*map(float, row)) for row in ends]
    return found


def share_seeds(terms: Sequence[Floats]) -> bool:
    """Whether the runs of the s-th seed go astray on the same films in all of the terms [S, F] (one training, say).

    Then they are one term: their sum. Else their luck is not the same, and each term shows its own.
    """

    def astray(runs: Floats) -> float:
        return float(((runs - runs.mean(0) - (runs - runs.mean(0)).mean(1, keepdims=True)) ** 2).sum())

    equal = len({term.shape for term in terms}) == 1
    return equal and astray(np.sum(terms, axis=0)) < sum(map(astray, terms)) / 2


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
    """What terms come to: `mean` [M] of each quantity, its `variance` [M], and the `share` [M] of it that seeds make.

    `freedom` [M] are the degrees of freedom of that share; `over_films` [M] is the variance where the seeds are taken
    as they are; `sums` [M, U] are each unit's part of the mean, `residuals` [M, U] the same about it; `size` [U] sums
    to 1; `power` of the share is how the interval goes from films to seeds.
    """

    mean: Floats
    variance: Floats
    share: Floats
    freedom: Floats
    over_films: Floats
    sums: Floats
    residuals: Floats
    size: Floats
    power: float

    @property
    def units(self) -> int:
        return len(self.size)


def _split(terms: Sequence[Floats], weights: Floats, units: NDArray[np.int64]) -> _Parts:
    """Variance components: films (by unit), crossed with seeds that are nested in the terms."""
    used = weights > 0
    if not used.any():
        raise ValueError("no film has a weight")
    joined = np.unique(units[used], return_inverse=True)[1]
    part = np.zeros((len(joined), joined.max() + 1))
    part[np.arange(len(joined)), joined] = weights[used] / weights[used].sum()
    size = part.sum(axis=0)
    correction = len(size) / max(len(size) - 1, 1)
    cells = [term[:, :, used] @ part for term in terms]  # [M, S, U] each
    sums = np.sum([c.mean(axis=1) for c in cells], axis=0)
    mean = sums.sum(axis=1)
    residuals = sums - mean[:, None] * size
    over_films = correction * np.maximum((residuals**2).sum(axis=1), _ROUNDING * (sums**2).sum(axis=1))
    luck, squares, both = np.zeros((3, len(mean)))
    if all(c.shape[1] > 1 for c in cells):
        for c in cells:
            strays, pairs = c - c.mean(axis=1, keepdims=True), c.shape[1] * (c.shape[1] - 1)
            shifts = strays.sum(axis=2, keepdims=True)
            own = (shifts**2).sum(axis=(1, 2)) / pairs
            luck, squares = luck + own, squares + own**2 / (c.shape[1] - 1)
            both += correction * ((strays - shifts * size) ** 2).sum(axis=(1, 2)) / pairs
    # What varies from film to film and from seed to seed at once is in both: count it once, with the seeds. By chance
    # they may show none of it (ties of counts), so the films keep half of theirs.
    variance = luck + np.maximum(over_films - both, over_films / 2)
    share = np.divide(luck, variance, out=np.zeros_like(mean), where=variance > 0)
    freedom = np.divide(luck**2, squares, out=np.ones_like(mean), where=squares > 0)
    power = 1.5 if len(terms) == 1 else 2.0  # runs of one training have half the degrees of freedom
    return _Parts(mean, variance, share, freedom, over_films, sums, residuals, size, power)


@lru_cache(maxsize=8)
def _signs(units: int, resamples: int, seed: int) -> Floats:
    """Signs [R, U], the first all 1: every pattern (of two opposite ones the one) where they are few, else random."""
    if 2.0 ** (units - 1) <= resamples:
        return np.asarray(1 - 2 * (np.arange(2 ** (units - 1))[:, None] >> np.arange(units) & 1), dtype=np.float64)
    signs = np.random.default_rng((seed, units)).choice((-1.0, 1.0), size=(resamples + 1, units))
    signs[0] = 1
    return signs


def _flipped(sums: Floats, size: Floats, signs: Floats) -> Floats:
    """Studentised means [M, R], without sign, of `sums` [M, U] whose signs are flipped unit by unit.

    Of the sums themselves this is what no difference looks like (the sign-flip test); of their residuals, how a mean
    strays from the truth (the wild cluster bootstrap-t: Liu 1988; Cameron, Gelbach & Miller 2008, sec. III).
    """
    mean, total = sums @ signs.T, (sums**2).sum(axis=1, keepdims=True)
    squares = total - 2 * mean * ((sums * size) @ signs.T) + mean**2 * (size**2).sum()
    variance = np.maximum(squares, _ROUNDING * total) * len(size) / max(len(size) - 1, 1)
    return np.asarray(np.abs(np.divide(mean, np.sqrt(variance), out=np.zeros_like(mean), where=variance > 0)))


def _half_widths(parts: _Parts, signs: Floats, step: float, level: float) -> Floats:
    """Half of each interval [M]: its quantile goes from the films' to Student's t as the seeds' share grows.

    Cochran (1964) goes with the share, which is too wide; Welch (1947) about with its square, which holds where seeds
    are nested in two terms, and is too narrow for one (`docs/statistics.md`). Flips of a few gross errors are bounded,
    so that the films' quantile is at least Student's, too.
    """
    if 2.0 ** (1 - parts.units) > 1 - level + 1e-12:
        return np.full_like(parts.mean, np.inf)
    films = np.quantile(_flipped(parts.residuals, parts.size, signs), level, axis=1)
    films = np.maximum(films, t_quantile(parts.units - 1, level))
    seeds = np.array([t_quantile(freedom, level) for freedom in parts.freedom])
    return np.asarray((films + (seeds - films) * parts.share**parts.power) * np.sqrt(parts.variance + step**2))


def _p_values(parts: _Parts, signs: Floats) -> Floats:
    """Each of the sign-flip test over films or, where that is larger, with the luck of the seeds beside it.

    Only units that differ have a sign: where they are few, all patterns are tried and the test is exact.
    """
    differ = parts.sums**2 > _ROUNDING * (parts.sums**2).sum(axis=1, keepdims=True)
    count, p = differ.sum(axis=1), np.ones_like(parts.mean)
    few = 2.0 ** (count - 1) <= len(signs)
    if not few.all():
        p[~few] = _beyond(parts, ~few, signs)
    for row in np.flatnonzero(few & (count > 0)):
        patterns = _signs(int(count[row]), len(signs), 0)
        own = np.ones((len(patterns), parts.units))
        own[:, differ[row]] = patterns
        p[row] = _beyond(parts, np.array([row]), own)[0]
    return p


def _beyond(parts: _Parts, rows: NDArray[Any], signs: Floats) -> Floats:
    """The share of the flipped means [M, R] of these rows that are no smaller than what was seen."""
    films = -np.sort(-_flipped(parts.sums[rows], parts.size, signs), axis=1)
    seeds = np.stack([_t_beyond(int(10 * freedom) / 10, len(signs)) for freedom in parts.freedom[rows]])
    # With the share itself: a power of it does not hold far out, where Holm's steps look.
    both = films + (seeds - films) * parts.share[rows, None]
    seen = np.abs(parts.mean[rows, None]) * (1 - 1e-9)  # a null that equals the mean but for rounding counts as it
    nulls = films * np.sqrt(parts.over_films[rows, None]), both * np.sqrt(parts.variance[rows, None])
    return np.asarray(np.maximum(*((null >= seen).mean(axis=1) for null in nulls)))


def t_quantile(freedom: float, level: float) -> float:
    """The t for which P(|T| <= t) = level, T of Student's law; degrees of freedom, 1 or more, are cut to a tenth."""
    return float(_t_beyond(int(10 * freedom) / 10, (1 - level,))[0])


@lru_cache(maxsize=1024)
def _t_beyond(freedom: float, tails: tuple[float, ...] | int) -> Floats:
    """The t for which P(|T| > t) is each of `tails`, or 1/n, 2/n to 1 for a number n."""
    # With t = sqrt(freedom) / tan(a) the tail beyond t is the integral of sin(a)^(freedom - 1), from 0 to a.
    edges = np.linspace(0, np.pi / 2, 20_001)
    beyond = np.cumsum(np.sin((edges[1:] + edges[:-1]) / 2) ** (freedom - 1))
    wanted = np.arange(1, tails + 1) / tails if isinstance(tails, int) else np.array(tails)
    return np.asarray(np.sqrt(freedom) / np.tan(np.interp(wanted, beyond / beyond[-1], edges[1:])))
