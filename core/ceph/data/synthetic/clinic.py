"""Films as from many clinics: poses, magnifications, exposures, equipment and clutter drawn from wide ranges.

A network that is to read real films must not learn one machine's grey values (domain randomisation, Tobin et al. 2017):
what varies here is wide on purpose, and few of the films look like any clinic's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.synthetic.canvas import Canvas, Exposure
from ceph.data.synthetic.head import Head, Points


@dataclass(frozen=True)
class Tissue:
    """What a head is made of: factors of densities. All are 1 in films that are not varied.

    Of the density of the maxilla, the share `spine` reaches ANS and A; the rest ends `recess_mm` behind them.
    """

    soft: float = 1.0
    skull: float = 1.0  # within the cranium
    base: float = 1.0  # the line of the skull's base
    bone: float = 1.0  # all other bone
    nasal: float = 1.0  # the nasal bones
    orbit: float = 1.0  # the rim of the orbit but for its floor
    jaw: float = 1.0  # the near side of the mandible
    tooth: float = 1.0
    root: float = 1.0  # how clearly the roots of incisors stand out of the bone
    rim: float = 1.0  # the edge of the cranium below
    clivus: float = 1.0
    cortex: float = 1.0  # the edge of the mandible
    palate: float = 1.0
    sella_width: float = 1.0  # of the sella about its landmark
    sella_depth: float = 1.0
    chin_mm: float = 0.0  # how far above the marks of the soft chin and of the lower lip the profile is foremost
    lip_mm: float = 0.0
    spine: float = 1.0
    recess_mm: float = 0.0
    front_mm: float = 0.0  # how far behind nasion the cranium's cavity ends: between lie the sinus and the frontal bone


# Where on a head other readers, and other peoples' faces, have a landmark, against the table of shapes: a range in mm
# to the right and one downwards. The front of the maxilla and the profile are nearly straight there.
ELSEWHERE = {"A": ((-1, 6), (1, 8)), "Pog`": ((-1, 0), (0, 8)), "Li": ((-1, 0), (0, 6)), "B": ((-1, 3), (-3, 1))}
LOOSE = ("S", "N", "Or", "Po", "ANS", "PNS", "Ar", "Go", "Co", "Sn", "Ls", "Pn", "N`")


def readings(rng: np.random.Generator, shape: Points, landmarks: Sequence[str]) -> Points:
    """The head [K, 2] in mm with each landmark elsewhere than the table's heads have it, those of `LOOSE` by most."""
    sd = np.array([2.0 if symbol in LOOSE else 0.8 for symbol in landmarks])
    moved: Points = shape + sd[:, None] * np.clip(rng.standard_normal(shape.shape), -2, 2)
    for symbol, (right, down) in ELSEWHERE.items():
        moved[list(landmarks).index(symbol)] += rng.uniform(*right), rng.uniform(*down)
    return moved


def pose(rng: np.random.Generator, shape: Points) -> Points:
    """The head [K, 2] in mm as a film shows it: magnified by 0.78 to 1.08 and turned by up to 14 degrees."""
    angle, size = np.radians(rng.uniform(-14, 14)), rng.uniform(0.78, 1.08)
    cos, sin = np.cos(angle), np.sin(angle)
    posed: Points = size * shape @ np.array([[cos, sin], [-sin, cos]])
    return posed


def tissue(rng: np.random.Generator) -> Tissue:
    """Soft tissue from hardly visible to as dense as bone, thin and thick skulls, spines that hardly show."""
    return Tissue(
        soft=float(np.exp(rng.uniform(np.log(0.2), np.log(1.2)))),
        skull=float(rng.uniform(0.8, 3.2)),
        base=float(rng.uniform(0.1, 0.9)),
        bone=float(rng.uniform(0.45, 1.25)),
        nasal=float(rng.uniform(0.1, 1.0)),
        orbit=float(rng.uniform(0.1, 1.0)),
        jaw=float(rng.uniform(0.3, 1.0)),
        tooth=float(rng.uniform(0.35, 1.0)),
        root=float(rng.uniform(0.0, 1.0)),
        rim=float(rng.uniform(0.0, 0.7)),
        clivus=float(rng.uniform(0.0, 0.8)),
        cortex=float(rng.uniform(0.1, 1.0)),
        palate=float(rng.uniform(0.1, 0.9)),
        sella_width=float(rng.uniform(0.75, 1.15)),
        sella_depth=float(rng.uniform(0.45, 1.1)),
        chin_mm=float(rng.uniform(2.0, 10.0)),
        lip_mm=float(rng.uniform(1.0, 7.0)),
        spine=float(0.6 * rng.uniform() ** 2),
        recess_mm=float(rng.uniform(1.5, 10.0)),
        front_mm=float(rng.uniform(0.5, 11.0)),
    )


def exposure(rng: np.random.Generator) -> Exposure:
    """A machine's grey values, from pale to burnt out."""
    return Exposure(
        gain=float(np.exp(rng.uniform(np.log(0.8), np.log(3.0)))),
        gamma=float(np.exp(rng.uniform(np.log(0.6), np.log(1.9)))),
        noise=float(rng.uniform(0.002, 0.016)),
        blur_mm=float(rng.uniform(0.15, 0.7)),
        background=float(rng.uniform(0.0, 0.25)),
        falloff=float(rng.uniform(0.0, 0.9)),
    )


def clutter(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """Add what lies before and behind the marked bones: edges, cells, cloudy places, grain; none marks a landmark."""
    amount = rng.uniform(0.3, 1.0)
    for _ in range(int(rng.integers(8, 34))):  # edges of bones out of the middle plane
        turns = np.cumsum(rng.normal(0, 0.45, 5)) + rng.uniform(0, 2 * np.pi)
        steps = rng.uniform(4, 14) * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        path = rng.uniform((-105, -75), (10, 50)) + np.cumsum(steps, axis=0)
        curve = head.curve([(float(x), float(y)) for x, y in path])
        density = amount * rng.uniform(0.06, 0.36) * (1 if rng.random() < 0.8 else -1)
        canvas.stroke(curve, density, width_mm=rng.uniform(0.7, 2.6), soft_mm=rng.uniform(0.2, 1.2))
    for _ in range(int(rng.integers(6, 16))):
        centre = head.place(rng.uniform((-120, -80), (10, 55), (1, 2)))[0]
        blob = head.ellipse(centre, tuple(rng.uniform(5, 24, 2)), rng.uniform(0, np.pi))
        canvas.fill(blob, amount * rng.uniform(-0.12, 0.24), soft_mm=rng.uniform(1.5, 6.0))
    for _ in range(3):  # the petrous bones, and all else about the skull's base
        centre = head.place(rng.uniform((-105, -45), (-40, -20), (1, 2)))[0]
        cloud = head.ellipse(centre, (rng.uniform(12, 30), rng.uniform(7, 16)), rng.normal(0, 0.4))
        canvas.fill(cloud, amount * rng.uniform(0, 0.6), soft_mm=rng.uniform(2.0, 7.0))
    for low, high in (((-112, -28), (-80, 6)), ((-34, -60), (6, -20))):  # cells of the mastoid and of the midface
        for _ in range(int(rng.integers(0, 30))):
            centre = head.place(rng.uniform(low, high, (1, 2)))[0]
            cell = head.ellipse(centre, tuple(rng.uniform(1.0, 4.0, 2)), rng.uniform(0, np.pi))
            canvas.fill(cell, -0.06 * amount, rim=0.10 * amount, rim_mm=0.6)
    for place in ((4.0, -62.0), *rng.uniform((-110, -90), (30, 55), (int(rng.integers(1, 5)), 2))):
        middle = head.px(head.place(np.array([place]))[0])  # thinner or denser here, so that no density is a clue
        canvas.shade(middle, rng.uniform(8, 35), float(np.exp(rng.uniform(-1.0, 0.4))))
    for grain_mm, most in ((25.0, 0.25), (6.0, 0.06), (1.2, 0.06)):
        canvas.texture(rng, grain_mm, float(rng.uniform(0, most)))
    dense = np.float32(max(float(np.percentile(canvas.density, 97)), 0.05))
    canvas.density *= np.float32(rng.uniform(0.5, 1.3)) / dense


def equipment(canvas: Canvas, head: Head, rng: np.random.Generator) -> None:
    """Add ear rods, a nasion support, the apron's edge and a margin before the face that the beam hardly reached."""
    height, width = canvas.density.shape
    mm = 1 / canvas.mm_per_px
    if rng.random() < 0.7:
        around, radius = head.near("Po", *rng.normal((0, 4), 3.0)), rng.uniform(2.5, 11.0)
        for _ in range(int(rng.integers(1, 4))):
            centre, round_mm = around + rng.normal(0, 1.5, 2), radius * rng.uniform(0.75, 1.1)
            ring = head.ellipse(centre, (round_mm, round_mm))
            canvas.stroke(ring, rng.uniform(0.05, 0.7), width_mm=rng.uniform(0.8, 2.2), soft_mm=0.3)
    if rng.random() < 0.5:
        foot = head.px(head.near("N`", rng.uniform(8, 22), rng.uniform(-18, 6)))
        top = np.array([foot[0] + rng.normal(0, 2) * mm, 0.0])
        dense = rng.uniform(0.1, 0.7)
        canvas.stroke(np.array([top, foot]), dense, width_mm=rng.uniform(1.5, 5.0))
        if rng.random() < 0.7:
            canvas.stroke(np.array([foot, foot - (rng.uniform(5, 18) * mm, 0)]), 0.7 * dense, width_mm=5.0)
        for tick in range(12):
            at = foot - (0, (4 + 3 * tick) * mm)
            canvas.stroke(at + np.array([(0, 0), (3 * mm, 0)]), dense, width_mm=0.8)
    if rng.random() < 0.35:  # the apron, below and behind
        rise = rng.uniform(5, 25) * mm
        apron = [(-9, height - rise), (0.2 * width, height - 0.8 * rise), (rng.uniform(0.3, 0.6) * width, height + 9)]
        canvas.fill(np.array([*apron, (-9, height + 9)]), 4.0)
    if rng.random() < 0.5:
        start = min(head.px(head["Pn"])[0] + rng.uniform(-15, 25) * mm, width - 2)
        ramp = np.clip((np.arange(width) - start) / (width - start), 0, 1)[None]
        above = np.clip(1 - np.arange(height) / (rng.uniform(0.02, 0.35) * height), 0, 1)[:, None]
        ramp = np.hypot(ramp, above * (rng.random() < 0.6)).astype(np.float32)
        canvas.density += np.float32(rng.uniform(0.2, 2.0)) * ramp ** np.float32(rng.uniform(1.0, 2.5))
    if rng.random() < 0.3:  # bands of a scanner or of a shaped beam
        for _ in range(int(rng.integers(1, 4))):
            left, wide = rng.uniform(-0.1, 0.9) * width, rng.uniform(0.05, 0.4) * width
            canvas.density[:, max(int(left), 0) : int(left + wide)] += np.float32(rng.uniform(-0.06, 0.10))


def develop(image: NDArray[np.uint8], rng: np.random.Generator, mm_per_px: float) -> NDArray[np.uint8]:
    """The film [H, W] as it is stored: stretched to all greys, sharpened by a machine, with clips and cut borders."""
    height, width = image.shape
    if rng.random() < 0.6:
        low, high = np.percentile(image, (rng.uniform(0, 3), rng.uniform(96, 100)))
        image = np.clip((image - low) * (255 / max(high - low, 30)), 0, 255).astype(np.uint8)
    kind = rng.random()
    if kind < 0.25:
        image = cv2.createCLAHE(rng.uniform(1, 4), (8, 8)).apply(image).astype(np.uint8)
    elif kind < 0.5:
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(1, 12) / mm_per_px)
        amount = rng.uniform(0.2, 1.0)
        image = cv2.addWeighted(image, 1 + amount, soft, -amount, 128 * amount * rng.uniform(0, 0.6)).astype(np.uint8)
    if rng.random() < 0.4:  # clips of a cassette, and a label
        deep, bright = rng.uniform(3, 8) / mm_per_px, int(rng.integers(230, 256))
        for rows in (slice(0, int(deep)), slice(height - int(deep), height)):
            for share in np.arange(0.15, 1, rng.uniform(0.2, 0.35)):
                image[rows, int(share * width) : int((share + 0.06) * width)] = bright
        text = "".join(rng.choice(list("0123456789ABCDEF"), 8))
        place = (int(rng.uniform(0, 0.7) * width), int(rng.choice([0.03, 0.98]) * height))
        grey, thick = int(rng.integers(256)), 1 + height // 900
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, height / 1600, grey, thick)
    return image
