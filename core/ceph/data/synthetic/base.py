"""The base of the skull as a film shows it: bones of both sides on top of each other, with the sella among them."""

from __future__ import annotations

import numpy as np

from ceph.data.synthetic.canvas import Canvas
from ceph.data.synthetic.clinic import Tissue
from ceph.data.synthetic.head import Head, Points, Vertex

# fmt: off
TEMPORAL: tuple[Vertex, ...] = (
    ("Po", -16, -10), ("Po", -2, -15), ("S", -9, 5), ("S", 3, 13), ("S", 18, 12), ("S", 22, 19), ("S", 6, 25),
    ("Ar", 5, 0), ("Ar", -3, 5), ("Po", -8, 18), ("Po", -24, 20), ("Po", -36, 6), ("Po", -30, -6),
)
OCCIPITAL: tuple[Vertex, ...] = (
    ("S", -9, 0), ("S", -4, 14), ("Ar", 0, -3), ("Ar", -4, 8), ("Po", -10, 26), ("Po", -32, 32), (-140, 2),
    (-142, -22), (-110, -24),
)
SPHENOID_SINUS: tuple[Vertex, ...] = (
    ("S", -3, 6.5), ("S", -4, 13), ("S", 5, 17), ("S", 16, 14), ("S", 24, 9), ("S", 22, -3), ("S", 11, -5),
    ("S", 5.6, 4),
)
# fmt: on


def draw_base(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """Add the temporal and occipital bones, the sphenoid's sinus and wings, and the many lines of the anterior base."""
    cranium = 0.29 * tissue.skull
    occipital = head.curve(OCCIPITAL, closed=True)
    canvas.fill(occipital, cranium * rng.uniform(0.3, 1.2), soft_mm=rng.uniform(0.8, 4.0))
    temporal = head.curve(TEMPORAL, closed=True)
    canvas.fill(temporal, max(cranium, 0.3) * rng.uniform(0.1, 1.0), soft_mm=rng.uniform(1.5, 6.0))
    for _ in range(2):  # the petrous bone of either side
        middle = head.near("Po", rng.uniform(-4, 12), rng.uniform(-6, 5))
        petrous = head.ellipse(middle, (rng.uniform(9, 18), rng.uniform(6, 11)), rng.normal(-0.3, 0.3))
        canvas.fill(petrous, tissue.bone * rng.uniform(0.0, 0.4), rim=rng.uniform(0, 0.15), soft_mm=rng.uniform(0.8, 4))
    _cells(canvas, head, rng)
    _sphenoid(canvas, head, rng, tissue)
    _lines(canvas, head, rng, tissue)


def _cells(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """The air cells of the mastoid and the canals of the inner ear."""
    amount = rng.uniform(0.2, 1.0)
    for _ in range(int(rng.integers(10, 60))):
        cell = head.ellipse(head.near("Po", *rng.normal((-15, 2), (9, 8))), tuple(rng.uniform(0.6, 2.4, 2)))
        canvas.fill(cell, -0.09 * amount, rim=0.09 * amount, rim_mm=0.6)
    for _ in range(int(rng.integers(0, 4))):
        canal = head.ellipse(head.near("Po", *rng.normal((3, 3), (4, 4))), tuple(rng.uniform(0.8, 2.0, 2)))
        canvas.fill(canal, -rng.uniform(0.1, 0.5), soft_mm=0.4)


def _sphenoid(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """The sinus under and before the sella, from a small cell to one that reaches behind it."""
    places, _ = head.vertices(SPHENOID_SINUS)
    middle = places.mean(axis=0)
    places = middle + (places - middle) * rng.uniform(0.7, 1.1) + rng.normal(0, 1.2, places.shape)
    air = rng.uniform(0.0, 0.35)
    canvas.fill(head.outline(places), -air, rim=tissue.bone * rng.uniform(0.0, 0.25), rim_mm=0.8, soft_mm=0.4)
    if rng.random() < 0.5:
        cut = rng.uniform(0.3, 0.7)
        wall = np.array([places[0] + cut * (places[4] - places[0]), places[7] + cut * (places[3] - places[7])])
        canvas.stroke(head.px(wall), tissue.bone * rng.uniform(0.05, 0.25), width_mm=0.9, soft_mm=0.3)


def _lines(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """Edges that run over the base: roofs of both orbits, the sphenoid's wings, the floor of the middle fossa."""

    def line(path: list[Vertex], most: float) -> None:
        places: Points = head.vertices(path)[0] + rng.normal(0, 1.5, (len(path), 2))
        density = tissue.bone * rng.uniform(0.0, most)
        curve = head.outline(np.concatenate([places, places[::-1]]), [0, len(path) - 1, len(path), 2 * len(path) - 1])
        canvas.stroke(curve[: len(curve) // 2], density, width_mm=rng.uniform(0.7, 2.4), soft_mm=rng.uniform(0.2, 0.9))

    for _ in range(int(rng.integers(1, 5))):  # the roofs of the orbits and the planum
        rise = rng.uniform(-7, 9)
        line([("S", 8, -7), (-30, -62 - 0.8 * rise), (-10, -66 - rise), ("N", -6, -6 - 0.7 * rise)], 0.45)
    for _ in range(int(rng.integers(1, 4))):  # the greater wings, crossing the base from above
        x = rng.uniform(13, 32)
        line([("S", x + 6, -16), ("S", x, -4), ("S", x - 1, 10), ("S", x - 5, 20), ("S", x - 14, 24)], 0.4)
    for _ in range(int(rng.integers(1, 4))):  # the floor of the middle fossa and the arch of the zygoma
        y = rng.uniform(10, 27)
        line([("Po", 8, y - 26), ("S", -2, y), ("S", 16, y - 2 + rng.normal(0, 2)), ("S", 32, y - 4)], 0.4)
    for _ in range(int(rng.integers(1, 3))):  # the pterygoid plates
        x = rng.uniform(-5, 4)
        line([("S", 18 + x, 12), ("PNS", x - 1, -14), ("PNS", x, -4), ("PNS", 0.4 * x - 1, 3)], 0.4)
    if rng.random() < 0.6:  # the clivus of real films is rather the edge of a shadow than a line
        line([("S", -7, -5), ("S", -9, 6), ("S", -12, 18), ("Ar", -6, 0)], 0.3)
