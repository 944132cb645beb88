"""The embedded synthetic set: films drawn from a table of head shapes, written in the Aariz layout."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.formats.film_table import ABSENT, TABLE
from ceph.data.formats.tables import write_rows
from ceph.data.synthetic import base, sides
from ceph.data.synthetic import clinic as clinic
from ceph.data.synthetic.canvas import Canvas, Exposure
from ceph.data.synthetic.film import draw_head
from ceph.data.synthetic.head import Head, Points
from ceph.data.synthetic.teeth import LOSABLE
from ceph.files import building
from ceph.threads import in_threads

TITLES: dict[str, str] = {
    "A": "A-point",
    "ANS": "Anterior Nasal Spine",
    "B": "B-point",
    "Me": "Menton",
    "N": "Nasion",
    "Or": "Orbitale",
    "Pog": "Pogonion",
    "PNS": "Posterior Nasal Spine",
    "Pn": "Pronasale",
    "R": "Ramus",
    "S": "Sella",
    "Ar": "Articulare",
    "Co": "Condylion",
    "Gn": "Gnathion",
    "Go": "Gonion",
    "Po": "Porion",
    "LPM": "Lower 2nd PM Cusp Tip",
    "LIT": "Lower Incisor Tip",
    "LMT": "Lower Molar Cusp Tip",
    "UPM": "Upper 2nd PM Cusp Tip",
    "UIA": "Upper Incisor Apex",
    "UIT": "Upper Incisor Tip",
    "UMT": "Upper Molar Cusp Tip",
    "LIA": "Lower Incisor Apex",
    "Li": "Labrale inferius",
    "Ls": "Labrale superius",
    "N`": "Soft Tissue Nasion",
    "Pog`": "Soft Tissue Pogonion",
    "Sn": "Subnasale",
}
LANDMARKS: tuple[str, ...] = tuple(TITLES)
VERSION = 1  # goes up when the same seed gives other films, so that no cached set is taken for a new one
READERS = ("Senior", "Junior")
FOLDERS = {"train": "train", "validation": "valid", "test": "test"}
MODES = {"train": "Train", "validation": "Valid", "test": "Test"}

# The height in px that a spacing of 0.1 mm would have for a field of the nominal 222 mm.
NOMINAL_HEIGHT = 2220
# Varied films have heads of this many times the table's standard deviations: other peoples than the table's.
SPREAD = 1.4
# No landmark is drawn nearer than this to the edge of the film.
MARGIN_MM = 6.0


@dataclass(frozen=True)
class Machine:
    """An X-ray machine: spacing in mm/px at full size, height of its films relative to the nominal, and its look."""

    name: str
    spacing_mm: float
    height: float
    aspect: float
    exposure: Exposure
    border_mm: float = 0.0
    ruler: bool = False
    wedge: bool = False
    rod: bool = False


MACHINES: tuple[Machine, ...] = (
    Machine("synthetic 100", 0.100, 1.00, 0.885, Exposure(1.75, 1.15, 0.014, 0.25, 0.06, 0.4), ruler=True, rod=True),
    Machine("synthetic 089", 0.089, 1.15, 0.860, Exposure(2.20, 1.40, 0.018, 0.20, 0.03, 0.3), border_mm=2.5),
    Machine("synthetic 135", 0.135, 0.82, 0.900, Exposure(1.40, 0.95, 0.016, 0.40, 0.10, 0.6), wedge=True, rod=True),
    Machine("synthetic 139", 0.139, 0.80, 0.830, Exposure(2.00, 1.10, 0.010, 0.35, 0.05, 0.5), 3.0, ruler=True),
    Machine("synthetic 144", 0.144, 0.80, 0.870, Exposure(1.60, 1.20, 0.022, 0.45, 0.08, 0.3)),
)
MACHINE_SHARES = (0.32, 0.23, 0.15, 0.15, 0.15)


@dataclass(frozen=True)
class SyntheticFilm:
    """A drawn film and what is known of it.

    `image` is [H, W]; `points_px` [2, 29, 2] are the marks of two readers (senior, junior) and `truth_px` [29, 2] is
    where each landmark was really drawn, both (x, y) in film px with the centre of the first pixel at (0, 0).
    Teeth whose tips are `absent` were not drawn.
    """

    id: str
    split: str
    machine: str
    mm_per_px: float
    cvm_stage: int
    image: NDArray[np.uint8]
    points_px: Points
    truth_px: Points
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShapeTable:
    """Statistics of head shapes: mean [29, 2] and components [C, 29, 2] with their sd [C], in mm, x right, y down."""

    mean_mm: Points
    components: Points
    component_sd_mm: Points
    rotation_sd_deg: float
    reader_sd_mm: Points


@cache
def shape_table() -> ShapeTable:
    """The table that ships with the package (made by `benchmarks/make_synthetic_shape.py`)."""
    table = json.loads(resources.files("ceph.data.synthetic").joinpath("shape.json").read_text(encoding="utf-8"))
    if tuple(table["landmarks"]) != LANDMARKS:
        raise ValueError("shape.json lists other landmarks than sets.py: regenerate it")
    return ShapeTable(
        mean_mm=np.array(table["mean_mm"], float),
        components=np.array(table["components"], float),
        component_sd_mm=np.array(table["component_sd_mm"], float),
        rotation_sd_deg=float(table["rotation_sd_deg"]),
        reader_sd_mm=np.array(table["reader_sd_mm"], float),
    )


def draw_shape(rng: np.random.Generator, spread: float = 1.0) -> Points:
    """A random head: its landmarks [29, 2] in mm, centred on the mean shape's centre, x right, y down.

    `spread` is a factor of the standard deviations of the heads that the table was made of.
    """
    table = shape_table()
    # Beyond two and a half standard deviations the table's directions leave what faces look like.
    scores = np.clip(rng.standard_normal(len(table.component_sd_mm)), -2.5, 2.5) * spread * table.component_sd_mm
    shape = table.mean_mm + np.tensordot(scores, table.components, axes=1)
    angle = np.radians(np.clip(rng.standard_normal(), -2.5, 2.5) * table.rotation_sd_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    turned: Points = shape @ np.array([[cos, sin], [-sin, cos]])
    return turned


def draw(
    index: int, *, seed: int = 0, split: str = "train", height: int = 640, varied: bool = False, absent: float = 0.0
) -> SyntheticFilm:
    """Draw film `index` of the endless series that `seed` names; a pure function of its arguments.

    `varied` films are as from many clinics (`synthetic_clinic`): to train for real films; the others all look alike.

    `height` is that of the nominal machine's films in px: others are 0.8 to 1.2 times as high, at the spacing that
    keeps heads at their real size. `split` is only a label. Of a share `absent` of the films a tooth is lost.
    """
    if split not in FOLDERS:
        raise ValueError(f"split must be one of {', '.join(FOLDERS)}, not {split!r}")
    if not 0 <= absent <= 1:
        raise ValueError(f"the share of films that lack a tooth must be from 0 to 1, not {absent:g}")
    if height < 64:
        raise ValueError(f"height must be at least 64 px, not {height}")
    # One stream each, so that the picture's details may change without moving the shapes or the readers' marks.
    shape_rng, scene_rng, anatomy_rng, grain_rng, reader_rng, clinic_rng, wander_rng, loss_rng = (
        np.random.default_rng([seed, index, stream]) for stream in range(8)
    )
    machine = MACHINES[int(scene_rng.choice(len(MACHINES), p=MACHINE_SHARES))]
    mm_per_px = round(machine.spacing_mm * NOMINAL_HEIGHT / height, 4)
    rows = round(height * machine.height * scene_rng.uniform(0.99, 1.02))
    columns = round(rows * machine.aspect * scene_rng.uniform(0.98, 1.02))
    size_mm = np.array([columns, rows]) * mm_per_px

    shape = draw_shape(shape_rng, SPREAD if varied else 1.0)
    if varied:
        shape = clinic.pose(clinic_rng, clinic.readings(wander_rng, shape, LANDMARKS))
    middle = clinic_rng.uniform((0.50, 0.56), (0.68, 0.68)) if varied else (0.575, 0.575)
    centre = size_mm * middle + scene_rng.normal(0, (6.0, 5.0))
    low, high = MARGIN_MM - shape.min(axis=0), size_mm - MARGIN_MM - shape.max(axis=0)
    centre = np.clip(centre, low, np.maximum(low, high))
    wander = wander_rng if varied else None
    head = Head(LANDMARKS, shape_table().mean_mm, shape, 1 / mm_per_px, centre / mm_per_px, wander)
    truth = head.px(shape)

    stage = int(scene_rng.integers(1, 7))
    canvas = Canvas(rows, columns, mm_per_px)
    tissue = clinic.tissue(clinic_rng) if varied else clinic.Tissue()
    lost = (str(loss_rng.choice(LOSABLE)),) if loss_rng.random() < absent else ()
    draw_head(canvas, head, anatomy_rng, cvm_stage=stage, ear_rod=machine.rod, tissue=tissue, lost=lost)
    if varied:
        base.draw_base(canvas, head, clinic_rng, tissue)
        sides.draw_sides(canvas, head, clinic_rng, tissue)
        clinic.clutter(canvas, head, clinic_rng)
        clinic.equipment(canvas, head, clinic_rng)
    _draw_equipment(canvas, machine, scene_rng)
    image = canvas.expose(grain_rng, clinic.exposure(clinic_rng) if varied else machine.exposure)
    if varied:
        image = clinic.develop(image, clinic_rng, mm_per_px)
    if machine.border_mm:
        _collimate(image, machine.border_mm / mm_per_px, scene_rng)

    sd = shape_table().reader_sd_mm[:, None] / mm_per_px
    marks = truth + sd * reader_rng.standard_normal((len(READERS), len(LANDMARKS), 2))
    marks = np.clip(marks, 0, (columns - 1, rows - 1)).round(2)
    return SyntheticFilm(f"synthetic-{index:04d}", split, machine.name, mm_per_px, stage, image, marks, truth, lost)


def split_of(index: int, films: int) -> str:
    """The split of film `index` of a set of `films`: 70, 15 and 15 %, but at least one film each."""
    few = max(1, round(0.15 * films))
    if index < films - 2 * few:
        return "train"
    return "validation" if index < films - few else "test"


def write(
    folder: Path,
    *,
    films: int = 64,
    seed: int = 0,
    height: int = 640,
    varied: bool = False,
    exact: bool = False,
    absent: float = 0.0,
) -> None:
    """Write a set of `films` films in the Aariz layout to `folder`, which must be missing or empty.

    `exact`: one reader, whose marks are where each landmark was drawn; else two, each with a reader's scatter. A share
    `absent` of the films lacks a tooth, which the table of films says.
    The set is written beside `folder` and renamed at the end, so that an interrupted call leaves no half a set there.
    Raises ValueError for fewer than three films and FileExistsError if `folder` holds anything.
    """
    if films < 3:
        raise ValueError(f"a synthetic set needs at least 3 films, one for each split, not {films}")
    folder = folder.resolve()
    _refuse_taken(folder)
    look: dict[str, Any] = {"seed": seed, "height": height, "varied": varied, "absent": absent}
    with building(folder) as work:
        rows = in_threads(
            lambda i: _write_film(work, draw(i, split=split_of(i, films), **look), exact=exact), range(films)
        )
        with (work / "cephalogram_machine_mappings.csv").open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(["cephalogram_id", "machine", "pixel_size", "image_format", "mode"])
            table.writerows(row for row, _ in rows)
        if absent:
            lost = [(row[0], "; ".join(gone)) for row, gone in rows]
            write_rows(work / TABLE, ("film", ABSENT), lost)
        _refuse_taken(folder)  # another process may have been faster


def _refuse_taken(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not empty: give a new folder, or remove it first")


def _write_film(root: Path, film: SyntheticFilm, *, exact: bool) -> tuple[list[str], tuple[str, ...]]:
    """Write one film below `root`; its row of the table of machines, and what is absent on it."""
    split = root / FOLDERS[film.split]
    origin = {"dataset_name": "ceph synthetic set", "dataset_split": film.split.capitalize()}
    ok, data = cv2.imencode(".png", film.image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise OSError(f"OpenCV could not encode {film.id} as PNG")
    _write_bytes(split / "Cephalograms" / f"{film.id}.png", data.tobytes())
    annotations = split / "Annotations"
    marked = [film.truth_px.round(3)] if exact else film.points_px
    for reader, marks in zip(READERS, marked, strict=not exact):
        landmarks = [
            {
                "landmark_id": f"synthetic-{number:02d}",
                "title": TITLES[symbol],
                "symbol": symbol,
                "value": {"x": float(x), "y": float(y)},
            }
            for number, (symbol, (x, y)) in enumerate(zip(LANDMARKS, marks, strict=True), start=1)
            if symbol not in film.absent
        ]
        path = annotations / "Cephalometric Landmarks" / f"{reader} Orthodontists" / f"{film.id}.json"
        _write_json(path, {"ceph_id": film.id, "landmarks": landmarks, **origin})
    stage = {"id": f"synthetic-cvm-{film.cvm_stage}", "title": f"CVM-S{film.cvm_stage}", "value": film.cvm_stage}
    _write_json(annotations / "CVM Stages" / f"{film.id}.json", {"ceph_id": film.id, "cvm_stage": stage, **origin})
    return [film.id, film.machine, repr(film.mm_per_px), "png", MODES[film.split]], film.absent


def _write_json(path: Path, value: Any) -> None:
    _write_bytes(path, json.dumps(value, indent=1).encode())


def _write_bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _draw_equipment(canvas: Canvas, machine: Machine, rng: np.random.Generator) -> None:
    """Add the ruler or the step wedge of a machine, in places where no landmark lies."""
    height, width = canvas.density.shape
    mm = 1 / canvas.mm_per_px
    if machine.ruler:
        x, top = width - rng.uniform(7, 11) * mm, rng.uniform(0.04, 0.08) * height
        canvas.stroke(np.array([[x, top], [x, top + 60 * mm]]), 0.8, width_mm=0.8)
        for tick in range(13):
            length = 4.0 if tick % 2 == 0 else 2.4
            y = top + 5 * tick * mm
            canvas.stroke(np.array([[x - length * mm, y], [x, y]]), 0.8, width_mm=0.7)
    if machine.wedge:
        left, bottom = width - 34 * mm, height - rng.uniform(6, 10) * mm
        for step in range(5):
            x = left + 6 * step * mm
            box = np.array([[x, bottom], [x + 6 * mm, bottom], [x + 6 * mm, bottom - 9 * mm], [x, bottom - 9 * mm]])
            canvas.fill(box, 0.25 + 0.3 * step)


def _collimate(image: NDArray[np.uint8], border_px: float, rng: np.random.Generator) -> None:
    """Cut the beam off near the edges of `image` [H, W], in place, along slightly crooked lines."""
    height, width = image.shape
    near = border_px * rng.uniform(0.5, 1.0, 8)
    corners = [(near[0], near[1]), (width - near[2], near[3]), (width - near[4], height - near[5])]
    corners.append((near[6], height - near[7]))
    open_beam = np.zeros_like(image)
    cv2.fillPoly(open_beam, [np.rint(np.array(corners)).astype(np.int32)], 1)
    image[open_beam == 0] = 250 if rng.random() < 0.5 else 4
