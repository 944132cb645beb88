"""Read and write the JSON export of Label Studio: tasks with keypoints in percent of the film.

https://labelstud.io/tags/keypointlabels: x and y are 0 at the film's outer left and upper edge and 100 at the other
ones, so that x percent is x / 100 * width - 0.5 here. An annotation is a reader: by its `reader`, a key of ours that
Label Studio itself drops, else by `completed_by`; one that began with a prediction is `corrected`. A choice
`UMT absent`, of a tag Choices, says that a landmark is not on the film.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ceph.data.formats.base import DataSet, Findings
from ceph.data.formats.film_table import said_absent
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.locate import Films
from ceph.data.formats.records import CORRECTED, ONE_READER, PREDICTED, Film, Found, Marks, from_corner, to_corner
from ceph.data.formats.written import Document, Written, document_of, json_list
from ceph.data.images import SUFFIXES
from ceph.data.strict_json import Field, parse_json

logger = logging.getLogger("ceph")

KEYPOINT = "keypointlabels"
CHOICES = "choices"
WIDTH = 0.3  # of a point as it is drawn, in percent of the film's width
UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


class LabelStudio(InFiles):
    """Label Studio's export as JSON (not JSON-MIN)."""

    name = "labelstudio"
    layout = "the .json export of Label Studio beside the films"
    marks = (r"\A\s*\[\s*\{", r'"annotations"\s*:\s*\[', r'"(result|data)"\s*:')

    def add(self, text: str, file: Path, found: Found) -> None:
        """Add the films of every task that someone annotated; where nobody annotated any, those with predictions."""
        tasks = list(Field(parse_json(text, file), file).items())
        answers, other = "annotations", "predictions"
        if not any(_listed(task, answers) for task in tasks) and any(_listed(task, other) for task in tasks):
            logger.warning("%s: nobody annotated a task: what a model predicted is read, as %s", file, PREDICTED)
            answers = other
        for task in tasks:
            with found.findings.gather():
                found.films += _films(task, answers, found.places, found.findings)
                found.landmarks += _names(task["data"])

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write export.json, whose films Label Studio finds where this folder is its root of local files."""
        with (folder / "export.json").open("w", encoding="utf-8") as file:
            file.writelines(self.text(document_of(data, data.samples, films)))

    def text(self, document: Document) -> Iterator[str]:
        """The tasks, a piece at a time; a model's points are predictions, which a person begins with."""
        return json_list(_task(number, film, document) for number, film in enumerate(document.films(), 1))


def _task(number: int, film: Written, document: Document) -> dict[str, object]:
    data = {"image": f"/data/local-files/?d={quote(film.name)}", "landmarks": list(document.landmarks)}
    task: dict[str, object] = {"id": number, "data": data}
    results = {reader: _result(film, marks) for reader, marks in film.marks.items()}
    if document.model:
        found = [{"model_version": document.model, "score": film.score, "result": one} for one in results.values()]
        return {**task, "annotations": [], "predictions": found}
    people = enumerate(results.items(), 1)
    return {**task, "annotations": [{"completed_by": n, "reader": who, "result": one} for n, (who, one) in people]}


def _names(data: Field) -> list[str]:
    """The landmarks in order, where the task's data name them."""
    listed = data.get("landmarks")
    return [name.text() for name in listed.items()] if listed is not None and isinstance(listed.value, list) else []


def _result(film: Written, marks: Marks) -> list[dict[str, object]]:
    """A region a point; its width, in percent of the film's, is the point's radius where that is known."""
    H, W = film.size
    found: list[dict[str, object]] = []
    for number, (symbol, point) in enumerate(marks.items(), 1):
        x, y = to_corner(point)
        told = film.found.get(symbol, {})
        width = told["radius_px"] / W * 100 if told.get("radius_px") else WIDTH
        value = {"x": x / W * 100, "y": y / H * 100, "width": width, KEYPOINT: [symbol]}
        found.append(
            {
                "id": f"point{number}",
                "original_width": W,
                "original_height": H,
                "image_rotation": 0,
                "value": value,
                "from_name": "landmarks",
                "to_name": "image",
                "type": KEYPOINT,
                **told,
            }
        )
    return found


def _listed(task: Field, key: str) -> list[Field]:
    """What a task lists under a key; nothing where it does not have it."""
    found = task.get(key)
    return list(found.items()) if found is not None and isinstance(found.value, list) else []


def _films(task: Field, answers: str, places: Films, findings: Findings) -> list[Film]:
    """The films of one task, by its annotations or predictions; none where nobody annotated it."""
    listed = task[answers].items() if answers == "annotations" else _listed(task, answers)
    annotations = [one for one in listed if not _flag(one, "was_cancelled")]
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
        reader = PREDICTED if answers == "predictions" else _reader(annotation, seen)
        if reader in seen:
            annotation.fail(
                f"a second annotation by {reader}", hint="keep one, or let each have its own `completed_by`"
            )
        seen.add(reader)
        for film in films.values():
            film.marks.setdefault(reader, {})
        for region in annotation["result"].items():
            kind = region.get("type")
            if kind is not None and kind.text() == CHOICES and (absent := _absent(region)):
                for symbol in absent:
                    film_of(_picture(region, pictures, {_target(region)})).lacks(symbol)
                continue
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


def _reader(annotation: Field, seen: Collection[str]) -> str:
    """Whose an annotation is: by name, `corrected` for the first that began with a prediction, else by number."""
    reader = annotation.get("reader")
    if reader is not None:
        return reader.text()
    if CORRECTED not in seen and _began_with_prediction(annotation):
        return CORRECTED
    by = annotation.get("completed_by")
    if by is None or by.value is None:
        return ONE_READER
    number = by["id"] if isinstance(by.value, dict) else by
    return f"annotator{number.number():g}"


def _absent(region: Field) -> list[str]:
    """The landmarks that choices say are not on the film."""
    return [symbol for choice in _listed(region["value"], CHOICES) if (symbol := said_absent(choice.text()))]


def _began_with_prediction(annotation: Field) -> bool:
    """Whether a person was shown a model's points: by the annotation's `parent_prediction`, or a region's `origin`."""
    parent = annotation.get("parent_prediction")
    if parent is not None and parent.value is not None:
        return True
    origins = (region.get("origin") for region in annotation["result"].items())
    return any(origin is not None and str(origin.value).startswith("prediction") for origin in origins)


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
