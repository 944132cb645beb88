"""A film with prediction and truth drawn on it, in millimetres: a small JPEG inside an SVG."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ceph.data.images import read_film
from ceph.data.types import Points, Sample
from ceph.report.findings import Floats
from ceph.report.marks import Box, around, place_names
from ceph.report.strokes import tracing

MARGIN_MM = 12.0  # of film around the landmarks
LONG_SIDE = 640  # px of the JPEG, at most
QUALITY = 70
LABELLED = 5  # landmarks with their name on the film: the worst, beyond 2 mm
CLINICAL_MM = 2.0

FILM = Markup('<svg class="film" viewBox="0 0 {:.2f} {:.2f}" role="img" aria-label="film {}">{}</svg>')
IMAGE = Markup('<image href="data:image/jpeg;base64,{}" width="{:.2f}" height="{:.2f}" preserveAspectRatio="none"/>')
TRUTH = Markup(
    '<path class="miss {0}" d="M{1:.2f} {2:.2f}L{3:.2f} {4:.2f}"/>'
    '<circle class="truth {0}" cx="{1:.2f}" cy="{2:.2f}" r="1.2"/>'
)
FOUND = Markup('<path class="found {}" d="M{:.2f} {:.2f}l2 2m0 -2l-2 2"/>')
RING = Markup('<circle class="radius" cx="{:.2f}" cy="{:.2f}" r="{:.2f}"/>')
TRACE = Markup('<path class="trace" d="M{}"/>')
NAME = Markup('<path class="miss over" d="M{:.2f} {:.2f}L{:.2f} {:.2f}"/><text x="{:.2f}" y="{:.2f}">{}</text>')
LETTER_MM = (2.1, 3.6)  # width and height of a letter, by the size in report.css
BAR = Markup('<path class="bar" d="M4 {0:.2f}h{1}"/><text x="4" y="{2:.2f}">{1} mm</text>')


@dataclass(frozen=True, eq=False)
class Cut:
    """The part of a film around its landmarks: grey [h, w] uint8; `corner_px` (x, y) is its first pixel in the film."""

    image: NDArray[np.uint8]
    corner_px: tuple[int, int]
    mm_per_px: float

    @property
    def size_mm(self) -> tuple[float, float]:
        """(width, height)."""
        height, width = self.image.shape
        return width * self.mm_per_px, height * self.mm_per_px

    def to_mm(self, points_px: Points) -> Points:
        """From film px to mm right of and below the part's upper left edge."""
        return (points_px - self.corner_px + 0.5) * self.mm_per_px

    def shrunk(self, long_side: int) -> NDArray[np.uint8]:
        """The picture at no more than `long_side` px."""
        height, width = self.image.shape
        scale = min(1.0, long_side / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(cv2.resize(self.image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def cut_film(sample: Sample, *points_px: Points) -> Cut:
    """Read a film and cut out what holds all the points [K, 2] in film px. Raises DataError where it cannot be read."""
    film = read_film(sample.path)
    every = np.concatenate(points_px)
    every = every[np.isfinite(every).all(axis=1)]
    size = np.array(film.shape[::-1])
    margin = MARGIN_MM / sample.mm_per_px
    low = np.clip(np.floor(every.min(axis=0) - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(every.max(axis=0) + margin) + 1, low + 1, size).astype(int)
    part = np.ascontiguousarray(film[low[1] : high[1], low[0] : high[0]])
    return Cut(part, (int(low[0]), int(low[1])), sample.mm_per_px)


def film_svg(
    sample: Sample,
    landmarks: Sequence[str],
    found_px: Points,
    truth_px: Points,
    errors_mm: Floats,
    radii_mm: Floats | None = None,
) -> Markup:
    """The film with a circle at each true point [K, 2], a cross at each found one and a line between them.

    Under them lie the tracing of the found ones and a ring of each one's radius [K]. The worst landmarks have their
    names and errors [K] in mm. Raises DataError where the film cannot be read.
    """
    cut = cut_film(sample, found_px, truth_px)
    width, height = cut.size_mm
    done, jpeg = cv2.imencode(".jpg", cut.shrunk(LONG_SIDE), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    data = base64.b64encode(jpeg.tobytes()).decode("ascii") if done else ""
    found, truth = cut.to_mm(found_px), cut.to_mm(truth_px)
    parts = [IMAGE.format(data, width, height)]
    for stroke in tracing(found_px, landmarks):
        path = "L".join(f"{x:.2f} {y:.2f}" for x, y in cut.to_mm(stroke.points))
        parts += [TRACE.format(path)]
    for (x, y), radius in zip(found, [] if radii_mm is None else radii_mm, strict=False):
        if np.isfinite(radius):
            parts.append(RING.format(x, y, radius))
    for kind in ("under", "over"):
        for (x, y), (true_x, true_y) in zip(found, truth, strict=True):
            if np.isfinite(true_x):
                parts.append(TRUTH.format(kind, true_x, true_y, x, y))
            parts.append(FOUND.format(kind, x - 1, y - 1))
    for k, text, (left, top, right, bottom) in worst_names(cut, landmarks, found, truth, errors_mm):
        x, y = found[k]
        near = min(max(x, left), right), min(max(y, top), bottom)
        parts.append(NAME.format(x, y, *near, left, bottom - 0.8, text))
    parts.append(BAR.format(height - 4, 20 if width > 60 else 10 if width > 30 else 1, height - 5.5))
    return FILM.format(width, height, sample.id, Markup("").join(parts))


def worst_names(
    cut: Cut,
    landmarks: Sequence[str],
    found: Points,
    truth: Points,
    errors_mm: Floats,
    most: int = LABELLED,
    letter_mm: tuple[float, float] = LETTER_MM,
) -> list[tuple[int, str, Box]]:
    """The worst landmarks with their text (name and error) and a place for it in mm, inside the picture and apart."""
    width, height = cut.size_mm
    worst = [int(k) for k in np.argsort(-np.nan_to_num(errors_mm))[:most] if errors_mm[k] > CLINICAL_MM]
    texts = [f"{landmarks[k]} {errors_mm[k]:.1f}" for k in worst]
    marks = around([p for p in (*found.tolist(), *truth.tolist()) if np.isfinite(p).all()], 1.2)
    beside = [(-1e4, -1e4, 0, 1e4), (width, -1e4, 1e4, 1e4), (-1e4, -1e4, 1e4, 0), (-1e4, height, 1e4, 1e4)]
    scale = (0, height - 10, 24, height)
    sizes = [letter_mm[0] * len(text) for text in texts]
    boxes = place_names([tuple(found[k]) for k in worst], sizes, letter_mm[1], 2.0, [*marks, *beside * 3, scale])
    return list(zip(worst, texts, boxes, strict=True))
