"""Where the other landmarks of a film put each one: ridge regression over the films of the set, no film by itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ceph.data.types import Flags, Points

Floats = NDArray[np.float64]

LEAST_FILMS = 30  # fewer do not tell how heads vary
RIDGES_MM2 = (1.0, 10.0, 100.0, 1000.0, 10000.0)
NORMAL_RIDGE_MM2 = 100.0
FILLINGS = 5  # rounds in which points that are missing settle


def predict(points: Points, trusted: Flags) -> Points:
    """Predict each landmark [N, K, 2] from the others of its film, in mm like `points` [N, K, 2].

    A film never takes part in its own prediction (the leave-one-out formula of linear regression). Points that are not
    `trusted` [N, K], which may be NaN, teach nothing and are replaced by their prediction where others need them.
    """
    mean, shift = _centred(points, trusted)
    placed = points - shift[:, None]
    filled = np.where(trusted[..., None], placed, mean)
    for _ in range(1 if trusted.all() else FILLINGS):
        found = np.stack([_from_others(filled, k, trusted[:, k]) for k in range(points.shape[1])], axis=1)
        filled = np.where(trusted[..., None], placed, found)
    return found + shift[:, None]


def predict_pairs(points: Points, trusted: Flags, predicted: Points) -> Iterator[tuple[int, int, Points]]:
    """For each two landmarks (a, b) where the other ones put them [N, 2, 2]; `predicted` stands in for the untrusted.

    Neighbours on one contour say more of each other than all others do: exchanged, they confirm each other.
    """
    N, K = trusted.shape
    centred, precision = _normal(points, trusted, predicted)
    filled = np.where(trusted[..., None], points, predicted)
    weighted = centred @ precision
    for a, b in itertools.combinations(range(K), 2):
        columns = [2 * a, 2 * a + 1, 2 * b, 2 * b + 1]
        rest = weighted[:, columns] @ np.linalg.inv(precision[np.ix_(columns, columns)])
        yield a, b, filled[:, [a, b]] - rest.reshape(N, 2, 2)


def strain(points: Points, trusted: Flags, predicted: Points) -> Floats:
    """By how much each landmark [N, K] makes its film unlikely: what the squared Mahalanobis distance loses without it.

    A single landmark that is moved has the largest strain of its film, however far it drags the prediction of others
    (Cauchy-Schwarz), which does not hold for distances in mm.
    """
    N, K = trusted.shape
    centred, precision = _normal(points, trusted, predicted)
    weighted = (centred @ precision).reshape(N, K, 2)
    blocks = np.linalg.inv(precision.reshape(K, 2, K, 2)[np.arange(K), :, np.arange(K)])
    loss: Floats = np.einsum("nki,kij,nkj->nk", weighted, blocks, weighted)
    return loss


def _normal(points: Points, trusted: Flags, predicted: Points) -> tuple[Floats, Floats]:
    """The films as vectors [N, 2K] about their mean, each laid on the middle shape, and their precision [2K, 2K].

    The conditional means of this normal distribution are ridge regressions, all from one inverse; unlike in `predict`
    every film takes part in its own.
    """
    _, shift = _centred(points, trusted)
    filled = (np.where(trusted[..., None], points, predicted) - shift[:, None]).reshape(len(points), -1)
    centred = filled - filled.mean(axis=0)
    return centred, np.linalg.inv(centred.T @ centred + NORMAL_RIDGE_MM2 * np.eye(centred.shape[1]))


def spread(errors: Floats, trusted: Flags) -> Floats:
    """The root mean square of each landmark's distances [N, K], estimated by their median so that a few do not count.

    The squares of distances whose components are normal are exponential: their median is ln 2 of their mean.
    """
    squares = np.where(trusted, errors, np.nan) ** 2
    known = trusted.any(axis=0)
    medians = np.full(errors.shape[1], np.inf)
    medians[known] = np.nanmedian(squares[:, known], axis=0)
    rms: Floats = np.sqrt(medians / np.log(2))
    return rms


def _centred(points: Points, trusted: Flags) -> tuple[Points, Points]:
    """The middle shape [K, 2] and where each film lies against it [N, 2]: medians of medians, NaN passed over."""
    kept = np.where(trusted[..., None], points, np.nan)
    some, marked = trusted.any(axis=1), trusted.any(axis=0)
    shift = np.zeros((len(points), 2))
    mean = np.zeros(points.shape[1:])
    for _ in range(3):
        mean[marked] = np.nanmedian((kept - shift[:, None])[:, marked], axis=0)
        shift[some] = np.nanmedian((kept - mean)[some], axis=1)
    return mean, shift


def _from_others(filled: Points, k: int, teaches: Flags) -> Points:
    """Landmark `k` [N, 2] by ridge regression on the others, fitted on the films that teach, each without itself.

    The ridge is the one of the smallest median error.
    """
    n = int(teaches.sum())
    if n < 2:
        return np.broadcast_to(filled[:, k].mean(axis=0), (len(filled), 2)).copy()
    inputs = np.delete(filled, k, axis=1).reshape(len(filled), -1)
    inputs = inputs - inputs[teaches].mean(axis=0)
    middle = filled[teaches, k].mean(axis=0)
    targets = filled[:, k] - middle
    values, vectors = np.linalg.eigh(inputs[teaches].T @ inputs[teaches])
    turned = inputs @ vectors
    products = turned[teaches].T @ targets[teaches]
    best, least = targets * 0, np.inf
    for ridge in RIDGES_MM2:
        inverse = 1 / (values + ridge)
        guess = turned @ (inverse[:, None] * products)
        leverage = np.minimum(np.square(turned) @ inverse + 1 / n, 0.95)
        without = targets - (targets - guess) / (1 - leverage)[:, None]
        guess = np.where(teaches[:, None], without, guess)
        error = float(np.median(np.linalg.norm((targets - guess)[teaches], axis=1)))
        if error < least:
            best, least = guess, error
    found: Points = best + middle
    return found
