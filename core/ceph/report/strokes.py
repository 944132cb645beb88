"""The lines of a tracing, by a film's points: planes, axes of teeth, jaw and profile, as far as there are points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from ceph.data.formats.spelling import place_of

LINE = (126, 232, 160)  # RGB: green, unlike truth (blue), prediction (yellow) and doubt (red)
# Each end of a plane is a point, or halfway between two; drawn on by a share of its length.
PLANES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("SN", ("S",), ("N",)),
    ("FH", ("Po",), ("Or",)),
    ("NL", ("PNS",), ("ANS",)),
    ("occlusal", ("UMT", "LMT"), ("UIT", "LIT")),
    ("ML", ("Go",), ("Me",)),
    ("NA", ("N",), ("A",)),
    ("NB", ("N",), ("B",)),
    ("U1", ("UIA",), ("UIT",)),
    ("L1", ("LIA",), ("LIT",)),
    ("E", ("Pn",), ("Pog`",)),
)
BEYOND = 0.08
OUTLINES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("lower jaw", ("Co", "Ar", "Go", "Me", "Gn", "Pog", "B")),
    ("base of the skull", ("Ar", "S")),
    ("profile", ("G", "N`", "Pn", "Sn", "Ls", "Li", "Pog`", "Gn`", "Me`")),
)


class Stroke(NamedTuple):
    """A line of a tracing: its name, its points [n, 2] in film px, and whether it is an outline, or else a plane."""

    name: str
    points: NDArray[np.float64]
    outline: bool = False


def draw_strokes(draw: ImageDraw.ImageDraw, strokes: Sequence[Stroke], scale: float, width: int) -> None:
    """Draw the strokes of a film that is shown `scale` times its size; outlines are broader."""
    for stroke in strokes:
        path = [tuple(xy) for xy in ((stroke.points + 0.5) * scale - 0.5).tolist()]
        draw.line(path, fill=LINE, width=width * 2 if stroke.outline else width, joint="curve")


def tracing(points_px: NDArray[np.float64], landmarks: Sequence[str]) -> list[Stroke]:
    """The strokes that the points [K, 2] of a film allow, in its px; NaN where a point is missing."""

    def at(names: Sequence[str]) -> NDArray[np.float64] | None:
        places = [place_of(name, landmarks) for name in names]
        there = [points_px[k] for k in places if k is not None and np.isfinite(points_px[k]).all()]
        return np.mean(there, axis=0) if len(there) == len(names) else None

    strokes = []
    for name, begin, end in PLANES:
        a, b = at(begin), at(end)
        if a is not None and b is not None:
            strokes.append(Stroke(name, np.stack([a - BEYOND * (b - a), b + BEYOND * (b - a)])))
    for name, path in OUTLINES:
        there = [xy for symbol in path if (xy := at((symbol,))) is not None]
        if len(there) > 1:
            strokes.append(Stroke(name, np.stack(there), outline=True))
    return strokes
