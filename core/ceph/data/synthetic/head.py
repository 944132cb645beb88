"""Curves written once for the mean head, bent to the landmarks of one film."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# A vertex of a curve is a landmark ("Pn"; "ANS!" is a sharp corner there), a place near a landmark in mm of the head's
# frame (("Ls", -1, 4)), or a place in mm in the frame of the mean shape ((17, -95)), which bends with the landmarks.
Vertex = str | tuple[str, float, float] | tuple[float, float]


def smooth(points: Points, corners: NDArray[np.bool_], *, closed: bool, steps: int = 8) -> Points:
    """A Catmull-Rom curve through `points` [N, 2] that turns sharply where `corners` [N] says so.

    The curve passes through every given point exactly; tangents are weighted by chord length, so that unevenly spaced
    points make no loops. Returns [M, 2] in the unit and frame of `points`.
    """
    following = np.roll(points, -1, axis=0)
    chord = following - points
    length = np.maximum(np.hypot(chord[:, 0], chord[:, 1]), 1e-6)[:, None]
    slope = chord / length
    before, length_before = np.roll(slope, 1, axis=0), np.roll(length, 1, axis=0)
    tangent = (slope * length_before + before * length) / (length + length_before)
    leaving, arriving = tangent.copy(), tangent.copy()
    sharp = corners.copy()
    if not closed:
        sharp[[0, -1]] = True
    leaving[sharp] = slope[sharp]
    arriving[sharp] = before[sharp]
    start, end = leaving * length, np.roll(arriving, -1, axis=0) * length
    t = (np.arange(steps) / steps)[None, :, None]
    curve: Points = (
        (2 * t**3 - 3 * t**2 + 1) * points[:, None]
        + (t**3 - 2 * t**2 + t) * start[:, None]
        + (3 * t**2 - 2 * t**3) * following[:, None]
        + (t**3 - t**2) * end[:, None]
    )
    if not closed:
        return np.concatenate([curve[:-1].reshape(-1, 2), points[-1:]])
    return curve.reshape(-1, 2)


class Head:
    """Places curves that are written for the mean shape on one film."""

    def __init__(
        self,
        symbols: Sequence[str],
        mean_mm: Points,
        shape_mm: Points,
        px_of_mm: float,
        origin: Points,
        wander: np.random.Generator | None = None,
    ) -> None:
        """Bend from `mean_mm` to `shape_mm` (both [K, 2]); film px are `origin` [2] + `px_of_mm` * mm.

        With `wander`, every vertex of a curve that is no landmark lies elsewhere on this head than on others.
        """
        self._wander, self._wandered = wander, dict[Vertex, Points]()
        self.index = {symbol: i for i, symbol in enumerate(symbols)}
        self.shape, self.px_of_mm, self.origin = shape_mm, px_of_mm, origin
        centre, mean_centre = shape_mm.mean(axis=0), mean_mm.mean(axis=0)
        a, b = mean_mm - mean_centre, shape_mm - centre
        # The best similarity; beyond the landmarks (vault, neck) only this moves a curve, so nothing explodes there.
        cos, sin = (a * b).sum(), (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
        self.turn = np.array([[cos, sin], [-sin, cos]]) / (a**2).sum()
        self._mean, self._centres = mean_mm, (mean_centre, centre)
        self._residual = b - a @ self.turn

    def place(self, points_mm: Points) -> Points:
        """Take points [N, 2] in mm of the mean shape to mm of this head."""
        distance = ((points_mm[:, None] - self._mean) ** 2).sum(axis=-1)
        weight = np.exp(-distance / (2 * 11.0**2))
        bend = weight @ self._residual / (weight.sum(axis=1, keepdims=True) + 0.15)
        placed: Points = (points_mm - self._centres[0]) @ self.turn + self._centres[1] + bend
        return placed

    def __getitem__(self, symbol: str) -> Points:
        place: Points = self.shape[self.index[symbol]]
        return place

    def near(self, symbol: str, x_mm: float, y_mm: float) -> Points:
        """The place [2] at an offset from a landmark, turned and sized like the head."""
        place: Points = self[symbol] + np.array([x_mm, y_mm]) @ self.turn
        return place

    def vertices(self, path: Sequence[Vertex]) -> tuple[Points, NDArray[np.bool_]]:
        """The places [N, 2] of a path in mm of this head, and which of them are corners [N]."""
        places, corners = [], []
        for vertex in path:
            corners.append(isinstance(vertex, str) and vertex.endswith("!"))
            if isinstance(vertex, str):
                places.append(self[vertex.rstrip("!")])
            elif len(vertex) == 3:
                places.append(self.near(*vertex) + self._astray(vertex))
            else:
                places.append(self.place(np.array([vertex], float))[0] + self._astray(vertex))
        return np.array(places), np.array(corners)

    def _astray(self, vertex: Vertex) -> Points:
        """How far [2] in mm this head's vertex is from its place; the same for every curve through it."""
        if self._wander is None:
            return np.zeros(2)
        if vertex not in self._wandered:
            # The nearer to its landmark the surer: a landmark is where it is because of the curve beside it.
            sd = min(0.18 * float(np.hypot(vertex[1], vertex[2])), 2.0) if len(vertex) == 3 else 1.5
            self._wandered[vertex] = self._wander.normal(0, sd, 2)
        return self._wandered[vertex]

    def px(self, points_mm: Points) -> Points:
        """Film px of points [..., 2] in mm of this head."""
        return points_mm * self.px_of_mm + self.origin

    def curve(self, path: Sequence[Vertex], *, closed: bool = False) -> Points:
        """The smooth curve [M, 2] through a path, in film px."""
        places, corners = self.vertices(path)
        return smooth(self.px(places), corners, closed=closed)

    def outline(self, places_mm: Points, corners: Sequence[int] = ()) -> Points:
        """The smooth closed curve [M, 2] in film px through places [N, 2] in mm, sharp at the given indices."""
        sharp = np.zeros(len(places_mm), bool)
        sharp[list(corners)] = True
        return smooth(self.px(places_mm), sharp, closed=True)

    def ellipse(self, centre_mm: Points, radii_mm: tuple[float, float] | Points, angle: float = 0.0) -> Points:
        """An ellipse [M, 2] in film px around a place in mm."""
        t = np.linspace(0, 2 * np.pi, 49)
        x, y = radii_mm[0] * np.cos(t), radii_mm[1] * np.sin(t)
        cos, sin = np.cos(angle), np.sin(angle)
        return self.px(centre_mm + np.stack([cos * x - sin * y, sin * x + cos * y], axis=1))
