"""Write the tracing of each film that was measured, with its values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ceph.data.images import read_film, stem_of
from ceph.data.names import shown
from ceph.errors import ConfigError, DataError
from ceph.files import write_text
from ceph.report.sheet import write_png
from ceph.report.strokes import tracing
from ceph.report.tracing import tracing_png, tracing_svg

if TYPE_CHECKING:
    from ceph.measuring.analyse import Analysis

SHORT = ("SNA", "SNB", "ANB", "Wits", "SN-GoMe", "FMA", "IMPA", "U1-SN", "U1-L1")  # written on a tracing
MARGIN, LARGEST = 0.15, 8000  # around the points, and px of a side, where there is no film


def write_tracings(found: Analysis, folder: Path) -> str:
    """A PNG and an SVG of each film into `folder`, and what was written, in words.

    Where a film is not to be found it is left out of its picture. Raises ConfigError where one cannot be written, and
    for the folder of a film.
    """
    beside = (film for film in map(Path, found.films) if film.parent.resolve() == folder.resolve() and film.exists())
    if over := next(beside, None):
        what = f"a picture would be written over a film: {over} lies in {folder}"
        raise ConfigError(what, key="--tracings", hint="name a folder of its own")
    missing, taken = 0, set[str]()
    for f, film in enumerate(found.films):
        if np.isnan(found.points.points_px[f]).all():
            continue
        points, stem = found.points.points_px[f], shown(stem_of(Path(film)))
        name = next(n for n in (stem, *(f"{stem}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)
        taken.add(name)
        try:
            picture = read_film(Path(film))
        except DataError:
            picture = None
            missing += 1
        lines, strokes = [name, *_values(found, f)], tracing(points, found.points.landmarks)
        low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
        margin = MARGIN * (high - low).max()
        width, height = (min(max(math.ceil(end), 1), LARGEST) for end in high + margin)
        blank = np.full((height, width), 28, dtype=np.uint8) if picture is None else picture
        size = blank.shape[0], blank.shape[1]
        svg = tracing_svg(picture, size, strokes, points, found.points.landmarks, lines, name)
        try:
            folder.mkdir(exist_ok=True)
            write_png(tracing_png(blank, strokes, points, lines), folder / f"{name}.png")
            write_text(folder / f"{name}.svg", svg)
        except OSError as error:
            raise ConfigError(f"cannot write: {error}", key="--tracings") from None
    alone = f" ({missing} without their film, which is not where it was)" if missing else ""
    return f"wrote {len(taken)} tracings into {folder}{alone}"


def _values(found: Analysis, f: int) -> list[str]:
    lines = []
    for m, one in enumerate(found.measurements):
        value, low, high = found.values[f, m], found.low[f, m], found.high[f, m]
        if one.name in SHORT and math.isfinite(value):
            between = f" ({low:.1f} to {high:.1f})" if math.isfinite(low) else ""
            lines.append(f"{one.name} {value:.1f} {one.unit}{between}")
    return lines
