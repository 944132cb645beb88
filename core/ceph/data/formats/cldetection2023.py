"""Read and write the official JSON of CL-Detection 2023: points (x, y, z), where z is the film's number from 1.

The challenge's films come in one stack, train_stack.mha; here film z is the file named for that number (1.bmp,
001.png, ...) anywhere in the folder. Points are pixel indices, as in the ISBI challenge whose films these partly are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ceph.data.formats.base import DataSet
from ceph.data.formats.film_table import Facts
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.isbi2015 import LANDMARKS as ISBI_LANDMARKS
from ceph.data.formats.locate import Films
from ceph.data.formats.records import ONE_READER, Film, Found, marks_of, plain
from ceph.data.formats.tables import number_text
from ceph.data.spacing import plausible_spacing
from ceph.data.strict_json import Field, parse_json
from ceph.data.types import Sample

# Points 20 to 38, by the challenge's own list, in the symbols of Aariz where it has them.
LANDMARKS = (*ISBI_LANDMARKS, *"D UIA LIA Cm Ptm Co Pn Ba PT Bo UL` LL` Gn` Me` G N` C U6 L6".split())  # noqa: SIM905 - 19 lines


class ClDetection2023(InFiles):
    """The challenge's ground truth, one reader."""

    name = "cldetection2023"
    layout = 'a .json file of "Multiple points", also in labels/, and the films by number (1.bmp, ...) below'
    landmarks = LANDMARKS
    readers = ()
    marks = (r"\A\s*\{", r'"type"\s*:\s*"Multiple points"', r'"points"\s*:\s*\[')

    def add(self, text: str, file: Path, found: Found) -> None:
        """Add the films that have points; `scale` of their points is the mm of a pixel."""
        films: dict[int, Film] = {}
        for point in Field(parse_json(text, file), file)["points"].items():
            with found.findings.gather():
                _add(point, found, films)
        found.landmarks = list(LANDMARKS)

    def place(self, sample: Sample, number: int) -> str:
        """By number: the film's own where it has one, as the ISBI films do."""
        return f"images/{sample.id if _number(sample.id) else number}"

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write labels/train-gt.json."""
        points = []
        for sample in data.samples:
            z = _number(Path(films[sample.id]).stem)
            marks = marks_of(sample, 0, data.landmarks)
            for number, symbol in enumerate(LANDMARKS, 1):
                if symbol in marks:
                    x, y = marks[symbol]
                    point = [plain(x), plain(y), z]
                    points.append({"name": str(number), "point": point, "scale": number_text(sample.mm_per_px)})
        content = {
            "name": "Orthodontic landmarks",
            "type": "Multiple points",
            "points": points,
            "version": {"major": 1, "minor": 0},
        }
        (folder / "labels").mkdir()
        (folder / "labels" / "train-gt.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _number(stem: str) -> int:
    """The film's number that its file is named for; 0 where it is none."""
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) <= 9 else 0


def _add(point: Field, found: Found, films: dict[int, Film]) -> None:
    """Add one point to the film that it is on; `films` are those of this file, by number."""
    values = [value.number() for value in point["point"].items()]
    if len(values) != 3:
        point["point"].fail(f"must be x, y and the film's number, not {len(values)} numbers")
    x, y, z = values
    if not z.is_integer() or not 1 <= z < 10**9:
        point["point"].fail(f"{z:g} is no number of a film; the first is 1")
    name = point["name"].text()
    if not 1 <= _number(name) <= len(LANDMARKS):
        point["name"].fail(f"{name!r} is no number of a landmark, 1 to {len(LANDMARKS)}")
    number = int(z)
    if number not in films:
        films[number] = found.film(_path(point, number, found.places), f"{point.file}: film {number}")
    film = films[number]
    marks = film.marks.setdefault(ONE_READER, {})
    symbol = LANDMARKS[_number(name) - 1]
    if symbol in marks:
        point["name"].fail(f"point {name} ({symbol}) of film {number} stands twice")
    marks[symbol] = (x, y)
    if (scale := _scale(point)) is not None:
        if film.facts.mm_per_px not in (None, scale):
            point["scale"].fail(f"{scale:g}, though other points of film {number} have {film.facts.mm_per_px:g}")
        film.facts = Facts(mm_per_px=scale, source="CL-Detection scale")


def _path(point: Field, number: int, places: Films) -> Path:
    numbered = [stem for stem in places.stems() if _number(stem) == number]  # once a film, not once a point
    path = places.find_stem(numbered[0]) if len(numbered) == 1 else None
    if len(numbered) > 1:
        point["point"].fail(f"film {number} may be {' or '.join(sorted(numbered))}", hint="keep one")
    if path is None:
        point["point"].fail(
            f"film {number} is not in {places.root}",
            hint=f"save the films of train_stack.mha there by their number from 1, this one as {number}.png",
        )
    return path


def _scale(point: Field) -> float | None:
    """The mm of a pixel, a number or a text that is one."""
    scale = point.get("scale")
    if scale is None or scale.value is None:
        return None
    try:
        value = float(scale.value) if isinstance(scale.value, str) else scale.number()
    except ValueError:
        value = float("nan")
    return plausible_spacing(value, f"{scale.value!r}", scale.fail)
