"""Is a film a lateral cephalogram, whole, upright and of the size that it claims? By its points, before any station.

A run's held-out films say how the points of such films lie and how sure they are. A film that does not read like these
is read again mirrored, inverted and turned: what it then reads like says what is wrong with it.

Legend: K landmarks. Points are in film px.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ceph.data.types import Flags, Points
from ceph.evaluation.difficulty import Shape
from ceph.evaluation.difficulty import learn as learn_shape
from ceph.evaluation.offsets import turns

Floats = NDArray[np.float64]

STAGE = "decoder"  # whose points and scores tell: later stations put points where those of a head may be
LEAST_FILMS = 10
NEAR_MM = 10.0  # of a head of mean size: a point that far from its place in the mean shape is still one of that head
FAR_MM = 8.0  # at which a point counts a quarter
ROUNDS = 10
LOW = 0.5  # of a landmark's usual score
UNLIKE = 0.92  # of the usual certainty; below, other ways to read a film are tried
READS = 0.7  # of it; above, a film reads as a head in a way
BETTER = 1.08  # times as sure another way to read it must be
NONE = 0.4  # of it; below, a film is no cephalogram
HALF = 0.5  # of the landmarks must be near their places for a film to show a head
CUT = 3  # landmarks
UPRIGHT_DEG = 45.0  # a head that is turned by less is
EDGE_MM = 10.0  # so far inside a film's edge, a place whose point is doubtful counts as outside
LEAST_SD = 0.03
SIZES = 3.2  # standard deviations of the logarithm of the heads' size

WAYS: Mapping[str, tuple[bool, int, bool]] = {  # mirrored, then turned by so many quarters to the left; inverted
    "mirrored": (True, 0, False),
    "inverted": (False, 0, True),
    "mirrored and inverted": (True, 0, True),
    "turned by a quarter to the right": (False, 1, False),
    "turned by a quarter to the left": (False, 3, False),
    "upside down": (False, 2, False),
    "mirrored and turned by a quarter to the right": (True, 1, False),
    "mirrored and turned by a quarter to the left": (True, 3, False),
    "mirrored and upside down": (True, 2, False),
}
"""What may be wrong with how a film lies, and what puts it right."""


@dataclass(frozen=True, eq=False)
class Usual:
    """Films as they should be: the shape of heads, how much these differ in size, usual scores [K] of the decoder."""

    shape: Shape
    size_sd: float  # of the logarithm
    scores: Floats


@dataclass(frozen=True, eq=False)
class Reading:
    """What a film's points say: how sure they are against the usual, and where the mean shape lies on them.

    `places_px` [K, 2] are those of the shape's landmarks, `near` [K] those whose points are close by; `px_per_mm` and
    `turn_deg` are of the similarity between the two; `mirrored`: it lies on them only as its mirror image.
    """

    certainty: float
    places_px: Points
    near: Flags
    px_per_mm: float
    turn_deg: float
    mirrored: bool
    doubtful: Flags

    @property
    def is_head(self) -> bool:
        """Whether most points lie as those of a head do."""
        return bool(self.near.mean() >= HALF)

    @property
    def lies_right(self) -> bool:
        """Whether these are those of a head that is upright and not mirrored."""
        return self.is_head and not self.mirrored and abs(self.turn_deg) < UPRIGHT_DEG


def learn(truth_mm: Points, scores: Floats) -> Usual | None:
    """What is usual of held-out films: true points [N, K, 2] in mm (NaN: none) and the scores [N, K] before stations.

    None where these are too few, or where the run does not find most of what is there.
    """
    whole = (~np.isnan(truth_mm[..., 0])).sum(axis=1) > 2
    if whole.sum() < LEAST_FILMS:
        return None
    truth, scores = truth_mm[whole], scores[whole]
    shape = learn_shape(truth)
    size = -np.log(np.abs(turns(truth, shape.mean)))
    deviation = float(size.std(ddof=1)) * math.sqrt(1 + 1 / len(size))
    return Usual(shape, max(deviation, LEAST_SD), np.median(scores, axis=0))


def read(points_px: Points, scores: Floats, usual: Usual) -> Reading:
    """What the points [K, 2] and scores [K] of a film's decoder say, against what is usual."""
    ways = [_laid(points_px, scores, usual.shape.mean * (side, 1)) for side in (1, -1)]
    (places, scale, turn, off), mirrored = max(
        ((way, side) for way, side in zip(ways, (False, True), strict=True)), key=lambda way: _near(way[0][3]).sum()
    )
    there = usual.scores > 0
    relative = np.minimum(scores / np.where(there, usual.scores, 1), 1)[there]
    return Reading(
        float(relative.mean()) if there.any() else 0.0,
        places,
        _near(off),
        scale,
        math.degrees(turn),
        mirrored,
        scores < LOW * usual.scores,
    )


def _near(off_mm: Floats) -> Flags:
    return np.nan_to_num(off_mm, nan=np.inf) < NEAR_MM


def _laid(points: Points, trust: Floats, shape_mm: Points) -> tuple[Points, float, float, Floats]:
    """The shape's places [K, 2] on the points, px for a mm, the turn in radians, and how far each is off in mm [K].

    Points far from their place count less and less (weights of Geman and McClure 1987); one without a place not at all.
    """
    z, aim = points @ (1, 1j), shape_mm @ (1, 1j)
    known = ~np.isnan(aim)
    aim = np.nan_to_num(aim)
    trust = np.where(known, np.maximum(trust, 1e-3) ** 2, 0)
    weights = trust
    for _ in range(ROUNDS):
        share = weights / weights.sum()
        a, b = share @ z, share @ aim
        turn = (share * (z - a)) @ (aim - b).conj() / max(share @ np.abs(aim - b) ** 2, 1e-9)
        off = np.abs((z - a) / (turn or 1e-9) - (aim - b))
        weights = trust / (1 + (off / FAR_MM) ** 2) ** 2
    place = np.where(known, a + turn * (aim - b), np.nan)
    return np.stack([place.real, place.imag], -1), float(abs(turn)), float(np.angle(turn)), np.where(known, off, np.nan)


def judge(reading: Reading, usual: Usual, size: tuple[int, int], mm_per_px: float | None) -> str:
    """What is wrong with a film of `size` (H, W) that shows a head upright, else empty: cropped, or of another size.

    `mm_per_px` is what the film claims, None where it claims nothing.
    """
    if not reading.lies_right or reading.certainty < NONE:
        return "does not read as a lateral cephalogram"
    if (outside := int(_outside(reading, size).sum())) >= CUT:
        return f"is cropped: {outside} landmarks seem to lie outside"
    if mm_per_px is not None:
        head = reading.px_per_mm * mm_per_px
        if abs(math.log(head)) > SIZES * usual.size_sd:
            return f"has a head {head:.2f} times as large as usual by its {mm_per_px:g} mm per px: is that its spacing?"
    return ""


def _outside(reading: Reading, size: tuple[int, int]) -> Flags:
    """The landmarks [K] whose places lie outside the film, or near its edge where their points are doubtful."""
    reach = np.where(reading.doubtful, EDGE_MM * reading.px_per_mm, 0)[:, None]
    places, far = reading.places_px, np.array([size[1], size[0]]) - 1
    return np.asarray(((places < reach) | (places > far - reach)).any(axis=-1))


def ways_to_try(reading: Reading) -> Sequence[Sequence[str]]:
    """In which of `WAYS` a film is worth reading again, by how it reads as it lies; the later, if none of the first."""
    if reading.lies_right:
        return [["inverted"]] if reading.certainty < UNLIKE else []  # else it is whole, or cropped
    ways = list(WAYS)
    return [ways[:3], ways[3:5], ways[5:]]


def best_way(plain: Reading, others: Mapping[str, Reading]) -> str:
    """The way of `WAYS` in which a film reads as a head, where it does not as it lies; else empty."""
    name = max(others, key=lambda way: others[way].certainty * others[way].is_head, default="")
    if not name:
        return ""
    best = others[name]
    least = max(READS, BETTER * plain.certainty if plain.lies_right else 0)
    return name if best.lies_right and best.certainty >= least else ""


def put_right(film: NDArray[np.uint8], way: str) -> NDArray[np.uint8]:
    """A film [H, W] that is wrong in a way of `WAYS`, as it should be."""
    mirrored, quarters, inverted = WAYS[way]
    film = np.rot90(film, quarters)
    film = film[:, ::-1] if mirrored else film
    return np.ascontiguousarray(255 - film if inverted else film)


def turned_back(points: Points, way: str, size: tuple[int, int]) -> Points:
    """Points [..., 2] of the film as it was put right, on the film of `size` (H, W) as it is."""
    mirrored, quarters, _ = WAYS[way]
    height, width = size if quarters % 2 == 0 else size[::-1]
    points = np.array(points, dtype=np.float64)
    if mirrored:
        points[..., 0] = width - 1 - points[..., 0]
    for _ in range(quarters):  # each turn to the left put (x, y) at (y, W - 1 - x)
        points = np.stack([height - 1 - points[..., 1], points[..., 0]], axis=-1)
        height, width = width, height
    return points
