"""Read and write CVAT for images 1.1: annotations.xml with a skeleton of points for each film and reader.

https://docs.cvat.ai/docs/contributing/development/xml_format/ (the canvas draws a film with its outer corner at (0, 0),
so that points lie half a pixel further right and down than ours). The reader is the attribute `reader` of a skeleton.
Single points of a model (`source` auto or semi-auto) are `corrected` in CVAT's own export. A tag `UMT absent` says that
a landmark is not on the film; a point that is `outside` is just not marked: a skeleton has no other way to lack one.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ceph.data.formats.base import DataSet, Findings
from ceph.data.formats.film_table import Facts, said_absent
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.locate import Films
from ceph.data.formats.records import CORRECTED, ONE_READER, PREDICTED, Film, Found, Marks, from_corner, to_corner
from ceph.data.formats.splits import split_of
from ceph.data.formats.written import Document, Written, document_of
from ceph.errors import DataError, Place

SKELETON = "cephalogram"
READER = "reader"
AUTO, HALF_AUTO = "auto", "semi-auto"  # sources of a shape: a model's, and one that a person moved
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
        seen = CORRECTED if root.find("meta/dumped") is not None else PREDICTED  # CVAT itself wrote this
        for image in root.iter("image"):
            with found.findings.gather():
                if film := _film(image, file, seen, found.places, found.findings):
                    found.films.append(film)

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write annotations.xml with its labels."""
        names = {film: path.removeprefix("images/") for film, path in films.items()}
        with (folder / "annotations.xml").open("w", encoding="utf-8") as file:
            file.writelines(self.text(document_of(data, data.samples, names)))

    def text(self, document: Document) -> Iterator[str]:
        """The document, a piece at a time: a skeleton for each reader; of a model single points, that anybody moves."""
        meta = ET.Element("meta")
        task = ET.SubElement(meta, "task")
        ET.SubElement(task, "name").text = document.model
        ET.SubElement(task, "size").text = str(sum(1 for _ in document.films()))
        ET.SubElement(task, "mode").text = "annotation"
        _labels(ET.SubElement(task, "labels"), document)
        yield f"<?xml version='1.0' encoding='utf-8'?>\n<annotations>\n  <version>1.1</version>\n{_indented(meta)}"
        for number, film in enumerate(document.films()):
            (H, W), split = film.size, film.facts.split
            image = ET.Element("image", {"id": str(number), "name": film.name, **({"subset": split} if split else {})})
            image.attrib |= {"width": str(W), "height": str(H)}
            for reader, marks in film.marks.items():
                if document.model:
                    _single(image, film, marks)
                else:
                    _skeleton(image, reader, marks, document.landmarks)
            yield _indented(image)
        yield "</annotations>\n"


def _indented(element: ET.Element) -> str:
    ET.indent(element, level=1)
    return f"  {ET.tostring(element, encoding='unicode')}\n"


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


def _labels(labels: ET.Element, document: Document) -> None:
    """A label a landmark; of people's points below the label of a skeleton, of a model's with what is told of each."""
    if not document.model:
        _label(labels, SKELETON, "skeleton", {READER: document.readers[0]})
    first = next(iter(document.films()), None)
    told = dict.fromkeys((name for values in first.found.values() for name in values) if first else (), "")
    for symbol in document.landmarks:
        label = _label(labels, symbol, "points", told)
        if not document.model:
            ET.SubElement(label, "parent").text = SKELETON


def _label(labels: ET.Element, name: str, kind: str, attributes: Mapping[str, str]) -> ET.Element:
    """A label, and its `attributes` of free text with what they are where nothing is said."""
    label = ET.SubElement(labels, "label")
    ET.SubElement(label, "name").text = name
    ET.SubElement(label, "type").text = kind
    listed = ET.SubElement(label, "attributes")
    for attribute, default in attributes.items():
        one = ET.SubElement(listed, "attribute")
        fields = {"name": attribute, "mutable": "False", "input_type": "text", "default_value": default, "values": ""}
        for field, text in fields.items():
            ET.SubElement(one, field).text = text
    return label


def _skeleton(image: ET.Element, reader: str, marks: Marks, landmarks: Sequence[str]) -> None:
    skeleton = ET.SubElement(image, "skeleton", label=SKELETON, source="manual", occluded="0", z_order="0")
    ET.SubElement(skeleton, "attribute", name=READER).text = reader
    for symbol in landmarks:
        outside = "0" if symbol in marks else "1"
        ET.SubElement(skeleton, "points", _point(symbol, marks.get(symbol, (-0.5, -0.5)), "manual"), outside=outside)


def _single(image: ET.Element, film: Written, marks: Marks) -> None:
    """A model's points: `source` says so, and what the model says of each is an attribute."""
    for symbol, point in marks.items():
        shape = ET.SubElement(image, "points", _point(symbol, point, AUTO), z_order="0")
        for name, value in film.found.get(symbol, {}).items():
            ET.SubElement(shape, "attribute", name=name).text = f"{value:g}"


def _point(symbol: str, point: tuple[float, float], source: str) -> dict[str, str]:
    x, y = to_corner(point)
    return {"label": symbol, "source": source, "occluded": "0", "points": f"{x!r},{y!r}"}


def _film(image: ET.Element, file: Path, seen: str, places: Films, findings: Findings) -> Film | None:
    """The film of an image; None where nothing on it is annotated. A model's single points are the reader `seen`'s."""
    name = image.get("name", "")
    where = f"{file}: image {name!r}"
    marks: dict[str, Marks] = {}
    absent: list[str] = []
    for shape in image:
        if shape.tag == "skeleton":
            reader = _attribute(shape, READER) or ONE_READER
            if reader in marks:
                _fail(where, f"has two skeletons{f' of {reader}' if reader != ONE_READER else ''}", ONE_EACH)
            marks[reader] = _points(list(shape.iter("points")), where)
        elif shape.tag == "tag" and said_absent(shape.get("label", "")):
            absent.append(said_absent(shape.get("label", "")))
        elif shape.tag != "points":
            findings.leave_out(f"{file}: shapes that are no points ({shape.tag})")
    if single := image.findall("points"):
        reader = seen if any(shape.get("source") in (AUTO, HALF_AUTO) for shape in single) else ONE_READER
        if reader in marks:
            _fail(where, "has a skeleton and single points", ONE_EACH)
        marks[reader] = _points(single, where)
    if not marks:
        findings.leave_out(f"{file}: images without points")
        return None
    path = places.find(name)
    if path is None:
        _fail(where, f"is not in {places.root}", "put the films into images/ beside annotations.xml")
    size = _integer(image, "height", where), _integer(image, "width", where)
    return Film(path, where, marks, size, Facts(absent=tuple(absent)), split_of(image.get("subset", "")))


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
