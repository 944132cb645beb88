"""Read and write the ISBI 2015 challenge's layout: RawImage/<part>, and 19 points a film and reader in text files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ceph.data.files import listing, read_text
from ceph.data.formats.base import DataSet, Findings, Marks
from ceph.data.formats.film_table import Facts, read_table
from ceph.data.formats.records import make_sample, marks_of
from ceph.data.formats.splits import BOUND, lot
from ceph.data.formats.tables import number_text
from ceph.data.images import SUFFIXES, film_size
from ceph.data.types import Points, Sample
from ceph.errors import DataError, Place

LANDMARKS = tuple("S N Or Po A B Pog Me Gn Go LIT UIT Ls Li Sn Pog` PNS ANS Ar".split())  # noqa: SIM905 - 19 lines otherwise
PARTS = {"TrainingData": "train", "Test1Data": "test1", "Test2Data": "test2"}
FOLDERS = {"train": "TrainingData", "validation": "TrainingData", "test": "Test1Data", "test2": "Test2Data"}
SPLITS = ("train", "validation", "test", "test1", "test2")
READERS = ("senior", "junior")
# The challenge's films as they came; a copy of another size has been rescaled by a factor that nothing states.
ORIGINAL_SIZE, ORIGINAL_MM_PER_PX = (2400, 1935), 0.1
_NUMBER = r"[+-]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?"
_PAIR = re.compile(rf"\s*({_NUMBER})\s*,\s*({_NUMBER})\s*", re.ASCII)


def parse_points(text: str, file: Path) -> Points:
    """The 19 points [K, 2] in film px of an annotation; the class labels that follow in genuine files are ignored.

    Raises DataError naming file and line.
    """
    lines = text.splitlines()
    K = len(LANDMARKS)
    points = np.empty((K, 2))
    for row, symbol in enumerate(LANDMARKS):
        match = _PAIR.fullmatch(lines[row]) if row < len(lines) else None
        if match is None:
            there = "the file ends before it" if row >= len(lines) else "it must be two numbers, `x,y`"
            raise DataError(
                f"the point of {symbol} cannot be read: {there}",
                place=_place(file, lines, row),
                hint=f"a file holds {K} lines `x,y`, in the order {' '.join(LANDMARKS)}",
            )
        points[row] = float(match[1]), float(match[2])
        if not np.isfinite(points[row]).all():
            raise DataError(f"the point of {symbol} is not finite", place=_place(file, lines, row))
    for row in range(K, len(lines)):
        if _PAIR.fullmatch(lines[row]):
            raise DataError(
                f"a point after the {K} that this format has",
                place=_place(file, lines, row),
                hint="these may be other landmarks, in another order",
            )
    return points


def _place(file: Path, lines: list[str], row: int) -> Place:
    text = lines[row] if row < len(lines) and lines[row].isprintable() and len(lines[row]) <= 120 else ""
    return Place(str(file), row + 1, 1, text)


class Isbi2015:
    """The challenge's own layout; any of the parts may be there."""

    name = "isbi2015"
    landmarks = LANDMARKS
    readers = READERS
    complete = False
    layout = "RawImage/{TrainingData,Test1Data,Test2Data} beside AnnotationsByMD/400_{senior,junior}"

    def matches(self, folder: Path) -> bool:
        """Whether a part's films and a reader's annotations are there."""
        films = any((folder / "RawImage" / part).is_dir() for part in PARTS)
        return films and any((folder / "AnnotationsByMD" / f"400_{reader}").is_dir() for reader in READERS)

    def read(self, folder: Path, *, mm_per_px: float | None) -> DataSet:
        """Read all parts; TrainingData gives `train` and, for about 20 of its 150 films, `validation`."""
        findings = Findings()
        places = {reader: folder / "AnnotationsByMD" / f"400_{reader}" for reader in READERS}
        marks = Marks.find(folder, places, ".txt")
        samples: dict[str, Sample] = {}
        table: dict[str, Facts] = {}
        with findings.gather():
            table = read_table(folder)
        for part in PARTS:
            with findings.gather():
                for film, path in listing(folder, folder / "RawImage" / part, SUFFIXES).items():
                    with findings.gather():
                        if film in samples:
                            raise DataError(
                                f"{path}: the film {film} is also {samples[film].path}",
                                hint="a film may stand in one part only, or its score says nothing",
                            )
                        samples[film] = _sample(film, path, part, marks, table, mm_per_px, findings)
        if not samples and not findings.problems:
            raise DataError(f"{folder / 'RawImage'}: holds no films", hint=f"a film is a {', '.join(SUFFIXES)} file")
        findings.report()
        order = sorted(samples.values(), key=lambda sample: (SPLITS.index(sample.split), sample.id))
        return DataSet(LANDMARKS, tuple(order), tuple(marks.files), self.name)

    def place(self, sample: Sample, number: int) -> str:  # noqa: ARG002 - the format names its films
        """In the part of its split; what is no second test set stands in the first."""
        return f"RawImage/{FOLDERS.get(sample.split, 'Test1Data')}/{sample.id}"

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write the 19 points of each film and reader; one that is not marked is -1,-1."""
        for row, reader in enumerate(data.readers):
            place = folder / "AnnotationsByMD" / f"400_{reader}"
            place.mkdir(parents=True)
            for sample in data.samples:
                marks = marks_of(sample, row, data.landmarks)
                points = [marks.get(symbol, (-1.0, -1.0)) for symbol in LANDMARKS]
                lines = [f"{number_text(x)},{number_text(y)}\n" for x, y in points]
                (place / f"{Path(films[sample.id]).stem}.txt").write_text("".join(lines), encoding="ascii")


def _sample(
    film: str,
    path: Path,
    part: str,
    marks: Marks,
    table: Mapping[str, Facts],
    mm_per_px: float | None,
    findings: Findings,
) -> Sample:
    """One film with the points of every reader that is there."""
    files = marks.of(film, path, ".txt")
    size = film_size(path)
    raw = np.stack([parse_points(read_text(file), file) for file in files.values()])
    points, valid, outside = findings.settle(film, raw, size, tuple(files), LANDMARKS)
    # Who is held out of TrainingData is our choice, not the challenge's: the table of films may choose otherwise.
    chosen = part == "TrainingData" and film in table and table[film].split != ""
    split = "" if chosen else "validation" if part == "TrainingData" and lot(film) < BOUND else PARTS[part]
    native = Facts(split=split)
    if size == ORIGINAL_SIZE:
        native = Facts(split=split, mm_per_px=ORIGINAL_MM_PER_PX, source="ISBI 2015")
    note = f" ({size[1]} x {size[0]} pixels)"
    own = film, path, size, points, valid, outside, native, table, mm_per_px, findings
    return make_sample(*own, landmarks=LANDMARKS, note=note)
