"""Read the ISBI 2015 challenge's layout: RawImage/<part> and a text file of 19 points for each film and reader."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from ceph.data.files import listing, read_text
from ceph.data.formats.base import DataSet, Findings, Marks
from ceph.data.images import SUFFIXES, film_size
from ceph.data.types import Points, Sample
from ceph.errors import DataError, Place

LANDMARKS = tuple("S N Or Po A B Pog Me Gn Go LIT UIT Ls Li Sn Pog` PNS ANS Ar".split())  # noqa: SIM905 - 19 lines otherwise
PARTS = {"TrainingData": "train", "Test1Data": "test1", "Test2Data": "test2"}
SPLITS = ("train", "validation", "test1", "test2")
READERS = ("senior", "junior")
# The challenge's films as they came; a copy of another size has been rescaled by a factor that nothing states.
ORIGINAL_SIZE, ORIGINAL_MM_PER_PX = (2400, 1935), 0.1
HELD_OUT, NUMBERED = 20, 150
_NUMBER = r"[+-]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?"
_PAIR = re.compile(rf"\s*({_NUMBER})\s*,\s*({_NUMBER})\s*", re.ASCII)


def lot(film: str) -> bytes:
    """The lot that a film draws by its name alone: the lowest go to validation. `1` and `001` draw the same."""
    name = str(int(film)) if film.isascii() and film.isdigit() and len(film) < 20 else film
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, person=b"ceph-isbi").digest()


# The bound below which a film of TrainingData is held out: exactly 20 of the challenge's 001-150 are, whichever of
# them a copy of the set holds; of films beyond 150, the same share.
BOUND = sorted(lot(str(number)) for number in range(1, NUMBERED + 1))[HELD_OUT]


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
        for part in PARTS:
            with findings.gather():
                for film, path in listing(folder, folder / "RawImage" / part, SUFFIXES).items():
                    with findings.gather():
                        if film in samples:
                            raise DataError(
                                f"{path}: the film {film} is also {samples[film].path}",
                                hint="a film may stand in one part only, or its score says nothing",
                            )
                        samples[film] = _sample(film, path, part, marks, mm_per_px, findings)
        if not samples and not findings.problems:
            raise DataError(f"{folder / 'RawImage'}: holds no films", hint=f"a film is a {', '.join(SUFFIXES)} file")
        findings.report()
        order = sorted(samples.values(), key=lambda sample: (SPLITS.index(sample.split), sample.id))
        return DataSet(LANDMARKS, tuple(order), tuple(marks.files), self.name)


def _sample(film: str, path: Path, part: str, marks: Marks, mm_per_px: float | None, findings: Findings) -> Sample:
    """One film with the points of every reader that is there."""
    files = marks.of(film, path, ".txt")
    size = film_size(path)
    raw = np.stack([parse_points(read_text(file), file) for file in files.values()])
    points, valid = findings.settle(film, raw, size, tuple(files), LANDMARKS)
    if mm_per_px is None and size == ORIGINAL_SIZE:
        mm_per_px = ORIGINAL_MM_PER_PX
    return Sample(
        id=film,
        split="validation" if part == "TrainingData" and lot(film) < BOUND else PARTS[part],
        group=film,
        machine="",
        size=size,
        mm_per_px=findings.spacing(f"{film} ({size[1]} x {size[0]} pixels)", mm_per_px),
        points=points,
        valid=valid,
        path=path,
    )
