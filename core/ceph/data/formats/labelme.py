"""Read and write LabelMe: a JSON file beside each film, its points as shapes.

LabelMe draws a film with its outer corner at (0, 0), so that its points lie half a pixel further right and down than
ours. It keeps keys that it does not know: `landmarks` and `readers` name both in order, and a shape's `group_id` is
then the number of its reader, from 1. A flag `UMT absent` says that a landmark is not on the film.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ceph.data.formats.base import DataSet, Findings
from ceph.data.formats.film_table import Facts, said_absent
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.locate import BESIDE_FILMS, Films
from ceph.data.formats.records import (
    CORRECTED,
    ONE_READER,
    PREDICTED,
    Film,
    Found,
    Marks,
    check_link,
    from_corner,
    to_corner,
)
from ceph.data.formats.written import Document, Written, document_of
from ceph.data.strict_json import Field, parse_json
from ceph.data.types import Sample

SUFFIX = ".json"
VERSION = "5.0.1"  # whose files these are like
UNSEEN = f"{VERSION}+predicted"  # which LabelMe replaces by its own when a person saves the film


class LabelMe(InFiles):
    """LabelMe's own files."""

    name = "labelme"
    layout = "a LabelMe .json file beside each film, here or in train/, valid/, test/, images/"
    marks = (r"\A\s*\{", r'"shapes"\s*:\s*\[')
    folders = BESIDE_FILMS
    one_each = True

    def add(self, text: str, file: Path, found: Found) -> None:
        """Add the film of one file; folders may state splits."""
        content = Field(parse_json(text, file), file)
        found.landmarks += _names(content, "landmarks")
        found.readers += _readers(content)
        found.films.append(_film(content, found.places, found.findings))

    def place(self, sample: Sample, number: int) -> str:  # noqa: ARG002 - the format names its films
        """In the folder of its split."""
        return f"{sample.split}/{sample.id}"

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write a JSON file beside each film."""
        document = document_of(data, data.samples, {film: Path(path).name for film, path in films.items()})
        for film, path in zip(document.films(), map(films.__getitem__, [s.id for s in data.samples]), strict=True):
            (folder / path).with_suffix(SUFFIX).write_text(self.page(film, document), encoding="utf-8")

    def page(self, film: Written, document: Document) -> str:
        """The text of the file of a film, named by its path from there; what a model says stands in the shapes."""
        readers = list(document.readers)
        shapes = [
            {
                "label": symbol,
                "points": [list(to_corner(point))],
                "group_id": readers.index(reader) + 1,
                "shape_type": "point",
                "flags": {},
                **film.found.get(symbol, {}),
            }
            for reader, marks in film.marks.items()
            for symbol, point in marks.items()
        ]
        content: dict[str, object] = {
            "version": UNSEEN if PREDICTED in readers else VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": film.name,
            "imageData": None,
            "imageHeight": film.size[0],
            "imageWidth": film.size[1],
            "landmarks": list(document.landmarks),
            "readers": readers,
            **({"model": document.model} if document.model else {}),
        }
        return json.dumps(content, indent=1)


def _names(content: Field, key: str) -> list[str]:
    listed = content.get(key)
    return [name.text() for name in listed.items()] if listed is not None else []


def _readers(content: Field) -> list[str]:
    """The readers in order, where the file names them; what was predicted is `corrected` once LabelMe has saved it."""
    version = content.get("version")
    seen = version is not None and version.value != UNSEEN
    return [CORRECTED if seen and name == PREDICTED else name for name in _names(content, "readers")]


def _film(content: Field, places: Films, findings: Findings) -> Film:
    named = content["imagePath"]
    path = places.find(f"{content.file.parent.relative_to(places.root)}/{named.text()}")
    if path is None:
        named.fail(f"the film {named.text()!r} is not in {places.root}", hint="put it beside its .json file")
    check_link(named, path, places)
    readers = _readers(content)
    marks: dict[str, Marks] = {reader: {} for reader in readers or [ONE_READER]}
    for shape in content["shapes"].items():
        if shape["shape_type"].text() != "point":
            findings.leave_out("shapes that are no points")
            continue
        symbol = shape["label"].text()
        points = shape["points"].items()
        if len(points) != 1 or len(pair := points[0].items()) != 2:
            shape["points"].fail("must hold one point of two numbers")
        reader = _reader(shape, readers)
        if symbol in marks[reader]:
            shape["label"].fail(f"the landmark {symbol} stands twice")
        marks[reader][symbol] = from_corner(pair[0].number(), pair[1].number())
    size = _pixels(content, "imageHeight"), _pixels(content, "imageWidth")
    known = (size[0], size[1]) if size[0] and size[1] else None
    return Film(path, str(content.file), marks, known, Facts(absent=_absent(content)))


def _absent(content: Field) -> tuple[str, ...]:
    flags = content.get("flags")
    named = flags.value if flags is not None and isinstance(flags.value, dict) else {}
    return tuple(filter(None, (said_absent(name) for name, raised in named.items() if raised is True)))


def _reader(shape: Field, readers: list[str]) -> str:
    """Who drew a shape: by its `group_id` where the file names readers."""
    if not readers:
        return ONE_READER
    group = shape["group_id"]
    if group.value not in range(1, len(readers) + 1) or isinstance(group.value, bool):
        group.fail(f"must be the number of a reader, 1 to {len(readers)}")
    return readers[int(group.number()) - 1]


def _pixels(content: Field, key: str) -> int:
    """Height or width of the film; 0 where the file does not say."""
    side = content.get(key)
    return int(side.number()) if side is not None and side.value is not None else 0
