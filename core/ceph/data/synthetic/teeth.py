"""Draw teeth whose cusps, tips and apices are the landmarks."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ceph.data.synthetic.canvas import Canvas
from ceph.data.synthetic.head import Head, Points

# fmt: off
# Half the width of an incisor in mm, from its tip (0) to the apex of its root (1).
INCISOR = (
    (0.0, 0.15), (0.03, 0.8), (0.15, 2.1), (0.34, 3.6), (0.46, 3.3), (0.70, 2.2), (0.90, 1.1), (0.97, 0.6), (1.0, 0.1),
)
# fmt: on


LOSABLE = ("UPM", "UMT", "LPM", "LMT")  # cusp tips of teeth that a film may lack


def occlusion(head: Head) -> Points:
    """Unit vector [2] from the upper to the lower jaw, square to the plane of the bite."""
    along = head["UIT"] + head["LIT"] - head["UMT"] - head["LMT"]
    along = along / np.hypot(*along)
    return np.array([-along[1], along[0]])


def incisor_neck(head: Head, tip: str, apex: str, labial: float) -> Points:
    """A place [2] at the neck of an incisor, `labial` mm in front of its axis (behind where negative)."""
    axis = head[apex] - head[tip]
    across = np.array([axis[1], -axis[0]]) / np.hypot(*axis)
    neck: Points = head[tip] + 0.42 * axis + labial * across * np.sign(across[0])
    return neck


def draw_teeth(
    canvas: Canvas,
    head: Head,
    rng: np.random.Generator,
    density: float = 1.0,
    root: float = 1.0,
    lost: Collection[str] = (),
) -> None:
    """Add incisors, premolars and molars whose tips and apices are the landmarks, and unmarked neighbours.

    Of LOSABLE teeth those that are `lost` leave a gap.
    """
    enamel = density * rng.uniform(0.85, 1.15)
    filled, braced = rng.random() < 0.25, rng.random() < 0.2
    down = occlusion(head)
    for sign, premolar, molar, tip, apex in ((-1, "UPM", "UMT", "UIT", "UIA"), (1, "LPM", "LMT", "LIT", "LIA")):
        up = sign * down
        apart = float(np.clip(np.hypot(*(head[premolar] - head[molar])), 5.5, 10))
        ahead = head[premolar] - head[molar]
        ahead = ahead / max(float(np.hypot(*ahead)), 1e-6)
        for share in (0.30, 0.58):  # the first premolar and the canine, blurred: nobody marks them
            crown = head[premolar] + share * (head[tip] - head[premolar]) + 0.6 * up
            draw_molar(canvas, head, crown, ahead, up, 6.6, 0.6 * enamel, cusps=1, soft_mm=0.7)
        if premolar not in lost:
            draw_molar(canvas, head, head[premolar], ahead, up, 0.90 * apart, 0.9 * enamel, cusps=1)
        if molar not in lost:
            draw_molar(canvas, head, head[molar], ahead, up, 1.32 * apart, enamel, cusps=2)
        second = head[molar] - 1.38 * apart * ahead + rng.uniform(0.5, 2.5) * up
        draw_molar(canvas, head, second, ahead, up, 1.22 * apart, 0.8 * enamel, cusps=2, soft_mm=0.4)
        draw_incisor(canvas, head, head[tip], head[apex], enamel, root)
        if filled and molar not in lost:
            filling = head[molar] - 0.27 * 1.32 * apart * ahead + rng.uniform(3.2, 4.2) * up
            canvas.fill(head.ellipse(filling, (2.3, 1.3), rng.normal(0, 0.3)), 1.2)
        if braced:
            for share in (0.0, 0.30, 0.58)[premolar in lost :]:
                bracket = head[premolar] + share * (head[tip] - head[premolar]) + 4.2 * up
                canvas.fill(head.ellipse(bracket, (1.5, 1.2)), 0.9)


def draw_molar(
    canvas: Canvas, head: Head, tip: Points, ahead: Points, root: Points, width: float, density: float, *,
    cusps: int, soft_mm: float = 0.0,
) -> None:  # fmt: skip
    """A tooth whose foremost cusp ends at `tip`; `ahead` and `root` are unit vectors [2] of this head, widths mm."""
    if cusps == 1:
        crown = [(0, 0), (0.22, 0.17), (0.49, 0.42), (0.42, 0.95), (0, 1.02), (-0.42, 0.95), (-0.49, 0.42),
                 (-0.22, 0.17)]  # fmt: skip
        legs, corners = [(0.0, 2.9, 0.30)], [0]
    else:
        crown = [(0, 0), (0.14, 0.14), (0.22, 0.36), (0.18, 0.66), (-0.26, 0.74), (-0.72, 0.66), (-0.76, 0.36),
                 (-0.68, 0.16), (-0.54, 0.03), (-0.27, 0.17)]  # fmt: skip
        legs, corners = [(0.02, 1.95, 0.17), (-0.55, 1.9, 0.17)], [0, 8]
    frame = width * np.array([ahead, root])
    places = tip + np.array(crown) @ frame
    for x, end, half in legs:
        start = 0.85 if cusps == 1 else 0.6
        taper = 0.6 * half
        leg = [(x - half, start), (x - taper, 0.65 * end), (x, end), (x + taper, 0.65 * end), (x + half, start)]
        canvas.fill(head.outline(tip + np.array(leg) @ frame, [0, 4]), 0.30 * density, soft_mm=0.4)
    canvas.fill(head.outline(places, corners), 0.45 * density, rim=0.28 * density, rim_mm=0.9, soft_mm=soft_mm)


def draw_incisor(canvas: Canvas, head: Head, tip: Points, apex: Points, density: float, root: float = 1.0) -> None:
    """Add the incisor from `tip` [2] to `apex` [2], in mm of the head; its root is seen by the share `root`."""
    axis = apex - tip
    across = np.array([axis[1], -axis[0]]) / max(float(np.hypot(*axis)), 1e-6)
    right = [tip + along * axis + half * across for along, half in INCISOR]
    left = [tip + along * axis - half * across for along, half in INCISOR]
    outline = head.outline(np.array(right + left[::-1]))
    # A dark line, the ligament, sets the root off from the bone around it, down to the apex.
    canvas.stroke(outline, -0.10 * root, width_mm=1.6, soft_mm=0.3)
    canvas.fill(outline, 0.42 * density * (0.4 + 0.6 * root), rim=0.12 * density * root, rim_mm=0.7)
    crown = [tip + along * axis + half * across for along, half in INCISOR[:5]]
    crown += [tip + along * axis - half * across for along, half in INCISOR[:5][::-1]]
    canvas.fill(head.outline(np.array(crown), [4, 5]), 0.24 * density * (1 + 0.4 * (1 - root)))
    canal = head.px(np.array([tip + 0.3 * axis, tip + 0.98 * axis]))
    canvas.stroke(canal, -0.16 * root, width_mm=0.8, soft_mm=0.2)
