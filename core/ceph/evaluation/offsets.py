"""What another place means by each landmark: an offset each, in the frame of the head, learned from a few films.

The frame of a film is the similarity that lays its found points on the mean shape, so that an offset turns and grows
with the head. Most offsets lie along the contour on which a landmark slides, as the errors of the run itself do.
Legend: N films, K landmarks; points and moves are in mm. Method and figures: `docs/another-clinic.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ceph.data.types import Flags, Points
from ceph.evaluation.statistics import t_quantile

Floats = NDArray[np.float64]

FREEDOM = 6.0  # of the t law that the moves of a landmark follow about their middle: readers have heavy tails
POOLED = 1.0  # films that the scatter of the other landmarks counts for in that of one
SIZES = np.array([0, *(2.0 ** np.arange(-4, 4))])  # of offsets, against their landmark's scatter: what they may be
SCALES = np.exp(np.linspace(-1.2, 1.2, 13))  # by how much a scatter seen in few films may be wrong
ROUND = 10  # films that tell that a landmark errs the same in all directions, beside those that were seen
FAR = 3.0  # median errors: farther ones are drawn in to this
EVEN = 0.1  # landmarks that each of the sizes is given beforehand
ROUNDS = 40
STRANGE = 3.0  # a film so many times as far from the others as they are from each other is another matter
LEAST_MM = 0.5  # of that distance


@dataclass(frozen=True, eq=False)
class Offsets:
    """Offsets [K, 2] in mm on the mean shape; of how many films [K], their scatter [K] and the share kept [K].

    `strange` [N] are films that were left out, since they lie far from where all others agree.
    """

    offsets_mm: Floats
    films: NDArray[np.int64]
    scatter_mm: Floats
    kept: Floats
    strange: Flags


@dataclass(frozen=True)
class Gain:
    """Mean error of films in mm before and after, each film by offsets of the others; the gain with a 95 % interval."""

    before_mm: float
    after_mm: float
    gain_mm: float
    low_mm: float
    high_mm: float

    @property
    def shown(self) -> bool:
        """Whether the films show that there is a gain."""
        return self.low_mm > 0


def mean_shape(points: Points) -> Points:
    """The mean of shapes [N, K, 2], each laid on it by a similarity: [K, 2], about 0, turned and large as usual.

    Shapes may lack landmarks (NaN): the one that has most is the first, and others come in by the landmarks that they
    share, two at least. NaN for a landmark that none of these has.
    """
    shape: Points = points[np.argmax((~np.isnan(points[..., 0])).sum(axis=1))]
    for _ in range(10):
        shared = np.where(np.isnan(shape), np.nan, points)
        films = (~np.isnan(shared[..., 0])).sum(axis=1) > 1
        if not films.any():
            return np.full(shape.shape, np.nan)
        turn = turns(shared[films], shape)
        middle = _middle_of(np.where(np.isnan(shared[films]), np.nan, shape))
        laid = turned(points[films] - _middle_of(shared[films]), turn) + middle
        seen = ~np.isnan(laid).all(axis=(0, 2))
        shape = np.full(shape.shape, np.nan)
        upright = np.median(1 / np.abs(turn)) * np.exp(-1j * np.angle((turn / np.abs(turn)).sum()))
        shape[seen] = turned(np.nanmean(laid[:, seen], axis=0)[None], upright[None])[0]
        shape -= _middle_of(shape)
    return shape


def turns(points: Points, shape: Points) -> NDArray[np.complex128]:
    """For each film the factor [N] that turns and scales its points [N, K, 2] onto the shape [K, 2]; never mirrored.

    A landmark that either lacks (NaN) does not count; NaN for a film with fewer than two others.
    """
    found = np.where(np.isnan(shape), np.nan, points)
    aim = np.where(np.isnan(found), np.nan, shape)
    z, to = (_complex(np.nan_to_num(part - _middle_of(part))) for part in (found, aim))
    size = (np.abs(z) ** 2).sum(axis=1)
    turn = np.full(len(points), complex(np.nan, np.nan))
    np.divide((z.conj() * to).sum(axis=1), size, out=turn, where=size > 0)
    return turn


def turned(vectors: Points, by: NDArray[np.complex128]) -> Points:
    """Vectors [N, K, 2] turned and scaled by each film's factor [N]."""
    by = _complex(vectors) * by[:, None]
    return np.stack([by.real, by.imag], axis=-1)


def mirrored(points: Points, valid: Flags, shape: Points) -> bool:
    """Whether the marked points [K, 2] of a film lie on the shape [K, 2] only when they are mirrored."""
    there = points[valid] - points[valid].mean(axis=0)
    aim = _complex(shape[valid] - shape[valid].mean(axis=0))
    as_they_are, flipped = (abs(z.conj() @ aim) for z in (_complex(there), _complex(there * [-1, 1])))
    return bool(flipped > as_they_are)


def ways(moves: Points, valid: Flags) -> Floats:
    """Where a run errs: the covariance [K, 2, 2], of trace 2, of held-out moves [N, K, 2] where `valid` [N, K].

    The moves are in the frame of the head; those far from their median are drawn in, and of few films it is rounder.
    """
    there, seen = np.where(valid[..., None], moves, np.nan), valid.any(axis=0)
    errors = np.zeros(moves.shape)
    errors[:, seen] = there[:, seen] - _median(there[:, seen], axis=0)
    size = np.linalg.norm(errors, axis=-1)
    near = FAR * _median(size[:, seen], axis=0) / np.maximum(size[:, seen], 1e-9)
    errors[:, seen] *= np.minimum(1, near)[..., None]
    total = np.einsum("nka,nkb->kab", *[np.nan_to_num(errors)] * 2)
    trace = np.trace(total, axis1=1, axis2=2)[:, None, None] / 2
    total = np.where(trace > 0, total / np.where(trace > 0, trace, 1), np.eye(2))
    films = valid.sum(axis=0)[:, None, None]
    return np.asarray((films * total + ROUND * np.eye(2)) / (films + ROUND))


def learn(moves: Points, valid: Flags, usual: Floats | None = None) -> Offsets:
    """Offsets from moves [N, K, 2], marked less found in the frame of the head, where `valid` [N, K].

    The middle of a landmark is that of a t law, whose scale leans on those of the other landmarks. How large offsets
    are, against that scale, all landmarks teach together (empirical Bayes: Stephens 2017, Biostatistics 18:275); by it
    each middle is shrunken towards 0 as far as its own scatter asks for, and less along the way in which the run errs
    by itself: `usual` [K, 2, 2] of `ways`; None: in all directions alike.
    """
    strange = _strange(moves, valid)
    valid = valid & ~strange[:, None]
    films = valid.sum(axis=0)
    offsets, scatter, kept = np.zeros(moves.shape[1:]), np.full(moves.shape[1], np.nan), np.zeros(moves.shape[1])
    spread, axes = np.linalg.eigh(np.broadcast_to(np.eye(2), (len(kept), 2, 2)) if usual is None else usual)
    seen = films > 0
    if (films > 1).any():
        middle, scatter[seen] = _middle(moves[:, seen], valid[:, seen])
        axes, spread = axes[seen], spread[seen]
        along = np.einsum("kai,ka->ki", axes, middle)
        along *= _kept(along, scatter[seen], films[seen], spread)
        offsets[seen] = np.einsum("kai,ki->ka", axes, along)
        size = np.linalg.norm(middle, axis=-1)
        kept[seen] = np.linalg.norm(along, axis=-1) / np.where(size > 0, size, 1)
    return Offsets(offsets, films, scatter, kept, strange)


def errors_by_others(
    found: Points, marked: Points, valid: Flags, shape: Points, strange: Flags, usual: Floats | None = None
) -> tuple[Floats, Floats]:
    """Errors [N, K] in mm before and after, each film by offsets of the others; NaN where not `valid` [N, K].

    Points [N, K, 2] and the shape [K, 2] are in mm, `usual` as for `learn`. The `strange` [N] do not teach and are NaN.
    """
    turn = turns(found, shape)
    moves, used = turned(np.where(valid[..., None], marked - found, 0), turn), np.flatnonzero(~strange)
    before, after = np.full((2, *valid.shape), np.nan)
    for n in used:
        others = np.setdiff1d(used, n)
        left = moves[n] - learn(moves[others], valid[others], usual).offsets_mm
        before[n], after[n] = (
            np.where(valid[n], np.linalg.norm(v, axis=-1) / abs(turn[n]), np.nan) for v in (moves[n], left)
        )
    return before, after


def expected(before: Floats, after: Floats) -> Gain:
    """What offsets bring on a film that they were not learned from, by `errors_by_others`; Student's interval."""
    there = ~np.isnan(before).all(axis=1)
    first, then = (np.nanmean(errors[there], axis=1) for errors in (before, after))
    gains = first - then
    half = t_quantile(len(gains) - 1, 0.95) * gains.std(ddof=1) / np.sqrt(len(gains))
    return Gain(*map(float, (first.mean(), then.mean(), gains.mean(), gains.mean() - half, gains.mean() + half)))


def _complex(points: Points) -> NDArray[np.complex128]:
    z: NDArray[np.complex128] = points[..., 0] + 1j * points[..., 1]
    return z


def _middle_of(points: Points) -> Points:
    """The mean [..., 1, 2] of the points [..., K, 2] that are there; 0 where none is."""
    count = (~np.isnan(points)).sum(axis=-2, keepdims=True)
    return np.asarray(np.nan_to_num(points).sum(axis=-2, keepdims=True) / np.maximum(count, 1))


def _median(values: Floats, axis: int) -> Floats:
    """The median of what is not NaN; numpy's own for that takes ten times as long where nothing is."""
    median = np.nanmedian if np.isnan(values).any() else np.median
    found: Floats = median(values, axis=axis)
    return found


def _strange(moves: Points, valid: Flags) -> Flags:
    """Films [N] that are far from the others, where these agree: by the median landmark and the nearer half."""
    if len(moves) < 3:
        return np.zeros(len(moves), dtype=bool)
    marked, near = np.where(valid[..., None], moves, np.nan), np.zeros(len(moves))
    for n in range(len(moves)):
        apart = np.linalg.norm(np.delete(marked, n, axis=0) - marked[n], axis=-1)
        of_others = _median(apart[(~np.isnan(apart)).any(axis=1)], axis=1)
        near[n] = np.quantile(of_others, 0.5, method="lower") if len(of_others) else np.nan
    strange: Flags = near > STRANGE * max(float(np.nanmedian(near)), LEAST_MM)
    return strange


def _middle(moves: Points, valid: Flags) -> tuple[Floats, Floats]:
    """The middle [K, 2] and the scale [K] of each landmark's moves, by a t law (Lange et al. 1989, JASA 84:881)."""
    marked = np.where(valid[..., None], moves, np.nan)
    middle = _median(marked, axis=0)
    freedom = 2.0 * (valid.sum(axis=0) - 1)
    twice = freedom > 0
    start = _median(np.linalg.norm(marked - middle, axis=-1)[:, twice], axis=0)
    scale = np.full(moves.shape[1], max(float(np.exp(np.log(np.maximum(start, 0.01)).mean())), 0.01))
    for _ in range(ROUNDS):
        squares = ((moves - middle) ** 2).sum(axis=-1)
        weights = np.where(valid, (FREEDOM + 2) / (FREEDOM + squares / scale**2), 0)
        middle = (weights[..., None] * moves).sum(axis=0) / weights.sum(axis=0)[:, None]
        own = np.maximum((weights * squares).sum(axis=0) / np.maximum(freedom, 1), 1e-4)
        usual = np.exp((np.log(own[twice]) + 1 / freedom[twice]).mean())
        scale = np.sqrt((POOLED * usual + freedom * own) / (POOLED + freedom))
    return middle, scale


def _kept(middle: Floats, scatter: Floats, films: NDArray[np.int64], spread: Floats) -> Floats:
    """How much of each middle [K, 2] is to be kept along its axes, 0 to 1; by their relative `spread` [K, 2]."""
    error = scatter / np.sqrt(films * (FREEDOM + 2) / (FREEDOM + 4))
    freedom = POOLED + 2.0 * (films - 1)
    certain = -freedom[:, None] * (np.log(SCALES) + 0.5 / SCALES**2)  # [K, S], of the scatter being so much larger
    size = ((SIZES * scatter[:, None]) ** 2)[:, None, :, None] * spread[:, None, None]  # [K, 1, G, 2]
    variance = ((error[:, None] * SCALES) ** 2)[..., None, None] + size  # [K, S, G, 2]
    fit = certain[..., None] - (middle[:, None, None] ** 2 / variance + np.log(variance)).sum(axis=-1) / 2
    fit = np.exp(fit - fit.max(axis=(1, 2), keepdims=True))
    shares = np.full(len(SIZES), 1 / len(SIZES))
    for _ in range(ROUNDS):
        of_size = shares * fit.sum(axis=1)
        shares = (of_size / of_size.sum(axis=1, keepdims=True)).sum(axis=0) + EVEN
        shares /= shares.sum()
    chance = shares * fit
    kept: Floats = (chance[..., None] * size / variance).sum(axis=(1, 2)) / chance.sum(axis=(1, 2))[:, None]
    return kept
