"""A film with points and their names drawn in, as one picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ceph.report.sheet import CENTRE, OUTLINE, Picture

MAX_HEIGHT = 1600  # px; a taller film is shrunk


def overlay(film: NDArray[np.uint8], points_px: NDArray[np.float64], names: Sequence[str]) -> Picture:
    """A grey film [H, W] as RGB, shrunk to at most 1600 px of height, with a dot and its name at each point [K, 2]."""
    scale = min(1.0, MAX_HEIGHT / film.shape[0])
    size = (round(film.shape[1] * scale), round(film.shape[0] * scale))
    small = cv2.resize(film, size, interpolation=cv2.INTER_AREA) if scale < 1 else film
    picture = Image.fromarray(small).convert("RGB")
    draw = ImageDraw.Draw(picture)
    radius = max(2.5, size[1] / 400)
    height = max(11, round(size[1] / 75))
    font = ImageFont.load_default(height)
    centres = (np.asarray(points_px) + 0.5) * scale - 0.5
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in centres.tolist()]
    for box in taken[: len(centres)]:
        draw.ellipse(box, fill=CENTRE, outline=OUTLINE, width=1)
    for (x, y), name in zip(centres.tolist(), names, strict=True):
        width = draw.textlength(name, font=font)
        gap = radius + 3
        places = (
            (x + gap, y - height / 2),
            (x - gap - width, y - height / 2),
            (x - width / 2, y + gap),
            (x - width / 2, y - gap - height),
        )
        boxes = [(left, top, left + width, top + height) for left, top in places]
        box = min(boxes, key=lambda one: sum(_overlap(one, other) for other in taken))
        taken.append(box)
        draw.text(box[:2], name, fill=CENTRE, font=font, stroke_width=2, stroke_fill=OUTLINE)
    return np.asarray(picture)


Box = tuple[float, float, float, float]


def _overlap(a: Box, b: Box) -> float:
    """The area that two boxes (left, top, right, bottom) share."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
