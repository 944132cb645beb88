"""Read and write CVAT for images 1.1: annotations.xml with a skeleton of points for each film and reader.

https://docs.cvat.ai/docs/contributing/development/xml_format/ (the canvas draws a film with its outer corner at (0, 0),
so that points lie half a pixel further right and down than ours). The reader is the attribute `reader` of a skeleton.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from ceph.data.formats.base import DataSet, Findings
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.locate import Films
from ceph.data.formats.records import ONE_READER, Film, Found, Marks, from_corner, marks_of, to_corner
from ceph.data.formats.splits import split_of
from ceph.errors import DataError, Place

SKELETON = "cephalogram"
READER = "reader"
ONE_EACH = f"where several readers marked one film, each skeleton needs its attribute `{READER}`"


class Cvat(InFiles):
    """CVAT's own format, of a task or a project of images."""

    name = "cvat"
    layout = "annotations.xml of CVAT for images 1.1 beside images/"
    suffix = ".xml"
    marks = (r"<annotations\b", r"<version>\s*1\.1\s*</version>")

    def add(self, text: str, file: Path, found: Found) -> None:
        """Add the skeletons and single points of every image; `subset` may state the split."""
        root = parse_xml(text, file)
        found.landmarks += _sublabels(root)
        if root.find("track") is not None:
            raise DataError(f"{file}: is an export of a video", hint="export it as `CVAT for images 1.1`")
        for image in root.iter("image"):
            with found.findings.gather():
                if film := _film(image, file, found.places, found.findings):
                    found.films.append(film)

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write annotations.xml with its labels."""
        root = ET.Element("annotations")
        ET.SubElement(root, "version").text = "1.1"
        task = ET.SubElement(ET.SubElement(root, "meta"), "task")
        ET.SubElement(task, "size").text = str(len(data.samples))
        ET.SubElement(task, "mode").text = "annotation"
        _labels(ET.SubElement(task, "labels"), data)
        for number, sample in enumerate(data.samples):
            H, W = sample.size
            name = films[sample.id].removeprefix("images/")
            image = ET.SubElement(
                root, "image", id=str(number), name=name, subset=sample.split, width=str(W), height=str(H)
            )
            for row, reader in enumerate(data.readers):
                _skeleton(image, reader, marks_of(sample, row, data.landmarks), data.landmarks)
        ET.indent(root)
        ET.ElementTree(root).write(folder / "annotations.xml", encoding="utf-8", xml_declaration=True)


def parse_xml(text: str, file: Path) -> ET.Element:
    """The root of an XML document without a DOCTYPE, so that it has no entities to expand; else DataError."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{file}: has a DOCTYPE, which no CVAT export has", hint="export it again")
    try:
        return ET.fromstring(text)  # noqa: S314 - no DOCTYPE, no entities
    except ET.ParseError as error:
        line, column = error.position
        raise DataError(f"is not valid XML: {error.msg}", place=Place(str(file), line, column + 1)) from error
    except ValueError as error:
        raise DataError(f"{file}: is not valid XML: {error}") from error


def _sublabels(root: ET.Element) -> list[str]:
    """The points of skeletons, as the labels list them."""
    return [
        name.text.strip()
        for label in root.iter("label")
        if label.find("parent") is not None and (name := label.find("name")) is not None and name.text
    ]


def _labels(labels: ET.Element, data: DataSet) -> None:
    skeleton = ET.SubElement(labels, "label")
    ET.SubElement(skeleton, "name").text = SKELETON
    ET.SubElement(skeleton, "type").text = "skeleton"
    attribute = ET.SubElement(ET.SubElement(skeleton, "attributes"), "attribute")
    fields = {"name": READER, "mutable": "False", "input_type": "text", "default_value": data.readers[0], "values": ""}
    for name, text in fields.items():
        ET.SubElement(attribute, name).text = text
    for symbol in data.landmarks:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = symbol
        ET.SubElement(label, "type").text = "points"
        ET.SubElement(label, "attributes")
        ET.SubElement(label, "parent").text = SKELETON


def _skeleton(image: ET.Element, reader: str, marks: Marks, landmarks: tuple[str, ...]) -> None:
    skeleton = ET.SubElement(image, "skeleton", label=SKELETON, source="manual", occluded="0", z_order="0")
    ET.SubElement(skeleton, "attribute", name=READER).text = reader
    for symbol in landmarks:
        x, y = to_corner(marks.get(symbol, (-0.5, -0.5)))
        outside = "0" if symbol in marks else "1"
        ET.SubElement(
            skeleton, "points", label=symbol, source="manual", outside=outside, occluded="0", points=f"{x!r},{y!r}"
        )


def _film(image: ET.Element, file: Path, places: Films, findings: Findings) -> Film | None:
    """The film of an image; None where nothing on it is annotated."""
    name = image.get("name", "")
    where = f"{file}: image {name!r}"
    marks: dict[str, Marks] = {}
    for shape in image:
        if shape.tag == "skeleton":
            reader = _attribute(shape, READER) or ONE_READER
            if reader in marks:
                _fail(where, f"has two skeletons{f' of {reader}' if reader != ONE_READER else ''}", ONE_EACH)
            marks[reader] = _points(list(shape.iter("points")), where)
        elif shape.tag != "points":
            findings.leave_out(f"{file}: shapes that are no points ({shape.tag})")
    if single := image.findall("points"):
        if ONE_READER in marks:
            _fail(where, "has a skeleton and single points", ONE_EACH)
        marks[ONE_READER] = _points(single, where)
    if not marks:
        findings.leave_out(f"{file}: images without points")
        return None
    path = places.find(name)
    if path is None:
        _fail(where, f"is not in {places.root}", "put the films into images/ beside annotations.xml")
    size = _integer(image, "height", where), _integer(image, "width", where)
    return Film(path, where, marks, size, part=split_of(image.get("subset", "")))


def _fail(where: str, what: str, hint: str = "") -> NoReturn:
    raise DataError(f"{where}: {what}", hint=hint)


def _attribute(shape: ET.Element, name: str) -> str:
    found = (attribute.text or "" for attribute in shape.findall("attribute") if attribute.get("name") == name)
    return next(found, "").strip()


def _points(shapes: list[ET.Element], where: str) -> Marks:
    """Each point that is on the film, by its label."""
    found: Marks = {}
    for shape in shapes:
        symbol = shape.get("label", "")
        if not symbol:
            _fail(where, "a point has no label")
        if shape.get("outside", "0") == "1":
            continue
        values = [_float(text) for text in re.split("[,;]", shape.get("points", ""))]
        if len(values) != 2 or not all(map(math.isfinite, values)):
            _fail(where, f"the point {symbol} must be two numbers `x,y`, not {shape.get('points', '')[:40]!r}")
        if symbol in found:
            _fail(where, f"the landmark {symbol} stands twice", ONE_EACH)
        found[symbol] = from_corner(values[0], values[1])
    return found


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _integer(image: ET.Element, side: str, where: str) -> int:
    value = _float(image.get(side, ""))
    if not (math.isfinite(value) and value > 0):
        _fail(where, f"{side} must be a number of pixels")
    return int(value)
