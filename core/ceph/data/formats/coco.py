"""Read and write COCO keypoints: a JSON file for each split, with the mm of a film's pixel as `spacing`.

https://cocodataset.org/#format-data, with `spacing`, `spacing_source`, `split`, `group`, `machine`, `absent` of an
image and the `reader` of an annotation beside it. Keypoints are pixel indices: the centre of the first pixel is (0, 0),
as here. Visibility 0 is a point that nobody labelled; that a landmark is not on the film only the list `absent` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ceph.data.formats.base import DataSet
from ceph.data.formats.film_table import ABSENT, Facts
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.locate import Films
from ceph.data.formats.records import ONE_READER, Film, Found, check_link, plain
from ceph.data.formats.splits import ORDER, split_of
from ceph.data.formats.written import Document, Written, document_of, json_lines
from ceph.data.spacing import plausible_spacing
from ceph.data.strict_json import Field, parse_json

LISTS = {  # what a model says of each keypoint
    "score": "keypoint_scores",
    "radius_px": "keypoint_radii_px",
    "radius_mm": "keypoint_radii_mm",
}
READERS = "readers"  # of the file's `info`: their names in order


class Coco(InFiles):
    """COCO keypoints, one category."""

    name = "coco"
    layout = "a .json file with images, annotations and categories, also in annotations/, beside the films"
    marks = (r"\A\s*\{", r'"(images|annotations|categories)"\s*:\s*\[', r'"(file_name|keypoints|category_id)"\s*:')
    complete = True

    def add(self, text: str, file: Path, found: Found) -> None:
        """Films are found by `file_name` wherever they lie in the folder."""
        content = Field(parse_json(text, file), file)
        found.films += _films(content, found, split_of(file.stem))
        found.landmarks += _keypoints(content)[1]
        found.readers += _names(content)

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write annotations/<split>.json, an annotation for each reader of a film."""
        (folder / "annotations").mkdir()
        names = {film: path.removeprefix("images/") for film, path in films.items()}
        for split in ORDER:
            samples = [sample for sample in data.samples if sample.split == split]
            if samples:
                with (folder / "annotations" / f"{split}.json").open("w", encoding="utf-8") as file:
                    file.writelines(self.text(document_of(data, samples, names)))

    def text(self, document: Document) -> Iterator[str]:
        """The document, a piece at a time; of a model's points their scores stand beside them, and its `info` names it.

        Lists of what it says beside that are named by LISTS, in the order of the keypoints.
        """
        category = {"id": 1, "name": "cephalogram", "keypoints": list(document.landmarks), "skeleton": []}
        info = {READERS: list(document.readers), **({"model": document.model} if document.model else {})}
        return json_lines(
            {
                "info": info,
                "images": (_image(number, film) for number, film in enumerate(document.films(), 1)),
                "annotations": _annotations(document),
                "categories": [category],
            }
        )


def _keypoints(content: Field) -> tuple[int, list[str]]:
    """The id of the one category with keypoints, and their names."""
    found = [category for category in content["categories"].items() if category.get("keypoints")]
    if len(found) != 1:
        content["categories"].fail(f"must hold one category with keypoints, not {len(found)}")
    names = [name.text() for name in found[0]["keypoints"].items()]
    if len(set(names)) != len(names) or not names:
        found[0]["keypoints"].fail("must name each keypoint once")
    return _integer(found[0]["id"]), names


def _names(content: Field) -> list[str]:
    info = content.get("info")
    listed = info.get(READERS) if info is not None else None
    return [name.text() for name in listed.items()] if listed is not None else []


def _films(content: Field, found: Found, split: str) -> list[Film]:
    """The films of one file that have an annotation."""
    findings = found.findings
    category, landmarks = _keypoints(content)
    films: dict[int, Film] = {}
    images: dict[int, Field] = {}
    for image in content["images"].items():
        with findings.gather():
            number = _integer(image["id"])
            if number in images:
                image["id"].fail(f"{number} stands twice")
            images[number] = image
    for annotation in content["annotations"].items():
        with findings.gather():
            if _integer(annotation["category_id"]) != category:
                findings.leave_out(f"{content.file}: annotations of another category")
                continue
            number = _integer(annotation["image_id"])
            if number not in images:
                annotation["image_id"].fail(f"{number} is no image of this file")
            if number not in films:
                films[number] = _film(images[number], found.places, split)
                if len(images) == 1:  # a file for each film
                    check_link(images[number]["file_name"], films[number].path, found.places)
            reader = annotation.get("reader")
            name = reader.text() if reader is not None else ONE_READER
            if name in films[number].marks:
                annotation.fail(
                    f"a second annotation of image {number}", hint="give each a `reader` where several marked one film"
                )
            films[number].marks[name] = _marks(annotation["keypoints"], landmarks)
    for _ in images.keys() - films.keys():
        findings.leave_out(f"{content.file}: images without an annotation")
    return list(films.values())


def _film(image: Field, places: Films, split: str) -> Film:
    name = image["file_name"]
    path = places.find(name.text())
    if path is None:
        name.fail(f"{name.text()!r} is not in {places.root}", hint="put the films into the folder of the annotations")
    spacing = image.get("spacing")
    mm_per_px = None
    if spacing is not None and spacing.value is not None:
        mm_per_px = plausible_spacing(spacing.number(), f"{spacing.value!r}", spacing.fail)
    stated = _text(image, "split")
    if stated and stated not in ORDER:
        image["split"].fail(f"unknown split {stated!r}", hint=f"valid: {', '.join(ORDER)}")
    return Film(
        path,
        f"{image.file}: {image.name}",
        size=(_integer(image["height"]), _integer(image["width"])),
        facts=Facts(
            split=stated,
            group=_text(image, "group"),
            machine=_text(image, "machine"),
            mm_per_px=mm_per_px,
            source=_text(image, "spacing_source") or "COCO spacing",
            absent=tuple(name.text() for name in listed.items()) if (listed := image.get(ABSENT)) is not None else (),
        ),
        part=split,
    )


def _text(image: Field, key: str) -> str:
    found = image.get(key)
    return found.text() if found is not None else ""


def _integer(field: Field) -> int:
    value = field.number()
    if not value.is_integer():
        field.fail("must be a whole number")
    return int(value)


def _marks(keypoints: Field, landmarks: list[str]) -> dict[str, tuple[float, float]]:
    """The keypoints x, y, v that are labelled (v 1 or 2), by symbol."""
    values = [value.number() for value in keypoints.items()]
    if len(values) != 3 * len(landmarks):
        keypoints.fail(f"holds {len(values)} numbers, not three for each of {len(landmarks)} keypoints")
    found = {}
    for k, symbol in enumerate(landmarks):
        x, y, v = values[3 * k : 3 * k + 3]
        if v not in (0, 1, 2):
            Field(values[3 * k + 2], keypoints.file, f"{keypoints.name}[{3 * k + 2}]").fail(f"{v:g} is no visibility")
        if v:
            found[symbol] = (x, y)
    return found


def _image(number: int, film: Written) -> dict[str, object]:
    facts, known = film.facts, {"split": film.facts.split, "group": film.facts.group, "machine": film.facts.machine}
    H, W = film.size
    spacing = {} if facts.mm_per_px is None else {"spacing": facts.mm_per_px, "spacing_source": facts.source}
    absent = {ABSENT: list(facts.absent)} if facts.absent else {}
    return {"id": number, "file_name": film.name, "width": W, "height": H, **spacing, **known, **absent, **film.notes}


def _annotations(document: Document) -> Iterator[dict[str, object]]:
    """An annotation for each reader of each film."""
    pairs = ((n, film, *one) for n, film in enumerate(document.films(), 1) for one in film.marks.items())
    for number, (image, film, reader, marks) in enumerate(pairs, 1):
        xs, ys = [x for x, _ in marks.values()] or [0.0], [y for _, y in marks.values()] or [0.0]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        triples = [(*marks[s], 2) if s in marks else (0, 0, 0) for s in document.landmarks]
        annotation: dict[str, object] = {
            "id": number,
            "image_id": image,
            "category_id": 1,
            "reader": reader,
            "keypoints": [plain(value) for triple in triples for value in triple],
            "num_keypoints": len(marks),
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        if film.found:
            names = dict.fromkeys(name for values in film.found.values() for name in values)
            for name in names:
                listed = [film.found.get(symbol, {}).get(name) for symbol in document.landmarks]
                annotation[LISTS.get(name, f"keypoint_{name}")] = listed
            annotation["score"] = film.score
        yield annotation
