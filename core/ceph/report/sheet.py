"""A contact sheet: rows of films with their points drawn in, captions below, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ceph.files import replacing
from ceph.report.marks import EDGE, TRUE

Picture = NDArray[np.uint8]  # [H, W, 3], RGB

GAP, CAPTION = 6, 18  # px between the tiles, and below each for its caption
PAPER, INK = (28, 28, 28), (225, 225, 225)
RADIUS = 4.5  # px of a circle
SHIFT = 4  # bits of a pixel's fraction in cv2's drawing


class Tile(NamedTuple):
    """One picture of a sheet: a grey film [H, W] uint8, points [K, 2] in its pixels, and a line below."""

    image: NDArray[np.uint8]
    points: NDArray[np.floating]
    caption: str = ""


def sheet(rows: Sequence[Sequence[Tile]], notes: Sequence[str] = ()) -> Picture:
    """All tiles at their own size, each in the middle of a cell as large as the largest; RGB [H, W, 3].

    The lines of `notes` stand above them.
    """
    tiles = [tile for row in rows for tile in row]
    height, width = (max(tile.image.shape[axis] for tile in tiles) for axis in (0, 1))
    columns = max(map(len, rows))
    shape = (GAP + len(rows) * (height + CAPTION + GAP), GAP + columns * (width + GAP), 3)
    paper = np.full(shape, PAPER, dtype=np.uint8)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            h, w = tile.image.shape
            top, left = GAP + r * (height + CAPTION + GAP), GAP + c * (width + GAP)
            y, x = top + (height - h) // 2, left + (width - w) // 2
            paper[y : y + h, x : x + w] = with_points(tile.image, tile.points)
            paper[top + height : top + height + CAPTION, left : left + width] = line(tile.caption, width)
    above = [line(note, paper.shape[1]) for note in notes]
    return np.vstack([*above, paper])


def with_points(image: NDArray[np.uint8], points: NDArray[np.floating]) -> Picture:
    """A film [H, W] as RGB with a circle at each true point [K, 2]: light with dark edges, right to 1/16 px."""
    drawn = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    centres = np.round(np.asarray(points) * (1 << SHIFT)).astype(int).tolist()
    for colour, thick in ((EDGE, 3), (TRUE, 1)):
        for centre in centres:
            cv2.circle(drawn, centre, round(RADIUS * (1 << SHIFT)), colour, thick, cv2.LINE_AA, SHIFT)
    return np.asarray(drawn, dtype=np.uint8)


def line(text: str, width: int) -> Picture:
    """A caption [CAPTION, width, 3]; what is too long is cut off."""
    strip = Image.new("RGB", (width, CAPTION), PAPER)
    ImageDraw.Draw(strip).text((2, 1), text, fill=INK, font=ImageFont.load_default(12))
    return np.asarray(strip)


def write_png(picture: Picture, path: Path) -> None:
    """Write a picture as PNG. Raises OSError where it cannot be written."""
    with replacing(path) as file:
        Image.fromarray(picture).save(file, format="PNG")
