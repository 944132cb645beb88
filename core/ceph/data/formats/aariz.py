"""Read and write the Aariz layout: splits of films, 29 landmarks in JSON by two readers, CVM stages, pixel sizes."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ceph.data.files import inside, listing, read_text
from ceph.data.formats.base import DataSet, Findings, Marks
from ceph.data.formats.film_table import Facts, read_table
from ceph.data.formats.records import make_sample, marks_of, plain
from ceph.data.formats.spelling import index_of
from ceph.data.formats.splits import kind
from ceph.data.formats.tables import number_text, parse_rows, write_rows
from ceph.data.images import SUFFIXES, film_size
from ceph.data.strict_json import Field, read_json
from ceph.data.types import Flags, Points, Sample
from ceph.errors import DataError, Problem

LANDMARKS = tuple(
    "A ANS B Me N Or Pog PNS Pn R S Ar Co Gn Go Po LPM LIT LMT UPM UIA UIT UMT LIA Li Ls N` Pog` Sn".split()  # noqa: SIM905 - 29 lines otherwise
)
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
FOLDERS = {split: folder for folder, split in SPLITS.items()}
READERS = {"senior": "Senior Orthodontists", "junior": "Junior Orthodontists"}
FILMS = "Cephalograms"
MARKS = Path("Annotations", "Cephalometric Landmarks")
CVM, CVM_STAGE = Path("Annotations", "CVM Stages"), "cvm_stage"  # of the cervical vertebrae's maturation, 1 to 6
TABLE = "cephalogram_machine_mappings.csv"


@dataclass(frozen=True)
class Origin:
    """What the set's table says of a film: its machine, and mm per pixel (None where it does not say)."""

    machine: str
    mm_per_px: float | None


def parse_table(text: str, file: Path) -> dict[str, Origin]:
    """The rows of the set's table by film; DataError names the line of a row that is wrong or stands twice."""
    _, rows = parse_rows(text, file, ("cephalogram_id", "pixel_size"))
    found: dict[str, Origin] = {}
    lines: dict[str, int] = {}
    for row in rows:
        film = row["cephalogram_id"]
        if film in found:
            row.fail(f"film {reprlib.repr(film)} stands here and in line {lines[film]}")
        found[film] = Origin(row.get("machine"), row.spacing("pixel_size"))
        lines[film] = row.place.line
    return found


def parse_points(annotation: Field, film: str) -> Points:
    """The points [K, 2] in film px of one annotation, NaN where it does not list a landmark.

    Raises DataError naming file and field: an unknown or doubled symbol, a value that is no number, another film's id.
    """
    points = np.full((len(LANDMARKS), 2), np.nan)
    _require_named_for(annotation, film)
    listed: set[int] = set()
    for landmark in annotation["landmarks"].items():
        symbol = landmark["symbol"]
        try:
            k = index_of(symbol.text(), LANDMARKS)
        except ValueError as error:
            symbol.fail(str(error))
        if k in listed:
            symbol.fail(f"the landmark {LANDMARKS[k]} stands twice")
        listed.add(k)
        value = landmark["value"]
        points[k] = value["x"].number(), value["y"].number()
    return points


def read_labels(root: Path, part: Path, film: str) -> dict[str, float]:
    """The CVM stage of a film, 1 to 6, where the split's folder `part` says one; DataError where it is none."""
    file = part / CVM / f"{film}.json"
    if not file.is_file():
        return {}
    annotation = read_json(inside(root, file))
    _require_named_for(annotation, film)
    stage = annotation[CVM_STAGE]["value"]
    if stage.number() not in range(1, 7):
        stage.fail(f"is {stage.number():g}, no stage from 1 to 6")
    return {CVM_STAGE: stage.number()}


def _require_named_for(annotation: Field, film: str) -> None:
    identity = annotation.get("ceph_id")
    if identity is not None and identity.text() != film:
        identity.fail(f"is {reprlib.repr(identity.value)}, but the file is named for film {film}")


class Aariz:
    """The layout of the Aariz set; any of its splits may be there."""

    name = "aariz"
    landmarks = LANDMARKS
    readers = tuple(READERS)
    complete = False
    labels = (CVM_STAGE,)
    layout = f"{{train,valid,test}}/{FILMS} beside {{train,valid,test}}/{MARKS.as_posix()}"

    def matches(self, folder: Path) -> bool:
        """Whether a split with films and landmarks is there."""
        return any((folder / part / FILMS).is_dir() and (folder / part / MARKS).is_dir() for part in SPLITS)

    def read(self, folder: Path, *, mm_per_px: float | None) -> DataSet:
        """Read the splits that are there."""
        findings = Findings()
        table: dict[str, Origin] = {}
        facts: dict[str, Facts] = {}
        with findings.gather():
            facts = read_table(folder)
            file = folder / TABLE
            if file.exists():
                table = parse_table(read_text(inside(folder, file)), file)
        parts = {
            part: Marks.find(folder, _folders(folder, part), ".json") for part in SPLITS if (folder / part).is_dir()
        }
        # A set may have the marks of one reader only; one who is missing in some splits is not valid there.
        readers = tuple(reader for reader in READERS if any(reader in marks.files for marks in parts.values()))
        samples: dict[str, Sample] = {}
        for part, marks in parts.items():
            with findings.gather():
                films = listing(folder, folder / part / FILMS, SUFFIXES)
                _check_marks(films, marks, folder / part, findings)
                for film, path in films.items():
                    with findings.gather():
                        if film in samples:
                            raise DataError(
                                f"{path}: the film {film} is also {samples[film].path}",
                                hint="a film may stand in one split only, or its score says nothing",
                            )
                        origin = table.get(film, Origin("", None))
                        size = film_size(path)
                        points, valid, outside = _points(film, path, size, marks, readers, findings)
                        native = Facts(
                            split=SPLITS[part], machine=origin.machine, mm_per_px=origin.mm_per_px, source="Aariz table"
                        )
                        sample = make_sample(
                            *(film, path, size, points, valid, outside, native, facts, mm_per_px, findings),
                            landmarks=LANDMARKS,
                        )
                        samples[film] = replace(sample, labels=read_labels(folder, folder / part, film))
        if not samples and not findings.problems:
            raise DataError(f"{folder}: holds no films", hint=f"a film is a {', '.join(SUFFIXES)} file")
        findings.report()
        return DataSet(LANDMARKS, tuple(samples.values()), readers, self.name)

    def place(self, sample: Sample, number: int) -> str:  # noqa: ARG002 - the format names its films
        """Beside the other films of its split."""
        return f"{FOLDERS[kind(sample.split)]}/{FILMS}/{sample.id}"

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write an annotation of each film by each reader, with the landmarks marked, CVM stages, and the table."""
        rows = []
        for sample in data.samples:
            part = FOLDERS[kind(sample.split)]
            film = Path(films[sample.id])
            suffix = film.suffix.lstrip(".")
            rows.append((film.stem, sample.machine, number_text(sample.mm_per_px), suffix, part.title()))
            for row, reader in enumerate(data.readers):
                file = folder / part / MARKS / READERS[reader] / f"{film.stem}.json"
                file.parent.mkdir(parents=True, exist_ok=True)
                landmarks = [
                    {"landmark_id": symbol, "title": symbol, "symbol": symbol, "value": {"x": plain(x), "y": plain(y)}}
                    for symbol, (x, y) in marks_of(sample, row, data.landmarks).items()
                ]
                content = {"ceph_id": film.stem, "landmarks": landmarks, "dataset_split": part.title()}
                file.write_text(json.dumps(content), encoding="utf-8")
            if CVM_STAGE in sample.labels:
                value = int(sample.labels[CVM_STAGE])
                file = folder / part / CVM / f"{film.stem}.json"
                file.parent.mkdir(parents=True, exist_ok=True)
                stage = {"title": f"CVM-S{value}", "value": value}
                file.write_text(json.dumps({"ceph_id": film.stem, CVM_STAGE: stage}), encoding="utf-8")
        write_rows(folder / TABLE, ("cephalogram_id", "machine", "pixel_size", "image_format", "mode"), rows)


def _folders(folder: Path, part: str) -> dict[str, Path]:
    return {reader: folder / part / MARKS / name for reader, name in READERS.items()}


def _check_marks(films: Mapping[str, Path], marks: Marks, part: Path, findings: Findings) -> None:
    """Note annotations without a film; raise DataError where no reader is there at all."""
    if films and not marks.files:
        raise DataError(f"{part / MARKS}: holds no reader's folder", hint=f"looked for {' or '.join(READERS.values())}")
    for reader, files in marks.files.items():
        for film in sorted(files.keys() - films.keys()):
            findings.problems.append(
                Problem(
                    f"{files[film]}: {reader} marks a film that is not in {part / FILMS}",
                    hint="add the film, or take the annotation out",
                )
            )


def _points(
    film: str, path: Path, size: tuple[int, int], marks: Marks, readers: Sequence[str], findings: Findings
) -> tuple[Points, Flags, Flags]:
    """The points [R, K, 2], valid and outside [R, K] of one film, not valid for a reader without a folder there."""
    files = marks.of(film, path, ".json")
    raw = np.full((len(readers), len(LANDMARKS), 2), np.nan)
    for row, reader in enumerate(readers):
        if reader in files:
            raw[row] = parse_points(read_json(files[reader]), film)
    return findings.settle(film, raw, size, readers, LANDMARKS)
