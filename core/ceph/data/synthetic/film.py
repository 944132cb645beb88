"""Draw the anatomy of a lateral cephalogram around given landmarks."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ceph.data.synthetic.canvas import Canvas
from ceph.data.synthetic.clinic import Tissue
from ceph.data.synthetic.head import Head, Points, Vertex, smooth
from ceph.data.synthetic.teeth import draw_teeth, incisor_neck, occlusion

# fmt: off
VAULT: tuple[Vertex, ...] = (
    "N!", ("N", 3.0, -9.0), (14, -95), (5, -119), (-20, -140), (-62, -150), (-112, -144), (-150, -112), (-164, -70),
    (-155, -34), (-128, -10), (-100, -2),
)
SKULL_BASE: tuple[Vertex, ...] = (
    ("N", -8, -5), (-14, -67), (-36, -60), ("S", 10, -6.5), ("S", 5.5, -5.5), ("S", 5.2, 0), ("S", 0, 5.2),
    ("S", -5, 1), ("S", -4.6, -5), ("S", -6.5, -6), ("S", -8, 2), (-70, -30), ("Ar", -4, -7), ("Ar", -9, 3),
)
PROFILE: tuple[Vertex, ...] = (
    ("N`", 4.5, -14), "N`", ("Pn", -19, -21), ("Pn", -8, -9), ("Pn", -1.8, -3.2), "Pn", ("Pn", -2, 4),
    ("Sn", 6, -1.8), "Sn", ("Sn", 0.6, 5), ("Ls", -1.2, -3.5), "Ls",
)
LOWER_PROFILE: tuple[Vertex, ...] = (
    "Li", ("Li", -1.5, 3.8), ("Pog`", -3.6, -12), ("Pog`", -0.9, -5), "Pog`", ("Pog`", -1.2, 5.5),
    ("Me", 9, 8), ("Me", -3, 9), (-14, 57), (-30, 62), (-37, 85), (-40, 150), (-150, 150), (-130, 62),
    (-142, 18), (-163, -18),
)
NASAL_BONE: tuple[Vertex, ...] = (
    "N!", ("N", 2.5, 4), ("N", 8, 12), ("N", 13, 20.5), ("N", 10, 19), ("N", 3, 12), ("N", -5, 9), ("N", -5, 1.2),
)
PALATE: tuple[Vertex, ...] = (
    "ANS!", ("ANS", -5, -0.8), (8, -14), (-12, -11.2), "PNS!", (-14, -7.4), (4, -8), ("ANS", -8, 3.6), ("ANS", -3.5, 2),
)
BASIOCCIPUT: tuple[Vertex, ...] = (
    ("S", -6.5, -6), (-73, -31), ("Ar", -10, 5), "Ar", ("Ar", 7, -7), (-57, -36), ("S", 1, 6),
)
SINUS: tuple[Vertex, ...] = (
    (-24, -14), (-6, -16), (4, -18), (6, -26), (-2, -35), (-18, -36), (-25, -28),
)
ORBIT: tuple[Vertex, ...] = (
    (8, -71), (-2, -69), (-11, -63), (-14, -54), ("Or", -9, -7.5), ("Or", -4.5, -1.9), "Or", ("Or", 4.5, -1.9),
    ("Or", 8.5, -8), (11, -54), ("N", -1, 8),
)
NASAL_CAVITY: tuple[Vertex, ...] = (
    ("N", 6, 22), ("ANS", 4, -14), ("ANS", -1, -4), (6, -17), (-20, -15), (-27, -22), (-14, -44), (4, -46),
)
AIRWAY: tuple[Vertex, ...] = (
    ("PNS", -2, -14), ("PNS", -13, -20), (-56, -18), (-63, 0), (-67, 25), (-66, 52), (-66, 90), (-66, 150), (-50, 150),
    (-51, 90), (-54, 55), (-51, 28), (-46, 8), ("PNS", -6, 2),
)
MANDIBLE_BACK: tuple[Vertex, ...] = (
    (-27, 13), (-34, 0), (-39, -14), (-42, -17), (-47, -12), (-53, -6.5), ("Co", 7.5, 10), ("Co", 7.5, 3.5),
    ("Co", 4, -0.6), "Co", ("Co", -2.8, 3.2),
)
MANDIBLE_BODY: tuple[Vertex, ...] = (
    "Go", ("Go", 9, 9), (-26, 42.5), (-8, 48), "Me", "Gn", "Pog", ("Pog", -0.7, -5.5), "B",
)
SYMPHYSIS: tuple[Vertex, ...] = (
    "Me", "Gn", "Pog", ("Pog", -0.7, -5.5), "B", ("B", -5, -7), ("B", -10, 2), ("Me", -9, -12), ("Me", -8, -3),
)
# fmt: on


def draw_head(
    canvas: Canvas,
    head: Head,
    rng: np.random.Generator,
    *,
    cvm_stage: int,
    ear_rod: bool,
    tissue: Tissue = Tissue(),  # noqa: B008 - frozen
    lost: Collection[str] = (),
) -> None:
    """Add a head's densities to the canvas; `cvm_stage` 1-6 sets the vertebrae, `lost` teeth are missing."""
    bone = tissue.bone * rng.uniform(0.85, 1.15)
    vault = _grow_vault(head, rng)
    _soft_tissue(canvas, head, rng, vault, tissue)
    canvas.density *= np.float32(tissue.soft)
    _cranium(canvas, head, rng, vault, bone, tissue)
    _vertebrae(canvas, head, rng, bone, cvm_stage)
    _midface(canvas, head, rng, bone, tissue)
    _jaws(canvas, head, rng, bone, tissue)
    _ear(canvas, head, rng, bone, ear_rod=ear_rod)
    canvas.texture(rng, 9.0, 0.04)
    canvas.texture(rng, 1.5, 0.04)
    draw_teeth(canvas, head, rng, tissue.tooth, tissue.root, lost)


def _grow_vault(head: Head, rng: np.random.Generator) -> Points:
    """The outer table of the cranial vault [N, 2] in mm; landmarks say nothing of it, so it varies freely."""
    vault, _ = head.vertices(VAULT)
    stretch = 1 + rng.normal(0, (0.04, 0.035))
    bumps = 1 + rng.normal(0, 0.012, (len(vault), 1))
    freedom = np.clip(np.arange(len(vault)) / 3, 0, 1)[:, None]  # it stays tied to the face at nasion
    grown: Points = vault + freedom * (stretch * bumps - 1) * (vault - head["S"])
    return grown


def _soft_tissue(canvas: Canvas, head: Head, rng: np.random.Generator, vault: Points, tissue: Tissue) -> None:
    scalp = head["S"] + (vault[2:-3] - head["S"]) * (1 + rng.uniform(5, 9) / 100)
    profile, lower = head.vertices(PROFILE)[0], head.vertices(_lower_profile(tissue))[0]
    upper_lip, lower_lip = head["Ls"], head["Li"]
    gap = lower_lip - upper_lip
    mouth = np.array([upper_lip + 0.34 * gap, upper_lip + 0.48 * gap, upper_lip + 0.62 * gap])
    mouth += np.array([[-1.8, 0], [-rng.uniform(5.0, 7.0), 0], [-1.8, 0]]) @ head.turn
    places = np.concatenate([scalp[::-1], profile, mouth, lower])
    outline = head.outline(places, [len(scalp) + len(profile) + 1])
    thickness = rng.uniform(0.27, 0.36)
    canvas.fill(outline, thickness, rim=-0.33 * thickness, rim_mm=5.0)
    # Lips and nose are thinner than the cheeks behind them.
    cheek = np.array([(4, -50), (17, -22), (17, 10), (13, 45), (-20, 56), (-60, 40), (-60, -40)], float)
    canvas.fill(head.outline(head.place(cheek)), 0.12, soft_mm=5.0)


def sella(path: tuple[Vertex, ...], tissue: Tissue) -> tuple[Vertex, ...]:
    """The path with the sella as wide and as deep about its landmark as the tissue says."""
    placed: list[Vertex] = []
    for vertex in path:
        if not isinstance(vertex, str) and len(vertex) == 3 and vertex[0] == "S":
            placed.append(("S", tissue.sella_width * vertex[1], tissue.sella_depth * vertex[2]))
        else:
            placed.append(vertex)
    return tuple(placed)


def _lower_profile(tissue: Tissue) -> tuple[Vertex, ...]:
    """The profile below the mouth, with lip and chin foremost so far above their marks as the tissue says."""
    path = list(LOWER_PROFILE)
    if tissue.chin_mm:
        ahead, up = 0.15 * tissue.chin_mm, tissue.chin_mm
        path[2:4] = [("Pog`", x + ahead, y - up) for x, y in ((-3.6, -12), (-0.9, -5), (0, 0))]
    if tissue.lip_mm:
        path.insert(0, ("Li", 0.15 * tissue.lip_mm, -tissue.lip_mm))
    return tuple(path)


def _cranium(canvas: Canvas, head: Head, rng: np.random.Generator, vault: Points, bone: float, tissue: Tissue) -> None:
    skull_base = sella(SKULL_BASE, tissue)
    base, _ = head.vertices(skull_base)
    inside = vault.copy()
    if tissue.front_mm:
        inside[:4] += tissue.front_mm * np.array([(-1, -0.9), (-1, -0.7), (-0.7, 0), (-0.4, 0.2)]) @ head.turn
        base[0] += tissue.front_mm * np.array([-0.5, -0.6]) @ head.turn
    case = head.outline(np.concatenate([inside, base[::-1]]), [0])
    canvas.fill(case, tissue.skull * rng.uniform(0.24, 0.34), rim=0.26 * bone * tissue.rim, rim_mm=1.3)
    thickness = rng.uniform(4.0, 7.0) / 100
    for depth, width, density in ((0.5, 4.5, 0.10), (1.0, 1.3, 0.20)):
        table = vault[1:] + (head["S"] - vault[1:]) * depth * thickness
        line = smooth(head.px(table), np.zeros(len(table), bool), closed=False)
        canvas.stroke(line, density * bone, width_mm=width, soft_mm=0.5)
    for _ in range(4):  # broad lighter and darker places, as of the parietal and temporal bones
        centre, radii = head.place(rng.uniform((-140, -120), (-20, -70), (1, 2)))[0], tuple(rng.uniform(20, 45, 2))
        canvas.fill(head.ellipse(centre, radii), rng.uniform(-0.05, 0.10), soft_mm=9.0)
    for _ in range(3):  # grooves of the meningeal vessels
        foot = rng.uniform((-70, -75), (-40, -65))
        groove = tuple((foot[0] - 14 * i + rng.normal(0, 4), foot[1] - 15 * i) for i in range(5))
        canvas.stroke(head.curve(groove), -0.03, width_mm=1.4, soft_mm=0.5)
    clivus = 0.16 * bone * tissue.clivus
    canvas.fill(head.curve(sella(BASIOCCIPUT, tissue), closed=True), clivus, rim=clivus, rim_mm=1.0)
    canvas.stroke(head.curve(skull_base), 0.42 * bone * tissue.base, width_mm=1.2)
    canvas.stroke(head.curve((("Ar", 8, -8), "Ar", ("Ar", -9, 8))), 0.25 * bone, width_mm=1.2)
    # The roofs of the orbits cross the anterior skull base.
    roof = ((-44, -62), (-24, -67 - rng.uniform(1, 6)), (-4, -76 - rng.uniform(0, 4)), ("N", -4, -13))
    canvas.stroke(head.curve(roof), 0.14 * bone, width_mm=1.6, soft_mm=0.6)
    sinus = head.ellipse(head.near("N", -1.5, -13), (rng.uniform(2.0, 4.0), rng.uniform(5, 10)), -0.15)
    canvas.fill(sinus, -0.16, rim=0.10, rim_mm=0.8)
    petrous = head.ellipse(head.place(np.array([[-90.0, -27.0]]))[0], (17, 10), 0.3)
    canvas.fill(petrous, 0.28 * bone, soft_mm=3.5)
    for _ in range(14):
        cell = head.place(rng.uniform((-108, -24), (-88, 2), (1, 2)))[0]
        canvas.fill(head.ellipse(cell, tuple(rng.uniform(1.2, 3.2, 2))), -0.07, rim=0.06, rim_mm=0.6)


def _vertebrae(canvas: Canvas, head: Head, rng: np.random.Generator, bone: float, stage: int) -> None:
    """Atlas, axis and seven more; with the stage the bodies grow taller and their lower borders hollow out."""
    height, hollow = 8.5 + 1.1 * stage, 0.5 * (stage - 1)
    lean = rng.normal(0, 0.10)
    centre = head.place(np.array([[-85.0, 19.0]]))[0] + rng.normal(0, (2.0, 2.0))
    for level in range(8):
        down = np.array([-np.sin(0.10 + lean + 0.03 * level), np.cos(0.10 + lean)])
        ahead = np.array([down[1], -down[0]])
        half, tall = 7.2 + 0.2 * level, height * rng.uniform(0.95, 1.05) / 2
        bend = hollow * rng.uniform(0.8, 1.2) if level < 3 or stage > 4 else 0.0
        wedge = max(0.0, 3.0 - stage) * 0.9 if level else 0.0  # young bodies taper towards the front
        corners = ((-half, -tall), (0.0, -tall + 0.4), (half, -tall + wedge), (half - 0.7, 0.0), (half, tall),
                   (0.0, tall - bend), (-half, tall), (-half + 0.7, 0.0))  # fmt: skip
        body = np.array([centre + x * ahead + y * down for x, y in corners])
        canvas.fill(head.outline(body, [0, 2, 4, 6]), 0.24 * bone, rim=0.22 * bone, rim_mm=0.9)
        process = np.array([(-half, 0), (-half - 10, 1), (-half - 18 - 2 * level % 5, 7)]) @ np.array([ahead, down])
        spine = smooth(head.px(process + centre), np.zeros(3, bool), closed=False)
        canvas.stroke(spine, 0.20 * bone, width_mm=6.0, soft_mm=1.4)
        if level == 0:
            odontoid = np.array([(-4, -3), (-3.4, -21), (0, -24), (3.4, -21), (4, -3)]) @ np.array([ahead, down])
            canvas.fill(head.outline(centre + odontoid), 0.18 * bone, rim=0.18 * bone, rim_mm=0.9)
            arch = head.ellipse(centre + 8.5 * ahead - 18 * down, (2.6, 4.6))
            canvas.fill(arch, 0.2 * bone, rim=0.2 * bone, rim_mm=0.8)
            rear = np.array([(-6, -17), (-18, -17), (-27, -20)]) @ np.array([ahead, down])
            line = smooth(head.px(centre + rear), np.zeros(3, bool), closed=False)
            canvas.stroke(line, 0.20 * bone, width_mm=4.5, soft_mm=1.0)
        centre = centre + down * (2 * tall + rng.uniform(3.2, 4.4) + (1.5 if level == 0 else 0.0))


def _midface(canvas: Canvas, head: Head, rng: np.random.Generator, bone: float, tissue: Tissue) -> None:
    ethmoid = ((-60, -36), (-58, -44), (-40, -58), (-16, -64), (2, -64), (6, -44), (-4, -30), (-30, -22))
    canvas.fill(head.curve(ethmoid, closed=True), rng.uniform(0.12, 0.20) * bone, soft_mm=3.0)
    canvas.fill(head.curve(AIRWAY, closed=True), -rng.uniform(0.14, 0.20), soft_mm=1.0)
    canvas.fill(head.curve(NASAL_CAVITY, closed=True), -rng.uniform(0.10, 0.16), soft_mm=1.5)
    canvas.fill(head.curve(SINUS, closed=True), -0.10, rim=0.13 * bone, rim_mm=0.8)
    canvas.fill(head.curve(ORBIT, closed=True), -0.09, soft_mm=0.8)
    canvas.stroke(head.curve(ORBIT), 0.30 * bone * tissue.orbit, width_mm=1.3)
    far = head.px(np.array([rng.uniform(-3.0, 3.0), rng.uniform(-3.5, -1.5)])) - head.px(np.zeros(2))
    canvas.stroke(head.curve(ORBIT[1:-1]) + far, 0.09 * bone, width_mm=1.6, soft_mm=0.5)
    for _ in range(5):  # ethmoid cells between the orbit and the skull base
        cell = head.place(rng.uniform((-30, -56), (-4, -46), (1, 2)))[0]
        canvas.fill(head.ellipse(cell, tuple(rng.uniform(2.0, 5.0, 2))), -0.04, rim=0.08, rim_mm=0.7)
    ridge = ((-15, -55), (-20, -44), (-17, -32), (-10, -21 + rng.normal(0, 1)), (-4, -29), "Or")
    canvas.stroke(head.curve(ridge), 0.17 * bone, width_mm=1.8, soft_mm=0.6)
    fissure = ((-31, -38), (-27, -34), ("PNS", 1.5, -9), ("PNS", 0, -3), ("PNS", -2.5, -9), (-36, -34))
    canvas.fill(head.curve(fissure, closed=True), -0.05, rim=0.10 * bone, rim_mm=0.7)
    arch = ((-80, -32), (-60, -34), (-38, -33), (-18, -33))
    canvas.stroke(head.curve(arch), 0.12 * bone, width_mm=4.0, soft_mm=1.2)
    nasal = tissue.nasal
    canvas.fill(head.curve(NASAL_BONE, closed=True), 0.22 * bone * nasal, rim=0.24 * bone * nasal, rim_mm=0.8)
    canvas.stroke(head.curve(("N", ("N", -3, 1.0), ("N", -5, 0.6))), -0.18 * nasal, width_mm=0.7)
    palate_tail = ("PNS", ("PNS", -7, 4), ("PNS", -13, 14), ("PNS", -15, 22 + rng.normal(0, 2)))
    canvas.stroke(head.curve(palate_tail), 0.13, width_mm=5.0, soft_mm=1.2)
    tongue = ((10, 22), (4, 2), (-14, -2), (-34, 6), (-46, 26), (-44, 50), (-20, 44))
    canvas.fill(head.curve(tongue, closed=True), 0.07, soft_mm=2.0)
    hyoid = ((-44, 66), (-34, 63), (-26, 61 + rng.normal(0, 3)))
    canvas.stroke(head.curve(hyoid), 0.22 * bone, width_mm=3.4, soft_mm=0.6)


def _jaws(canvas: Canvas, head: Head, rng: np.random.Generator, bone: float, tissue: Tissue) -> None:
    down = occlusion(head)
    upper = [head["ANS"], head.near("ANS", -1.4, 2.0), head["A"], head.near("A", 0.5, 3.4)]
    upper += [incisor_neck(head, "UIT", "UIA", side) for side in (3.4, -3.6)]
    upper += [head["UPM"] - 8.5 * down, head["UMT"] - 8.5 * down, head.place(np.array([[-24.0, 0.0]]))[0], head["PNS"]]
    maxilla, palate = np.array(upper), head.vertices(PALATE)[0]
    back = head["PNS"] - head["ANS"]
    back *= tissue.recess_mm / np.hypot(*back)
    for share in (tissue.spine, 1 - tissue.spine):  # the middle plane up to ANS and A, then all that lies beside it
        if share:
            canvas.fill(head.outline(maxilla, [0, 9]), 0.17 * bone * share, rim=0.24 * bone * share, rim_mm=1.0)
            canvas.fill(
                head.outline(palate, [0, 4]),
                0.30 * bone * share * tissue.palate,
                rim=0.16 * bone * share * tissue.palate,
                rim_mm=0.8,
            )
        maxilla[:4] += back
        palate[[0, 1, 7, 8]] += back

    back, body = head.vertices(MANDIBLE_BACK)[0], head.vertices(MANDIBLE_BODY)[0]
    chord = head["Go"] - head["Ar"]
    chord = chord / np.hypot(*chord)
    out = np.array([-chord[1], chord[0]])
    ramus = [head["Ar"], head["R"] - 6.5 * chord + 0.8 * out, head["R"], head["R"] + 6.5 * chord + 0.8 * out]
    crest = [incisor_neck(head, "LIT", "LIA", side) for side in (3.2, -3.4)]
    crest += [head["LPM"] + 8.5 * down, head["LMT"] + 8.5 * down]
    outline = head.outline(np.concatenate([back, ramus, body, crest]))
    canvas.fill(outline, 0.24 * bone * tissue.jaw, rim=0.30 * bone * tissue.jaw * tissue.cortex, rim_mm=1.2)
    if rng.random() < 0.5:  # the far side of the jaw, a little off the near one
        shift = np.array([rng.uniform(-2.5, 2.5), -rng.uniform(1.0, 3.0)]) * head.px_of_mm
        line = head.curve(MANDIBLE_BODY[:5]) + shift
        canvas.stroke(line, 0.10 * bone, width_mm=1.2, soft_mm=0.3)
    canvas.fill(head.curve(SYMPHYSIS, closed=True), 0.10 * bone * tissue.jaw, rim=0.16 * bone * tissue.jaw, rim_mm=1.0)
    canal = ((-40, 4), (-38, 20), (-20, 34), (0, 36))
    canvas.stroke(head.curve(canal), -0.05, width_mm=2.6, soft_mm=0.5)


def _ear(canvas: Canvas, head: Head, rng: np.random.Generator, bone: float, *, ear_rod: bool) -> None:
    """The ear canal, whose roof is porion, and the machine's rod in it."""
    radius = rng.uniform(3.6, 4.6)
    centre = head.near("Po", 0, radius)
    canvas.fill(head.ellipse(centre, (radius, radius)), -0.22)
    canvas.stroke(head.ellipse(centre, (radius, radius)), 0.34 * bone, width_mm=1.2)
    if ear_rod:
        middle = centre + rng.normal(0, 0.4, 2)
        canvas.stroke(head.ellipse(middle, (0.5 * radius, 0.5 * radius)), 0.5, width_mm=0.9)
