"""Read and write the JSON export of Label Studio: tasks with keypoints in percent of the film.

https://labelstud.io/tags/keypointlabels: x and y are 0 at the film's outer left and upper edge and 100 at the other
ones, so that x percent is x / 100 * width - 0.5 here. An annotation is a reader: by its `reader`, a key of ours that
Label Studio itself drops, else by `completed_by`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ceph.data.files import inside, read_text
from ceph.data.formats.base import DataSet, Findings
from ceph.data.formats.locate import MAX_SET_BYTES, Films, annotation_files, begins
from ceph.data.formats.records import ONE_READER, Film, Marks, assemble, from_corner, marks_of, to_corner
from ceph.data.images import SUFFIXES
from ceph.data.strict_json import Field, parse_json
from ceph.data.types import Sample

KEYPOINT = "keypointlabels"
UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


class LabelStudio:
    """Label Studio's export as JSON (not JSON-MIN)."""

    name = "labelstudio"
    layout = "the .json export of Label Studio beside the films"
    landmarks = None
    readers = None
    complete = False

    def matches(self, folder: Path) -> bool:
        """Whether a JSON file begins as an export does."""
        return bool(_files(folder))

    def read(self, folder: Path, *, mm_per_px: float | None) -> DataSet:
        """Read every task that someone annotated."""
        findings = Findings()
        places = Films(folder)
        films: list[Film] = []
        landmarks: list[str] = []
        for file in _files(folder):
            with findings.gather():
                tasks = Field(parse_json(read_text(inside(folder, file), limit=MAX_SET_BYTES), file), file)
                for task in tasks.items():
                    with findings.gather():
                        if film := _film(task, places, findings):
                            films.append(film)
                            landmarks += _names(task["data"])
        return assemble(
            self.name,
            places,
            films,
            findings,
            mm_per_px=mm_per_px,
            landmarks=landmarks,
        )

    def place(self, sample: Sample, number: int) -> str:  # noqa: ARG002 - the format names its films
        """All films lie together."""
        return f"images/{sample.id}"

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
                "data": {"image": f"/data/local-files/?d={films[sample.id]}", "landmarks": list(data.landmarks)},
                "annotations": annotations,
            }
            tasks.append(task)
        (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")


def _files(folder: Path) -> list[Path]:
    return begins(annotation_files(folder, ".json"), r"\A\s*\[\s*\{", r'"annotations"\s*:\s*\[', r'"(result|data)"\s*:')


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


def _film(task: Field, places: Films, findings: Findings) -> Film | None:
    """The film of one task; None where nobody annotated it."""
    annotations = [one for one in task["annotations"].items() if not _flag(one, "was_cancelled")]
    if not annotations:
        findings.leave_out(f"{task.file}: tasks without an annotation")
        return None
    path = _path(task, places)
    film = Film(path, f"{task.file}: {task.name}")
    for annotation in annotations:
        reader = _reader(annotation)
        if reader in film.marks:
            annotation.fail(
                f"a second annotation by {reader}", hint="keep one, or let each have its own `completed_by`"
            )
        film.marks[reader] = _marks(annotation, film, findings)
    return film


def _flag(field: Field, key: str) -> bool:
    found = field.get(key)
    return found is not None and found.value is True


def _path(task: Field, places: Films) -> Path:
    """The film of a task, by the address in its data, with or without what uploading put before its name."""
    names = [value for value in _addresses(task) if value]
    for name in names:
        folder, _, last = name.rpartition("/")
        for candidate in (name, f"{folder}/{UPLOADED.sub('', last, count=1)}" if UPLOADED.match(last) else ""):
            if candidate and (path := places.find(candidate)):
                return path
    shown = names[0].rpartition("/")[2] if names else "of a task"
    return task["data"].fail(
        f"the film {shown!r} is not in {places.root}", hint="put the films into the folder of the export"
    )


def _addresses(task: Field) -> list[str]:
    """The paths of the film that a task's data, or its upload, gives."""
    data = task["data"].value
    if not isinstance(data, dict):
        task["data"].fail("must be an object")
    values = [value for key, value in data.items() if isinstance(value, str) and _is_film(value)]
    upload = task.get("file_upload")
    if upload is not None and isinstance(upload.value, str):
        values.append(upload.value)
    return [_address(value) for value in values]


def _is_film(value: str) -> bool:
    return Path(_address(value)).suffix.lower() in SUFFIXES


def _address(value: str) -> str:
    """The path in an address: of a local file behind `?d=`, else of the address itself."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return value
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)


def _reader(annotation: Field) -> str:
    reader = annotation.get("reader")
    if reader is not None:
        return reader.text()
    by = annotation.get("completed_by")
    if by is None or by.value is None:
        return ONE_READER
    number = by["id"] if isinstance(by.value, dict) else by
    return f"annotator{number.number():g}"


def _marks(annotation: Field, film: Film, findings: Findings) -> Marks:
    """The keypoints of an annotation in film px; notes the size of the film that they were drawn on."""
    found: Marks = {}
    for region in annotation["result"].items():
        kind = region.get("type")
        if kind is None or kind.text() != KEYPOINT:
            findings.leave_out("regions that are no keypoints with a label")
            continue
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
        if labels[0] in found:
            value[KEYPOINT].fail(f"the landmark {labels[0]} stands twice")
        found[labels[0]] = from_corner(value["x"].number() / 100 * size[1], value["y"].number() / 100 * size[0])
    return found
