"""A film with predicted points, their names, how sure they are, and a scale, as one picture."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ceph.report.marks import DOUBT, EDGE, FOUND, around, place_names
from ceph.report.sheet import PAPER, Picture
from ceph.report.strokes import Stroke, draw_strokes

MAX_HEIGHT = 1600  # px; a taller film is shrunk
RING = (120, 230, 140)  # green
BAR_MM = (50, 20, 10, 5)


def overlay(
    film: NDArray[np.uint8],
    points_px: NDArray[np.float64],
    names: Sequence[str],
    scores: Sequence[float] | NDArray[np.float64] = (),
    doubtful: Collection[int] = (),
    title: str = "",
    mm_per_px: float | None = None,
    strokes: Sequence[Stroke] = (),
    radii_px: NDArray[np.float64] | None = None,
) -> Picture:
    """A grey film [H, W] as RGB, shrunk to at most 1600 px of height, with a cross and its name at each point [K, 2].

    Under them lie the `strokes` of a tracing, and thin rings of the `radii_px` [K] of the points. Those of the K points
    that are `doubtful` stand in a square, their scores beside their names. Above the film stand its `title`, what the
    marks mean, and a bar of so many mm; without `title` there is nothing above it.
    """
    scale = min(1.0, MAX_HEIGHT / film.shape[0])
    size = (round(film.shape[1] * scale), round(film.shape[0] * scale))
    small = cv2.resize(film, size, interpolation=cv2.INTER_AREA) if scale < 1 else film
    picture = Image.fromarray(small).convert("RGB")
    draw = ImageDraw.Draw(picture)
    radius = max(2.5, size[1] / 320)
    height = max(11, round(size[1] / 75))
    font = ImageFont.load_default(height)
    centres = ((np.asarray(points_px) + 0.5) * scale - 0.5).tolist()
    draw_strokes(draw, strokes, scale, 1)
    for (x, y), reach in zip(centres, [] if radii_px is None else (radii_px * scale).tolist(), strict=False):
        if math.isfinite(reach):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=RING, width=1)
    for k, (x, y) in enumerate(centres):
        for colour, width in ((EDGE, 3), (FOUND, 1)):
            draw.line((x - radius, y - radius, x + radius, y + radius), fill=colour, width=width)
            draw.line((x - radius, y + radius, x + radius, y - radius), fill=colour, width=width)
        if k in doubtful:
            for colour, width in ((EDGE, 3), (DOUBT, 2)):
                draw.rectangle(around([(x, y)], 2.5 * radius)[0], outline=colour, width=width)
    texts = [f"{name} ? {scores[k]:.2g}" if k in doubtful else name for k, name in enumerate(names)]
    marks = [*around(centres, radius), *around([centres[k] for k in doubtful], 2.5 * radius)]
    gaps = radius + 3
    boxes = place_names(centres, [draw.textlength(text, font=font) for text in texts], height, gaps, marks)
    for k, (box, text) in enumerate(zip(boxes, texts, strict=True)):
        colour = DOUBT if k in doubtful else FOUND
        draw.text(box[:2], text, fill=colour, font=font, stroke_width=2, stroke_fill=EDGE)
    drawn = np.asarray(picture)
    if not title:
        return drawn
    heading = _heading(title, size[0], font, height, scale, mm_per_px, rings=radii_px is not None)
    return np.vstack([heading, drawn])


def _heading(
    title: str,
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    height: int,
    scale: float,
    mm_per_px: float | None,
    *,
    rings: bool,
) -> Picture:
    """The strip above a film: its name, a bar, and what the marks mean; cut off where the film is narrow."""
    line = round(1.5 * height)
    strip = Image.new("RGB", (width, 3 * line), PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((6, line * 0.2), title, fill="white", font=font)
    meaning = "cross: predicted; in a square: doubtful, with its score" + "; ring: its radius" * rings
    draw.text((6, line * 1.2), meaning, fill=FOUND, font=font)
    if mm_per_px is None:
        draw.text((6, line * 2.2), "no scale: the film's spacing is unknown", fill="white", font=font)
    else:
        px = [(mm, mm / mm_per_px * scale) for mm in BAR_MM]
        mm, length = next(((mm, length) for mm, length in px if length < width / 3), px[-1])
        draw.line((6, line * 2.6, 6 + length, line * 2.6), fill="white", width=3)
        draw.text((12 + length, line * 2.2), f"{mm} mm", fill="white", font=font)
    return np.asarray(strip)
