"""What lies beside the middle plane: bones of both sides that hide on real films what is clear in a drawing."""

from __future__ import annotations

import numpy as np

from ceph.data.synthetic.canvas import Canvas
from ceph.data.synthetic.clinic import Tissue
from ceph.data.synthetic.film import MANDIBLE_BACK, MANDIBLE_BODY, sella
from ceph.data.synthetic.head import Head, Points, Vertex, smooth
from ceph.data.synthetic.teeth import draw_incisor, draw_molar, incisor_neck, occlusion


def draw_sides(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """Add the sides of the skull's base, the forehead, the midface and the jaws to a varied film."""
    _below_the_base(canvas, head, rng, tissue)
    _forehead(canvas, head, rng, tissue)
    _midface(canvas, head, rng, tissue)
    _upper_jaw(canvas, head, rng, tissue)
    _lower_jaw(canvas, head, rng, tissue)
    _other_teeth(canvas, head, rng, tissue)


def _below_the_base(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """Without it the cranium would end at its base in one bright edge, with nasion as the edge's sharp corner."""
    cranium = 0.29 * tissue.skull
    under = (("N", -3, 0), (-14, -66), (-36, -59), ("S", 4, 4), ("Ar", -6, -4), (-60, -18), (-30, -26), ("N", -8, 28))
    canvas.fill(head.curve(under, closed=True), cranium * rng.uniform(0.2, 1.1), soft_mm=rng.uniform(1.5, 7.0))
    mastoid = ((-70, -34), ("Ar", 0, -6), ("Ar", -2, 6), (-78, -2), (-95, 8), (-120, 0), (-118, -20))
    canvas.fill(head.curve(mastoid, closed=True), cranium * rng.uniform(0.1, 1.2), soft_mm=rng.uniform(3.0, 8.0))
    cup: tuple[Vertex, ...] = (
        ("S", 9, -6),
        ("S", 5.5, -5.5),
        ("S", 5.2, 0),
        ("S", 0, 5.2),
        ("S", -5, 1),
        ("S", -4.6, -5),
        ("S", -6.5, -6),
    )
    canvas.stroke(
        head.curve(sella(cup, tissue)),
        tissue.bone * rng.uniform(0.05, 0.5),
        width_mm=rng.uniform(0.7, 1.8),
        soft_mm=0.2,
    )
    sphenoid = head.ellipse(_about(head, rng, "S", 8, 11), _radii(rng, 3.0, 9.0), rng.normal(0, 0.4))
    canvas.fill(sphenoid, -rng.uniform(0.0, 0.3), rim=rng.uniform(0, 0.25), rim_mm=0.8, soft_mm=0.4)
    for _ in range(2):  # the clinoid processes of either side, above the sella
        start = _about(head, rng, "S", 9, -7)
        process = start + np.array([(0.0, 0.0), (-4.0, 1.0), (-rng.uniform(5, 11), rng.uniform(-2, 4))])
        canvas.stroke(head.px(process), tissue.bone * rng.uniform(0, 0.3), width_mm=rng.uniform(0.8, 2.5), soft_mm=0.4)


def _forehead(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """The thick front of the frontal bone, its sinus, and what stands below it to either side of the nose."""
    thick = rng.uniform(3.0, 9.0)
    table = (("N", -0.5 * thick, 1), ("N", 2 - 0.5 * thick, -9), (14 - 0.5 * thick, -95), (3, -116), (-20, -135))
    density = tissue.bone * rng.uniform(0.0, 0.8)
    canvas.stroke(head.curve(table), density, width_mm=thick, soft_mm=rng.uniform(0.5, 2.0))
    outer = ((14, -95), ("N", 2.5, -10), "N", ("N", 1.5, 4), ("N", rng.uniform(3, 8), 13))
    canvas.stroke(head.curve(outer), tissue.bone * rng.uniform(0.0, 0.5), width_mm=rng.uniform(0.8, 2.2), soft_mm=0.3)
    suture = head.ellipse(_about(head, rng, "N", -5, 5), _radii(rng, 2.0, 5.0), rng.normal(0, 0.5))
    canvas.fill(suture, tissue.bone * rng.uniform(0, 0.6), soft_mm=rng.uniform(0.6, 1.8))
    for x, y, low, high in ((-6.5, -9, 1.5, 6.5), (-9, 11, 2.0, 6.0)):  # the frontal sinus, cells between the orbits
        hollow = head.ellipse(_about(head, rng, "N", x, y), _radii(rng, low, high) * np.array([0.8, 1.6]), 0.15)
        canvas.fill(hollow, -rng.uniform(0.0, 0.4), rim=rng.uniform(0, 0.25), rim_mm=0.8, soft_mm=0.4)


def _midface(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """The frontal process of the maxilla, a pillar from nasion to the teeth; the orbit's floor, the sinus's front."""
    recess, wide = tissue.recess_mm, rng.uniform(5, 15)
    front: list[tuple[str, float, float]] = [
        ("N", -rng.uniform(0, 5), rng.uniform(0, 6)),
        ("N", rng.uniform(-2, 1), 12.0),
    ]
    front += [("Or", rng.uniform(5, 11), 2.0), ("ANS", -recess + rng.normal(0, 1.5), -14.0), ("ANS", -recess, -1.0)]
    rear = [(symbol, x - wide, y) for symbol, x, y in front]
    pillar = head.curve([*front, *rear[:0:-1], ("N", -5.0, -4.0)], closed=True)
    dense = tissue.bone * rng.uniform(0.08, 0.4)
    canvas.fill(pillar, dense, rim=rng.uniform(0, 0.8) * dense, rim_mm=1.2, soft_mm=rng.uniform(0.4, 2.0))
    canvas.stroke(head.curve(rear[1:]), rng.uniform(0, 0.5) * dense, width_mm=1.5, soft_mm=0.4)
    floor: tuple[Vertex, ...] = (("Or", -9, -5), ("Or", -4.5, -1.5), "Or", ("Or", 4, -2.5))
    lines = [
        floor,
        (("Or", -14, 3), ("Or", -7, 1), "Or", ("Or", 3, -4)),
        ("Or", ("Or", 2, 8), ("ANS", -recess - 6, -5)),
    ]
    for line in lines:
        density = tissue.bone * rng.uniform(0.0, 0.35)
        canvas.stroke(head.curve(line), density, width_mm=rng.uniform(0.8, 2.4), soft_mm=rng.uniform(0.2, 0.8))


def _upper_jaw(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """The roots of both sides and the bone about them, one mass from the incisors' necks to the palate's front."""
    recess = tissue.recess_mm
    back = head["PNS"] - head["ANS"]
    back /= np.hypot(*back)
    edge = [incisor_neck(head, "UIT", "UIA", rng.uniform(2.2, 3.6)), head["A"] + rng.uniform(0.2, 1.0) * recess * back]
    mass = [head["UIT"], *edge, head["ANS"] + (recess + 1) * back, head["PNS"], head["UMT"], head["UPM"]]
    density = tissue.bone * rng.uniform(0.0, 0.8)
    canvas.fill(head.outline(np.array(mass), [0]), density, rim=0.3 * density, soft_mm=rng.uniform(0.5, 2.0))
    front = head["ANS"] + rng.uniform(0.3, 1.2) * recess * back
    middle = 0.5 * (head["PNS"] + front) + rng.normal(0, (2.0, 1.2))
    plate = head.px(np.array([head["PNS"], middle, front]))
    plate[:, 1] += rng.uniform(0, 2) * head.px_of_mm
    floor = smooth(plate, np.zeros(3, bool), closed=False)
    canvas.stroke(
        floor, tissue.bone * rng.uniform(0.0, 0.6), width_mm=rng.uniform(1.0, 3.0), soft_mm=rng.uniform(0.2, 0.8)
    )
    _more_incisors(canvas, head, rng, "UIT", "UIA")


def _lower_jaw(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """The other side of the mandible, the inner plate of the chin, bone up to the incisors' necks."""
    # The other side's ramus lies elsewhere; at the chin both meet.
    back, body = head.vertices(MANDIBLE_BACK)[0], head.vertices(MANDIBLE_BODY)[0]
    outline = np.concatenate([back, [head["Ar"], head["R"]], body, [head["LIT"], head["LPM"], head["LMT"]]])
    apart = np.clip((head["Pog"][0] - outline[:, :1]) / 60, 0, 1)
    far = head.outline(outline + apart * rng.uniform((-2, -4), (9, 3)))
    density = tissue.bone * rng.uniform(0.0, 0.3)
    canvas.fill(far, density, rim=rng.uniform(0, 1) * density, rim_mm=1.2, soft_mm=rng.uniform(0.3, 1.5))
    inner = rng.uniform(4.0, 8.0)
    plate = (("LIA", -1, -4), ("B", -inner, 0), ("B", -inner - 1.5, 8), ("Me", -7, -6), ("Me", 0, -1.5))
    line = head.curve(plate)
    canvas.stroke(line, tissue.bone * rng.uniform(0.0, 0.5), width_mm=rng.uniform(1.5, 4.0), soft_mm=0.6)
    neck = [head["LIT"] + share * (head["LIA"] - head["LIT"]) for share in (0.0, 0.3)]
    crest = [neck[0], incisor_neck(head, "LIT", "LIA", rng.uniform(1.8, 3.2)), head.near("B", -rng.uniform(0, 4), 0)]
    crest += [head.near("B", -inner, 3)]
    crest += [head["LMT"], head["LPM"], neck[1]]
    density = tissue.bone * rng.uniform(0.0, 0.8)
    canvas.fill(head.outline(np.array(crest), [0]), density, rim=0.3 * density, soft_mm=rng.uniform(0.4, 1.5))
    _more_incisors(canvas, head, rng, "LIT", "LIA")


def _more_incisors(canvas: Canvas, head: Head, rng: np.random.Generator, tip: str, apex: str) -> None:
    """The incisors and canines that stand behind the foremost one."""
    for _ in range(int(rng.integers(0, 5))):
        shift = np.array([-rng.uniform(0.8, 8.0), rng.uniform(-1.5, 1.5)])
        draw_incisor(canvas, head, head[tip] + shift, head[apex] + shift + rng.normal(0, 1.5, 2), rng.uniform(0.2, 0.7))


def _other_teeth(canvas: Canvas, head: Head, rng: np.random.Generator, tissue: Tissue) -> None:
    """The teeth of the other side, a little off those that are marked, from the canine to the last molar."""
    down, enamel = occlusion(head), tissue.tooth * rng.uniform(0.0, 0.9)
    off = rng.normal(0, (2.5, 1.0))
    for sign, premolar, molar, tip in ((-1, "UPM", "UMT", "UIT"), (1, "LPM", "LMT", "LIT")):
        ahead = head[tip] - head[molar]
        ahead = ahead / max(float(np.hypot(*ahead)), 1e-6)
        at = head[tip] - rng.uniform(5, 9) * ahead + off
        for _ in range(int(rng.integers(4, 8))):
            cusps = 1 if (head[premolar] - at) @ ahead < 3 else 2
            wide = rng.uniform(6.0, 7.5) if cusps == 1 else rng.uniform(8.5, 11.0)
            dense = enamel * rng.uniform(0.3, 1.1)
            draw_molar(canvas, head, at, ahead, sign * down, wide, dense, cusps=cusps, soft_mm=rng.uniform(0.2, 1.0))
            at = at - wide * rng.uniform(0.9, 1.05) * ahead + rng.normal(0, 0.8) * down


def _about(head: Head, rng: np.random.Generator, symbol: str, x_mm: float, y_mm: float) -> Points:
    place: Points = head.near(symbol, x_mm, y_mm) + rng.normal(0, 2.0, 2)
    return place


def _radii(rng: np.random.Generator, low: float, high: float) -> Points:
    radii: Points = rng.uniform(low, high, 2)
    return radii
