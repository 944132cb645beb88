"""Pictures that are no lateral cephalograms: scenes of smooth noise, hands, arcs of teeth as of a panoramic film."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Film = NDArray[np.uint8]
Rng = np.random.Generator


def look_alikes(count: int, seed: int = 0) -> list[tuple[str, Film]]:
    """So many pictures, each with the name of its kind; the three kinds in turn."""
    kinds = {"scene": scene, "hand": hand, "panoramic": panoramic}
    rng = np.random.default_rng(seed)
    names = [list(kinds)[n % len(kinds)] for n in range(count)]
    return [(name, kinds[name](rng)) for name in names]


def clouds(rng: Rng, size: tuple[int, int], steps: tuple[int, ...] = (4, 8, 16, 32, 64)) -> NDArray[np.float64]:
    """Noise [H, W] that is smooth at several scales, 0..1."""
    total = np.zeros(size)
    for step in steps:
        grid = rng.normal(size=(step * size[0] // max(size) + 2, step * size[1] // max(size) + 2))
        total += cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC) / step
    return (total - total.min()) / np.ptp(total)


def finished(picture: NDArray[np.float64], rng: Rng) -> Film:
    """Blurred a little, with grain, as bytes."""
    soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(1, 3)) + rng.normal(scale=0.02, size=picture.shape)
    return (255 * np.clip(soft, 0, 1)).astype(np.uint8)


def scene(rng: Rng) -> Film:
    """A photograph's stand-in: a sky, a horizon, clouds and some shapes."""
    height, width = rng.integers(600, 1000, 2)
    picture = clouds(rng, (height, width)) * 0.5 + np.linspace(rng.uniform(), rng.uniform(), height)[:, None] * 0.5
    picture[int(height * rng.uniform(0.4, 0.8)) :] *= rng.uniform(0.3, 0.8)
    for _ in range(rng.integers(2, 7)):
        centre, axes = rng.integers(0, [width, height]), rng.integers(20, 200, 2)
        grey, turn = float(rng.uniform()), float(rng.uniform(0, 180))
        if rng.uniform() < 0.5:
            cv2.ellipse(picture, centre.tolist(), axes.tolist(), turn, 0, 360, grey, -1)
        else:
            cv2.rectangle(picture, centre.tolist(), (centre + axes).tolist(), grey, -1)
    return finished(picture, rng)


def hand(rng: Rng) -> Film:
    """A hand: a palm and five fingers of soft tissue, with bones in them, on black."""
    height, width = 900, 700
    soft, bone = np.zeros((height, width)), np.zeros((height, width))
    wrist, size = np.array([350, 800]) + rng.integers(-30, 30, 2), rng.uniform(0.8, 1.15)
    cv2.ellipse(soft, (wrist - [0, 200]).tolist(), (int(150 * size), int(170 * size)), 0, 0, 360, 0.35, -1)
    cv2.line(soft, wrist.tolist(), (wrist + np.array([0, 99])).tolist(), 0.35, int(150 * size))
    for finger, degrees in enumerate((-50, -20, -4, 11, 27)):
        way = np.radians(degrees + rng.uniform(-5, 5))
        along = np.array([np.sin(way), -np.cos(way)])
        length = size * (95, 125, 140, 128, 100)[finger]
        at = wrist - [0, 60] + along * 40
        for part in range(4):
            end = at + along * length * (1.0, 0.9, 0.65, 0.5)[part]
            cv2.line(soft, at.astype(int).tolist(), end.astype(int).tolist(), 0.35, int(58 * size))
            start, stop = at + along * 8, end - along * 8
            cv2.line(bone, start.astype(int).tolist(), stop.astype(int).tolist(), 0.45, int(26 * size))
            at = end
    for _ in range(8):  # carpal bones
        place = wrist - [0, 40] + rng.integers(-60, 60, 2)
        cv2.circle(bone, place.tolist(), int(rng.integers(16, 28)), 0.4, -1)
    picture = cv2.GaussianBlur(soft, (0, 0), 8) + bone * (0.7 + 0.3 * clouds(rng, (height, width)))
    return finished(picture[:, ::-1] if rng.uniform() < 0.5 else picture, rng)


def panoramic(rng: Rng) -> Film:
    """An orthopantomogram: a wide film, a jaw as an arc, two rows of teeth on it, and rami at both sides."""
    height, width = 500, 1000
    picture = 0.25 + 0.2 * clouds(rng, (height, width))
    x = np.linspace(-1, 1, width)
    smile, middle = rng.uniform(40, 110), 250 + rng.integers(-20, 20)
    for side, reach in ((-1, 60), (1, 60)):
        for tooth in np.linspace(-0.62, 0.62, 16):
            place = np.array([(tooth + 1) / 2 * width, middle + smile * (0.4 - tooth**2) + side * 38])
            axes = (int(rng.integers(16, 24)), reach // 2 + int(rng.integers(0, 10)))
            cv2.ellipse(
                picture, place.astype(int).tolist(), axes, tooth * 20, 0, 360, float(rng.uniform(0.7, 0.95)), -1
            )
    jaw = np.stack([(x + 1) / 2 * width, middle + 140 - smile * x**2 - 120 * np.abs(x) ** 6], -1).astype(np.int32)
    cv2.polylines(picture, [jaw], isClosed=False, color=0.75, thickness=22)
    for at in (0.1, 0.9):
        cv2.line(picture, (int(at * width), 80), (int(at * width), 330), 0.6, 60)
    return finished(picture, rng)
