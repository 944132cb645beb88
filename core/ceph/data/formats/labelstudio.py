"""Read and write the JSON export of Label Studio: tasks with keypoints in percent of the film.

https://labelstud.io/tags/keypointlabels: x and y are 0 at the film's outer left and upper edge and 100 at the other
ones, so that x percent is x / 100 * width - 0.5 here. An annotation is a reader: by its `reader`, a key of ours that
Label Studio itself drops, else by `completed_by`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ceph.data.formats.base import DataSet, Findings
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.locate import Films
from ceph.data.formats.records import ONE_READER, Film, Found, from_corner, marks_of, to_corner
from ceph.data.images import SUFFIXES
from ceph.data.strict_json import Field, parse_json
from ceph.data.types import Sample

KEYPOINT = "keypointlabels"
UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


class LabelStudio(InFiles):
    """Label Studio's export as JSON (not JSON-MIN)."""

    name = "labelstudio"
    layout = "the .json export of Label Studio beside the films"
    marks = (r"\A\s*\[\s*\{", r'"annotations"\s*:\s*\[', r'"(result|data)"\s*:')

    def add(self, text: str, file: Path, found: Found) -> None:
        """Add the films of every task that someone annotated."""
        for task in Field(parse_json(text, file), file).items():
            with found.findings.gather():
                found.films += _films(task, found.places, found.findings)
                found.landmarks += _names(task["data"])

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write export.json, whose films Label Studio finds where this folder is its root of local files."""
        tasks = []
        for number, sample in enumerate(data.samples, 1):
            annotations = [
                {"completed_by": row + 1, "reader": reader, "result": _result(sample, row, data.landmarks)}
                for row, reader in enumerate(data.readers)
            ]
            task = {
                "id": number,
                "data": {"image": f"/data/local-files/?d={quote(films[sample.id])}", "landmarks": list(data.landmarks)},
                "annotations": annotations,
            }
            tasks.append(task)
        (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")


def _names(data: Field) -> list[str]:
    """The landmarks in order, where the task's data name them."""
    listed = data.get("landmarks")
    return [name.text() for name in listed.items()] if listed is not None and isinstance(listed.value, list) else []


def _result(sample: Sample, row: int, landmarks: tuple[str, ...]) -> list[dict[str, object]]:
    H, W = sample.size
    found: list[dict[str, object]] = []
    for symbol, point in marks_of(sample, row, landmarks).items():
        x, y = to_corner(point)
        value = {"x": x / W * 100, "y": y / H * 100, "width": 0.3, KEYPOINT: [symbol]}
        found.append(
            {
                "original_width": W,
                "original_height": H,
                "image_rotation": 0,
                "value": value,
                "from_name": "landmarks",
                "to_name": "image",
                "type": KEYPOINT,
            }
        )
    return found


def _films(task: Field, places: Films, findings: Findings) -> list[Film]:
    """The films of one task; none where nobody annotated it."""
    annotations = [one for one in task["annotations"].items() if not _flag(one, "was_cancelled")]
    if not annotations:
        findings.leave_out(f"{task.file}: tasks without an annotation")
        return []
    pictures = _pictures(task)
    films: dict[Path, Film] = {}

    def film_of(names: list[str]) -> Film:
        path = _path(task, names, places)
        return films.setdefault(path, Film(path, f"{task.file}: {task.name}"))

    if len(pictures) == 1:  # also where no point is on it
        [names] = pictures.values()
        film_of(names)
    seen: set[str] = set()
    targets: set[str] = set()
    for annotation in annotations:
        reader = _reader(annotation)
        if reader in seen:
            annotation.fail(
                f"a second annotation by {reader}", hint="keep one, or let each have its own `completed_by`"
            )
        seen.add(reader)
        for film in films.values():
            film.marks.setdefault(reader, {})
        for region in annotation["result"].items():
            kind = region.get("type")
            if kind is None or kind.text() != KEYPOINT:
                findings.leave_out("regions that are no keypoints with a label")
                continue
            targets.add(_target(region))
            _mark(region, reader, film_of(_picture(region, pictures, targets)))
    return list(films.values())


def _flag(field: Field, key: str) -> bool:
    found = field.get(key)
    return found is not None and found.value is True


def _path(task: Field, names: list[str], places: Films) -> Path:
    """The film of a task by one of its addresses, with or without what uploading put before its name."""
    for name in names:
        folder, _, last = name.rpartition("/")
        for candidate in (name, f"{folder}/{UPLOADED.sub('', last, count=1)}" if UPLOADED.match(last) else ""):
            if candidate and (path := places.find(candidate)):
                return path
    shown = names[0].rpartition("/")[2] if names else "of a task"
    return task["data"].fail(
        f"the film {shown!r} is not in {places.root}", hint="put the films into the folder of the export"
    )


Pictures = dict[tuple[str, int], list[str]]  # the key in a task's data, and the place in its list: addresses


def _pictures(task: Field) -> Pictures:
    """The pictures of a task with the addresses of each: in its data, or of the upload where they are one picture."""
    data = task["data"].value
    if not isinstance(data, dict):
        task["data"].fail("must be an object")
    found: Pictures = {}
    for key, value in data.items():
        for place, one in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(one, str) and _is_film(one):
                found[key, place] = _addresses(one)
    if len({tuple(names) for names in found.values()}) == 1:  # under several keys
        found = dict([next(iter(found.items()))])
    upload = task.get("file_upload")
    if len(found) < 2 and upload is not None and isinstance(upload.value, str):
        key, names = next(iter(found.items()), (("", 0), []))
        found = {key: [*names, *_addresses(upload.value)]}
    return found or {("", 0): []}


def _target(region: Field) -> str:
    """The name of the picture's tag in the labelling interface; empty where a region has none."""
    found = region.get("to_name")
    return found.text() if found is not None else ""


def _picture(region: Field, pictures: Pictures, targets: Collection[str]) -> list[str]:
    """The addresses of the picture that a region is on; `targets` are all that the task's regions name so far.

    The export does not say which tag shows which of a task's data: of several pictures the tag must be called like the
    key, or like no other key where all regions are on one tag that shows a list.
    """
    item = region.get("item_index")
    place = int(item.number()) if item is not None and item.value is not None else None
    keys = {key for key, _ in pictures}
    key = _target(region) if _target(region) in keys else next(iter(keys)) if len(keys) == 1 else None
    if key is None or (len(keys) == 1 and len(targets) > 1):
        shown = ", ".join(sorted(targets)) or "no tag"
        region.fail(
            f"the point is on {_target(region)!r}, and nothing says which picture of the task that is"
            f" (pictures: {', '.join(sorted(keys))}; points on: {shown})",
            hint="name each Image tag like the key of the task's data that it shows, or export a picture a task",
        )
    places = [number for name, number in pictures if name == key]
    if place is None and len(places) == 1:
        place = places[0]
    if place not in places:
        region.fail(
            f"the point is on picture {place} of {key!r}, which has {len(places)}"
            if place is not None
            else f"nothing says which of the {len(places)} pictures of {key!r} the point is on",
            hint="its `item_index` counts the pictures from 0",
        )
    return pictures[key, place]


def _is_film(value: str) -> bool:
    return any(Path(address).suffix.lower() in SUFFIXES for address in _addresses(value))


def _addresses(value: str) -> list[str]:
    """The paths that an address may mean, the likeliest first: behind `?d=` of a local file, else the address itself.

    Not everything that writes addresses quotes `+`, `&`, `#` and `%` in them.
    """
    try:
        parts = urlsplit(value)
    except ValueError:
        return [value]
    local = parse_qs(parts.query).get("d")
    plain = value.partition("?d=")[2] or value
    return list(dict.fromkeys([local[0] if local else unquote(parts.path), unquote(plain), plain]))


def _reader(annotation: Field) -> str:
    reader = annotation.get("reader")
    if reader is not None:
        return reader.text()
    by = annotation.get("completed_by")
    if by is None or by.value is None:
        return ONE_READER
    number = by["id"] if isinstance(by.value, dict) else by
    return f"annotator{number.number():g}"


def _mark(region: Field, reader: str, film: Film) -> None:
    """Add a keypoint, in film px, to its film, and note the size of the film that it was drawn on."""
    rotation = region.get("image_rotation")
    if rotation is not None and rotation.number() != 0:
        rotation.fail("the film was rotated while it was annotated", hint="annotate it again as it is stored")
    size = int(region["original_height"].number()), int(region["original_width"].number())
    if film.size is not None and film.size != size:
        region["original_width"].fail("another size of the film than before in this task")
    film.size = size
    value = region["value"]
    labels = [label.text() for label in value[KEYPOINT].items()]
    if len(labels) != 1:
        value[KEYPOINT].fail(f"must be one landmark, not {len(labels)}")
    marks = film.marks.setdefault(reader, {})
    if labels[0] in marks:
        value[KEYPOINT].fail(f"the landmark {labels[0]} stands twice")
    marks[labels[0]] = from_corner(value["x"].number() / 100 * size[1], value["y"].number() / 100 * size[0])
