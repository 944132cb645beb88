"""Name landmarks that are not where the film and its other landmarks put them: displaced, swapped, or all of a film."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ceph.data.check import patches, shape
from ceph.data.check.findings import Finding, Level, name
from ceph.data.check.looks import Look
from ceph.data.check.shape import Floats
from ceph.data.formats.base import DataSet
from ceph.data.types import Flags, Points

# A displacement that is named: what readers differ by seldom reaches it, and a fault of 10 mm seldom stays below it.
LEAST_MM = 6.5
# ... or more, in units of a landmark's spread, where it is hard to predict: of distances whose components are normal,
# exp(-2.7 ** 2) = 0.07 % lie beyond.
LEAST_SPREADS = 2.7
# The same for the points of a run, which are nearer.
LEAST_BY_RUN_MM, LEAST_BY_RUN_SPREADS = 4.5, 3.0
# Beyond this no doubt is left: in 278 films by two readers the largest distance was 8 mm.
GROSS_MM = 20.0
# Readers further apart than this (beyond their habit) do not teach the model; one of them is wrong.
APART_MM = 8.0
# Points nearer to each other than this are not taken for swapped: incisors of a deep bite overlap.
SWAP_MM = 5.0
# How far the predicted way from one to the other points against the marked one when they are.
SWAP_ALONG_MM = -SWAP_MM / 3
TILT_DEG, WIDTH = 45.0, (0.7, 1.4)  # what no head does: lie on its side, be 30 % smaller or 40 % larger than the median
ROUNDS = 8


@dataclass(frozen=True, eq=False)
class Judged:
    """Where each landmark is and should be, in mm.

    `points` [R, N, K, 2] are without the readers' habits, `usual` [R, 1, K, 2], and `truth` [N, K, 2] is their mean;
    `predicted` [N, K, 2] is where they should be; a distance beyond `limits` [N, K] is named. `by_run` [N, K] are the
    predictions of a trained run.
    """

    points: Points
    usual: Points
    truth: Points
    predicted: Points
    limits: Floats
    by_run: Flags


def find_outliers(data: DataSet, looks: Sequence[Look | None], by_run: Points | None = None) -> list[Finding]:
    """Everything that is out of place in `data`; nothing where it has too few films to tell.

    `by_run` [N, K, 2] in film px are points that a run found on films that it never saw, NaN where there are none.
    """
    if len(data.samples) < shape.LEAST_FILMS:
        text = (
            f"{len(data.samples)} films are too few to tell which landmarks are out of place"
            f" (at least {shape.LEAST_FILMS})"
        )
        return [Finding("few films", "warning", text)]
    points = np.stack([(sample.points + 0.5) * sample.mm_per_px for sample in data.samples], axis=1)
    found, sane = _poses(data, mean_of(points - habits(points)))
    judged = judge(points, sane, looks, _folds(data))
    if by_run is not None:
        spacing = np.array([sample.mm_per_px for sample in data.samples])
        judged = with_run(judged, (by_run + 0.5) * spacing[:, None, None])
    for film in range(len(data.samples)):
        if sane[film]:
            found += _of_film(data, judged, film)
    return found


def habits(points: Points) -> Points:
    """Where each reader puts a landmark relative to all readers' mean [R, 1, K, 2]: the median over the films."""
    with np.errstate(invalid="ignore"):
        apart = points - points.mean(axis=0)  # NaN where any reader is missing
    known = ~np.isnan(apart).all(axis=(0, 1, 3))
    usual = np.zeros((len(points), 1, points.shape[2], 2))
    usual[:, 0, known] = np.nanmedian(apart[:, :, known], axis=1)
    return usual


def mean_of(points: Points) -> Points:
    """The mean over the readers that marked a landmark [N, K, 2], NaN where none did."""
    marked = ~np.isnan(points).any(axis=-1, keepdims=True)
    total = np.where(marked, points, 0).sum(axis=0)
    return np.where(marked.any(axis=0), total / np.maximum(marked.sum(axis=0), 1), np.nan)


def judge(points: Points, sane: Flags, looks: Sequence[Look | None], folds: NDArray[np.int64]) -> Judged:
    """Predict every landmark from the others of its film and from the film itself.

    The prediction is the mean of three: from the other landmarks alone, from coarse and from fine gradients around it.
    What is out of place by the other landmarks alone is set aside first, pairs that may be swapped and then the worst
    of each film at a time, so that it moves no other landmark's prediction and teaches nothing.
    """
    usual = habits(points)
    points = points - usual
    truth = mean_of(points)
    valid = ~np.isnan(truth).any(axis=-1)
    apart = _distance(points.max(axis=0), points.min(axis=0)) if len(points) > 1 else np.zeros(valid.shape)
    trusted = valid & ~(apart > APART_MM) & sane[:, None]
    by_shape = shape.predict(truth, trusted)
    for a, b, pair in shape.predict_pairs(truth, trusted, by_shape):
        length, along = _along(truth[:, a], truth[:, b], pair[:, 0], pair[:, 1])
        trusted[(length >= SWAP_MM) & (along < SWAP_ALONG_MM), a] = False
        trusted[(length >= SWAP_MM) & (along < SWAP_ALONG_MM), b] = False
    by_shape = shape.predict(truth, trusted)
    for _ in range(ROUNDS):
        off = np.where(trusted, _distance(truth, by_shape), 0)
        beyond = off > _limits(off, trusted, 3.5)
        out = np.flatnonzero(beyond.any(axis=1))
        if not len(out):
            break
        worst = np.where(beyond, shape.strain(truth, trusted, by_shape), 0).argmax(axis=1)
        trusted[out, worst[out]] = False
        by_shape = shape.predict(truth, trusted)
    coarse = patches.refine(by_shape, truth, trusted, looks, folds, patches.COARSE)
    fine = patches.refine(coarse, truth, trusted, looks, folds, patches.FINE)
    predicted = (by_shape + coarse + fine) / 3
    limits = np.broadcast_to(_limits(_distance(truth, predicted), trusted, LEAST_SPREADS), valid.shape)
    return Judged(points, usual, truth, predicted, limits, np.zeros_like(valid))


def with_run(judged: Judged, found: Points) -> Judged:
    """A run's points [N, K, 2] in mm in place of what the other landmarks and the film's gradients say, if they agree.

    A run is nearer, but its own gross errors are nobody's mistake. Each landmark's median offset, what the run means by
    it, is taken out.
    """
    apart = found - judged.truth
    known: Flags = np.asarray(~np.isnan(apart).any(axis=-1))
    usual = np.zeros(apart.shape[1:])
    usual[known.any(axis=0)] = np.nanmedian(apart[:, known.any(axis=0)], axis=0)
    found = found - usual
    agrees = _distance(found, judged.predicted) <= judged.limits  # NaN compares false
    limits = np.maximum(LEAST_BY_RUN_MM, LEAST_BY_RUN_SPREADS * shape.spread(_distance(found, judged.truth), known))
    return replace(
        judged,
        predicted=np.where(agrees[..., None], found, judged.predicted),
        limits=np.where(agrees, np.minimum(limits, judged.limits), judged.limits),
        by_run=agrees,
    )


def _limits(off: Floats, trusted: Flags, spreads: float) -> Floats:
    limits: Floats = np.maximum(LEAST_MM, spreads * shape.spread(off, trusted))
    return limits


def _along(a: Points, b: Points, a_predicted: Points, b_predicted: Points) -> tuple[Floats, Floats]:
    """The length of the way from `a` to `b` [..., 2], and how far the predicted way goes along it; or NaN."""
    way = b - a
    length: Floats = np.linalg.norm(way, axis=-1)
    along: Floats = np.sum(way * (b_predicted - a_predicted), axis=-1) / np.maximum(length, 1e-9)
    return length, along


def _distance(a: Points, b: Points) -> Floats:
    distance: Floats = np.linalg.norm(a - b, axis=-1)
    return distance


def _folds(data: DataSet) -> NDArray[np.int64]:
    """Films are left out together with their group."""
    groups = {group: place for place, group in enumerate(dict.fromkeys(s.group for s in data.samples))}
    return np.array([groups[sample.group] % patches.FOLDS for sample in data.samples])


# --- all of a film ---------------------------------------------------------------------------------------------------


def _poses(data: DataSet, truth: Points) -> tuple[list[Finding], Flags]:
    """Films whose landmarks are mirrored, tilted or too widely spread as a whole, and which films are none of these."""
    flat = truth[..., 0] + 1j * truth[..., 1]
    usual = _usual(flat)
    found, sane = [], np.ones(len(truth), bool)
    for film, sample in enumerate(data.samples):
        known = ~np.isnan(flat[film]) & ~np.isnan(usual)
        if known.sum() < 4:
            continue
        turn, rest = _laid(usual[known], flat[film, known])
        mirrored, rest_mirrored = _laid(usual[known], -flat[film, known].conj())
        degrees, width = np.degrees(np.angle(turn)), abs(turn)
        text = ""
        if rest_mirrored < rest / 2:
            text, width = "its landmarks are mirrored: it faces the other way than the other films", abs(mirrored)
        elif abs(degrees) > TILT_DEG:
            text = f"its landmarks are turned by {degrees:.0f} degrees against the other films"
        if not WIDTH[0] < width < WIDTH[1]:
            text = (
                f"its landmarks spread {width:.2f} times as wide as in the other films:"
                f" is {sample.mm_per_px:g} mm per pixel right?"
            )
        if text:
            sane[film] = False
            found.append(Finding("pose", "error", f"{name(sample)}: {text}", (sample.id,)))
    return found, sane


def _usual(flat: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """The median shape [K] of films [N, K], each laid on its own median point; NaN for what nobody marked."""
    some = ~np.isnan(flat).all(axis=1)
    laid = flat[some] - _median(flat[some], axis=1)[:, None]
    known = ~np.isnan(laid).all(axis=0)
    middle = np.full(flat.shape[1], np.nan, complex)
    middle[known] = _median(laid[:, known], axis=0)
    return middle


def _median(values: NDArray[np.complex128], axis: int) -> NDArray[np.complex128]:
    middle: NDArray[np.complex128] = np.nanmedian(values.real, axis=axis) + 1j * np.nanmedian(values.imag, axis=axis)
    return middle


def _laid(start: NDArray[np.complex128], end: NDArray[np.complex128]) -> tuple[complex, float]:
    """The turn and scale, one complex factor, that with a shift lays `start` on `end`, and the median of what is left.

    Points far off count little (weights of Geman and McClure with a scale of 10 mm), so that one swap turns no head.
    """
    weights = np.ones(len(start))
    for _ in range(10):
        a, b = (values - np.average(values, weights=weights) for values in (start, end))
        factor = complex(np.sum(weights * a.conj() * b) / np.sum(weights * np.abs(a) ** 2))
        left = np.abs(b - factor * a)
        weights = 1 / (1 + (left / 10) ** 2) ** 2
    return factor, float(np.median(left))


# --- one film's landmarks --------------------------------------------------------------------------------------------


def _of_film(data: DataSet, judged: Judged, film: int) -> Iterator[Finding]:
    """Swapped pairs first, then what is displaced; one finding for all where most of a film's landmarks are off."""
    sample, symbols = data.samples[film], data.landmarks
    off = _distance(judged.truth[film], judged.predicted[film])
    out = [int(k) for k in np.argsort(-off) if off[k] > judged.limits[film, k]]  # NaN compares false
    marked = int((~np.isnan(off)).sum())
    if len(out) * 2 > marked:
        text = (
            f"{name(sample)}: {len(out)} of its {marked} landmarks are off, by {np.median(off[out]):.0f} mm"
            " in the middle: do its points belong to another film?"
        )
        yield Finding(
            "foreign", "error", text, (sample.id,), tuple(symbols[k] for k in out), float(np.median(off[out]))
        )
        return
    swapped: set[int] = set()
    for pair, who in swaps(judged, film).items():
        swapped.update(pair)
        a, b = (symbols[k] for k in pair)
        by = "" if len(who) == len(data.readers) else f" by {' and '.join(data.readers[r] for r in who)}"
        apart = float(_distance(judged.points[who[0], film, pair[0]], judged.points[who[0], film, pair[1]]))
        text = f"{name(sample)}: {a} and {b}, {apart:.0f} mm apart, are swapped{by}"
        yield Finding("swap", "error", text, (sample.id,), (a, b), apart)
    for k in out:
        if k in swapped:
            continue
        whose = (
            "a run that never saw the film finds"
            if judged.by_run[film, k]
            else f"the film and the other {marked - 1} landmarks put"
        )
        text = f"{name(sample)}: {symbols[k]} is {off[k]:.0f} mm from where {whose} it{_readers(data, judged, film, k)}"
        level: Level = "error" if off[k] > GROSS_MM else "warning"
        yield Finding("displaced", level, text, (sample.id,), (symbols[k],), float(off[k]))


def _readers(data: DataSet, judged: Judged, film: int, k: int) -> str:
    """How far each reader is off, where there are several."""
    if len(data.readers) < 2:
        return ""
    each = _distance(judged.points[:, film, k], judged.predicted[film, k])
    return " (" + ", ".join(f"{r} {mm:.0f} mm" for r, mm in zip(data.readers, each, strict=True) if mm == mm) + ")"


def swaps(judged: Judged, film: int) -> dict[tuple[int, int], list[int]]:
    """Pairs of landmarks that lie exchanged, and the readers who did so; no landmark stands in two pairs of a reader.

    To exchange a and b brings both nearer to where they are predicted if the way from a to b points against the
    predicted one: the sum of squared distances falls by 2 (a - b) . (b' - a').
    """
    found: dict[tuple[int, int], list[int]] = {}
    for reader, points in enumerate(judged.points[:, film]):
        # Each reader's own place for a landmark: an exchanged point carries the habit of the other name.
        there, here = judged.predicted[film] + judged.usual[reader, 0], points + judged.usual[reader, 0]
        length, along = _along(here[:, None], here, there[:, None], there)
        left = _distance(here[:, None], there)
        near = np.maximum(left, left.T) < np.maximum(LEAST_MM, length / 2)
        lie = np.argwhere(np.triu((length >= SWAP_MM) & (along < SWAP_ALONG_MM) & near))  # NaN compares false
        pairs = [(float(length[a, b] * along[a, b]), int(a), int(b)) for a, b in lie]
        taken: set[int] = set()
        for _, a, b in sorted(pairs):
            if not taken & {a, b}:
                taken |= {a, b}
                found.setdefault((a, b), []).append(reader)
    return found
