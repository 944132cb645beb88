"""A radius about each point within which the truth lies so often: split-conformal, by landmark, scaled by difficulty.

Of films that did not train a run the ratio of each point's error to its difficulty is known; on a new film of the same
kind the ratio is below a quantile of these as often as the quantile says, so quantile times difficulty is a radius
(Lei et al. 2018, JASA 113:1094, section 5.2). What that promises and what not: `docs/radius.md`.

Legend: N films, K landmarks, L levels. Errors, difficulties (`difficulty.py`) and radii are in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.9
LEVELS = np.array([*np.arange(50, 95, 5), 95, 97, 99]) / 100  # kept; what lies between is read off
POOLED = 20.0  # films that the other landmarks count for in the quantile of one
LEAST_FILMS = 10
LEAST_POINTS = 20  # of fewer films than that
PARTS = 10  # into which films are parted to count how often radii hold
LARGE_MM = 4.0  # an error


@dataclass(frozen=True, eq=False)
class Radii:
    """What held-out films teach: by landmark and level the factor [K, L] that makes a radius of a difficulty.

    NaN for a landmark that no such film had. `films` [K] is by how many each was learned, `levels` [L] lie in 0..1.
    """

    factors: Floats
    films: NDArray[np.int64]
    levels: Floats

    def radii_mm(self, hard_mm: Floats, level: float = LEVEL) -> Floats:
        """Radii [N, K] of points of difficulties [N, K]. Raises ValueError for a level that is not known."""
        if not self.levels[0] <= level <= self.levels[-1]:
            raise ValueError(f"radii are known for levels from {self.levels[0]} to {self.levels[-1]}, not for {level}")
        factor: Floats = np.array([np.interp(level, self.levels, row) for row in self.factors])
        return factor * hard_mm


def learn(errors_mm: Floats, hard_mm: Floats) -> Radii | None:
    """Radii by errors [N, K] of films that did not train (NaN: no truth) and difficulties [N, K].

    Of n films the quantile is the (n + 1) level-th smallest ratio, as a new film is one more of them. Films are what is
    exchanged, so n counts them in the pool of all landmarks too: there each landmark's ratios are divided by their
    median. A landmark's own quantile and the pool's share, as n to `POOLED`, in the logarithm. None for few films.
    """
    known = ~np.isnan(errors_mm)
    films, every = known.sum(axis=0), int(known.any(axis=1).sum())
    if every < LEAST_FILMS:
        return None
    ratios = np.where(known, np.maximum(errors_mm, 1e-3) / hard_mm, np.nan)
    factors = np.full((errors_mm.shape[1], len(LEVELS)), np.nan)
    seen = np.flatnonzero(films > 0)
    usual = np.exp(np.nanmean(np.log(ratios)))  # of all points
    middle = np.array([_shared(np.nanmedian(ratios[:, k]), usual, films[k]) for k in seen])
    pool = _quantiles((ratios[:, seen] / middle)[known[:, seen]], every)
    for k, mid in zip(seen, middle, strict=True):
        own = _quantiles(ratios[known[:, k], k], int(films[k]))
        factors[k] = _shared(own, mid * pool, films[k])
    return Radii(factors, films, LEVELS)


def learn_of_few(errors_mm: Floats, hard_mm: Floats, elsewhere: Radii | None) -> Radii | None:
    """As `learn`, of too few films for a quantile of each landmark: the radii of `elsewhere`, all by one factor.

    The factor is a quantile of all points; where nothing is known from elsewhere, landmarks are alike. Points of a film
    err together, and a promise by films takes nine of them at a level of 0.9: so often as the level says truth lies
    within these radii on average over sets of films, of one set of five more or less often. None for few points.
    """
    alike = np.ones((1, errors_mm.shape[1]))
    there = (alike if elsewhere is None else elsewhere.radii_mm(alike))[0]
    ratios = errors_mm / (hard_mm * there)
    known = ~np.isnan(ratios)
    if known.sum() < LEAST_POINTS:
        return None
    films = known.sum(axis=0)
    factors = there[:, None] * _quantiles(ratios[known], int(known.sum()))
    return Radii(np.where(films[:, None] > 0, factors, np.nan), films, LEVELS)


def _shared(own: Any, pooled: Any, films: int) -> Any:
    """A landmark's own value and that of all, as its films and `POOLED` are to each other."""
    return np.exp((films * np.log(own) + POOLED * np.log(pooled)) / (films + POOLED))


def _quantiles(values: Floats, films: int) -> Floats:
    """The value [L] at rank (films + 1) level of each level, read off between ranks; at most the largest."""
    ordered = np.sort(values)
    found: Floats = np.interp(LEVELS * (films + 1) / films * len(ordered), np.arange(1, len(ordered) + 1), ordered)
    return found


def held_out_radii(errors_mm: Floats, hard_mm: Floats, units: NDArray[np.int64], level: float = LEVEL) -> Floats:
    """Radii [N, K] of each film by what the films of the other parts teach: what coverage may be counted by.

    Films of equal `units` [N] are in one part. NaN where the others are too few.
    """
    part, found = units % PARTS, np.full(errors_mm.shape, np.nan)
    for number in range(PARTS):
        here = part == number
        radii = learn(errors_mm[~here], hard_mm[~here]) if here.any() else None
        if radii is not None:
            found[here] = radii.radii_mm(hard_mm[here], level)
    return found


def covered(errors_mm: Floats, radii_mm: Floats) -> dict[str, Any]:
    """Of points with a truth and a radius: `n`, `covered_percent`, whose error is within, and `mean_radius_mm`."""
    there = ~(np.isnan(errors_mm) | np.isnan(radii_mm))
    if not there.any():
        return {"n": 0, "covered_percent": None, "mean_radius_mm": None}
    within = 100 * float((errors_mm <= radii_mm)[there].mean())
    return {"n": int(there.sum()), "covered_percent": within, "mean_radius_mm": float(radii_mm[there].mean())}


def coverage(errors_mm: Floats, radii_mm: Floats, landmarks: Sequence[str], level: float = LEVEL) -> dict[str, Any]:
    """`covered` of errors and radii [N, K], with the `level` of the radii, and the same of each landmark.

    `large` says of the errors above 4 mm how many there are, and what percentage of them the tenth of all points holds
    that have the largest radii.
    """
    columns = {symbol: covered(errors_mm[:, k], radii_mm[:, k]) for k, symbol in enumerate(landmarks)}
    whole = {"level": level, **covered(errors_mm, radii_mm)}
    there = ~(np.isnan(errors_mm) | np.isnan(radii_mm))
    errors, radii = errors_mm[there], radii_mm[there]
    top, large = np.argsort(-radii, kind="stable")[: round(len(radii) / 10)], errors > LARGE_MM
    share = 100 * float(large[top].sum() / large.sum()) if large.any() else None
    return {**whole, "large": {"n": int(large.sum()), "in_largest_tenth_percent": share}, "per_landmark": columns}
