"""A tracing: lines, planes and the profile over a film, with a few values, as SVG and as a picture."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ceph.report.marks import EDGE, FOUND
from ceph.report.sheet import Picture
from ceph.report.strokes import LINE, Stroke, draw_strokes

MAX_SIDE = 1600  # px of the picture; a larger film is shrunk
QUALITY = 80

SVG = Markup(
    '<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="-0.5 -0.5 {w} {h}" '
    'font-family="sans-serif" font-size="{size:.1f}">\n<title>{title}</title>\n{body}\n</svg>\n'
)
IMAGE = Markup('<image href="data:image/jpeg;base64,{}" x="-0.5" y="-0.5" width="{}" height="{}"/>')
PAPER = Markup('<rect x="-0.5" y="-0.5" width="{}" height="{}" fill="#1c1c1c"/>')
PATH = Markup(
    '<path d="{d}" fill="none" stroke="{colour}" stroke-width="{width:.2f}"{dash}><title>{name}</title></path>'
)
POINT = Markup('<circle cx="{:.2f}" cy="{:.2f}" r="{:.2f}" fill="{}"><title>{}</title></circle>')
TEXT = Markup(
    '<text x="{:.1f}" y="{:.1f}" fill="{}" stroke="#141414" stroke-width="{:.1f}" paint-order="stroke">{}</text>'
)


def tracing_png(
    film: NDArray[np.uint8], strokes: Sequence[Stroke], points_px: NDArray[np.float64], lines: Sequence[str]
) -> Picture:
    """A grey film [H, W] as RGB with the strokes, a dot at each point [K, 2], and lines of text in a corner."""
    scale = min(1.0, MAX_SIDE / max(film.shape))
    size = (round(film.shape[1] * scale), round(film.shape[0] * scale))
    picture = Image.fromarray(cv2.resize(film, size, interpolation=cv2.INTER_AREA)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    width = max(1, round(size[0] / 800))
    draw_strokes(draw, strokes, scale, width)
    for x, y in ((points_px[np.isfinite(points_px).all(axis=1)] + 0.5) * scale - 0.5).tolist():
        draw.ellipse((x - 2 * width, y - 2 * width, x + 2 * width, y + 2 * width), fill=FOUND, outline=EDGE)
    font = ImageFont.load_default(_letters(size[0]))
    draw.multiline_text((8, 8), "\n".join(lines), fill=LINE, font=font, stroke_width=2, stroke_fill=EDGE)
    for (x, y), name in _names(strokes, scale):
        draw.text((x + 4, y + 2), name, fill=LINE, font=font, stroke_width=2, stroke_fill=EDGE)
    return np.asarray(picture)


def tracing_svg(
    film: NDArray[np.uint8] | None,
    size: tuple[int, int],
    strokes: Sequence[Stroke],
    points_px: NDArray[np.float64],
    names: Sequence[str],
    lines: Sequence[str],
    title: str,
) -> str:
    """The same as SVG in px of the film of `size` (H, W), the film inside as JPEG where there is one."""
    height, width = size
    letters, colour = _letters(width), f"rgb{LINE}"
    body: list[Markup] = [PAPER.format(width, height)]
    if film is not None:
        _, jpeg = cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        body = [IMAGE.format(base64.b64encode(jpeg.tobytes()).decode("ascii"), width, height)]
    for stroke in strokes:
        d = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in stroke.points)
        thick = width / (400 if stroke.outline else 800)
        body.append(PATH.format(d=d, colour=colour, width=thick, name=stroke.name, dash=""))
    for (x, y), name in zip(points_px, names, strict=True):
        if np.isfinite(x):
            body.append(POINT.format(x, y, width / 320, f"rgb{FOUND}", name))
    for n, text in enumerate(lines):
        body.append(TEXT.format(8, 8 + 1.25 * letters * (n + 0.8), colour, letters / 6, text))
    for (x, y), name in _names(strokes, 1.0):
        body.append(TEXT.format(x + 4, y + letters, colour, letters / 6, name))
    return str(SVG.format(w=width, h=height, size=letters, title=title, body=Markup("\n").join(body)))


def _letters(width: int) -> int:
    return max(11, round(width / 60))


def _names(strokes: Sequence[Stroke], scale: float) -> list[tuple[tuple[float, float], str]]:
    """Where the names of planes stand: at their end."""
    return [
        ((float(s.points[-1, 0]) * scale, float(s.points[-1, 1]) * scale), s.name) for s in strokes if not s.outline
    ]
