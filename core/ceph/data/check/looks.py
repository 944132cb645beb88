"""Open every film of a set once: whether it can be read at all, and two small copies of it for what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.grey import histogram, levels_left
from ceph.data.images import read_film
from ceph.data.types import Points, Sample
from ceph.errors import DataError
from ceph.threads import in_threads

Image = NDArray[np.uint8]

FINE_MM = 0.6  # a pixel of `Look.image`: the smallest thing that tells a landmark's place to a few mm
THUMB = 192  # a side of `Look.thumb`: fine enough that two films of one head differ, small enough to compare all pairs


@dataclass(frozen=True, eq=False)
class Look:
    """A film, small: `image` [h, w] at about 0.6 mm a pixel, and `thumb` [192, 192], squashed to a square.

    `per_mm` (x, y) is the number of pixels of `image` in a millimetre; `levels` is how many of 256 grey levels the film
    shows.
    """

    image: Image
    thumb: Image
    per_mm: tuple[float, float]
    levels: int

    def pixels(self, points_mm: Points) -> Points:
        """Points in mm (from the film's upper left corner) as pixels of `image`, whose first centre is (0, 0)."""
        seen: Points = points_mm * self.per_mm - 0.5
        return seen


def look(sample: Sample) -> Look | DataError:
    """Decode the film of `sample`, whole; the error where that cannot be done."""
    try:
        film = read_film(sample.path)
    except DataError as error:
        return error
    H, W = film.shape
    w, h = (max(round(side * sample.mm_per_px / FINE_MM), 1) for side in (W, H))
    image: Image = cv2.resize(film, (w, h), interpolation=cv2.INTER_AREA)
    # From the film itself, not from `image`: a copy may claim another spacing.
    thumb: Image = cv2.resize(film, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    levels = levels_left(histogram(film, 0, 255))
    return Look(image, thumb, (w / (W * sample.mm_per_px), h / (H * sample.mm_per_px)), levels)


def look_at(samples: Sequence[Sample]) -> list[Look | DataError]:
    """`look` at each of `samples`, in their order, several at a time."""
    return in_threads(look, samples)
