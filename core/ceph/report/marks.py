"""What is drawn on films means one thing everywhere: a circle is the truth, a tilted cross a prediction; and names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

TRUE, FOUND, DOUBT = (92, 214, 255), (255, 216, 61), (255, 96, 60)  # RGB: blue circles, yellow crosses, red squares
EDGE = (20, 20, 20)  # around each, so that it stands out on any grey

Box = tuple[float, float, float, float]  # left, top, right, bottom


def place_names(
    points: Sequence[tuple[float, float]], widths: Sequence[float], height: float, gap: float, marks: Iterable[Box]
) -> list[Box]:
    """A box for each name beside its point, where it covers least of the marks and of the names before it.

    All in one unit: points (x, y), widths of the names, their height, and the gap between a point and its name. A name
    that has no free place beside its point goes further away.
    """
    taken = list(marks)
    found: list[Box] = []
    for (x, y), width in zip(points, widths, strict=True):
        places = []
        for step in (0.0, 1.0, 2.0, 3.0):
            away = gap + step * height
            places += [
                (x + away, y - height / 2),
                (x - away - width, y - height / 2),
                (x - width / 2, y + away),
                (x - width / 2, y - away - height),
                (x + gap, y + away - gap / 2),
                (x + gap, y - away - height + gap / 2),
                (x - gap - width, y + away - gap / 2),
                (x - gap - width, y - away - height + gap / 2),
            ]
        boxes = [(left, top, left + width, top + height) for left, top in places]
        best = boxes[int(shared_areas(boxes, taken).sum(axis=1).argmin())]
        taken.append(best)
        found.append(best)
    return found


def around(points: Iterable[Sequence[float]], radius: float) -> list[Box]:
    """The boxes of marks of this radius at points (x, y)."""
    return [(x - radius, y - radius, x + radius, y + radius) for x, y in points]


def shared_areas(boxes: Sequence[Box], others: Sequence[Box]) -> NDArray[np.float64]:
    """The area [N, M] that each of N boxes shares with each of M others."""
    a, b = np.reshape(boxes, (-1, 1, 4)), np.reshape(others, (1, -1, 4))
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    areas: NDArray[np.float64] = sides.clip(min=0).prod(axis=-1)
    return areas
