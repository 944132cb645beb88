"""Read and write the tables of CL-Detection: `file,scale,p1x,p1y,...` of 2023, `image file,spacing(mm),...` of 2024.

Both hold a film a line and one reader. The files of 2023 are one for each split (train.csv, valid.csv, test.csv); those
of 2024 are labels.csv, or such files. Points are pixel indices, as in the challenge's JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ceph.data.formats.base import DataSet
from ceph.data.formats.cldetection2023 import LANDMARKS
from ceph.data.formats.film_table import ABSENT, Facts
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.locate import Films, head
from ceph.data.formats.records import ONE_READER, Film, Found, marks_of
from ceph.data.formats.splits import ORDER, split_of
from ceph.data.formats.tables import Row, header, number_text, parse_rows, write_rows
from ceph.errors import DataError, Place

POINTS_2024 = 53  # their names are not published with the challenge: p1 to p53


class ClDetectionCsv(InFiles):
    """One of the two kinds of table. `columns` of the film may be called differently; the first is written."""

    suffix = ".csv"
    readers = ()

    def __init__(
        self, name: str, columns: Sequence[str], spacing: str, landmarks: tuple[str, ...], *, split: bool
    ) -> None:
        self.name = name
        self.columns = tuple(columns)
        self.spacing = spacing
        self.landmarks = landmarks
        self.split = split  # a file for each split, or one
        self.layout = f"a .csv file {columns[0]},{spacing},p1x,p1y,..., also in labels/, and the films below"

    def knows(self, file: Path) -> bool:
        """Whether a table has these columns."""
        return self.fits(header(head(file)))

    def add(self, text: str, file: Path, found: Found) -> None:
        """Add the films of a table; its name may state the split."""
        columns, rows = parse_rows(text, file)
        film_column = next((column for column in self.columns if column in columns), "")
        if not film_column or self.spacing not in columns:
            raise DataError(
                f"must have a column {self.columns[0]!r} and {self.spacing!r}", place=Place(str(file), 1, 1)
            )
        count = self._count(columns, file)
        found.landmarks += self._names(count)
        found.numbered = not self.landmarks
        found.named = bool(self.landmarks) or len(set(found.landmarks)) == POINTS_2024
        for row in rows:
            with found.findings.gather():
                found.films.append(self._film(row, film_column, count, found.places, split_of(file.stem)))

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write labels.csv, or a table for each split."""
        names = self.landmarks or data.landmarks
        columns = (
            self.columns[0],
            self.spacing,
            *(f"{point}{axis}" for point in numbered(len(names)) for axis in "xy"),
        )
        for split in ORDER if self.split else ("",):
            samples = [sample for sample in data.samples if split in ("", sample.split)]
            rows = []
            for sample in samples:
                marks = marks_of(sample, 0, data.landmarks)
                points = [number_text(v) for s in names for v in marks.get(s, (float("nan"),) * 2)]
                film = films[sample.id] if self.split else Path(films[sample.id]).name
                rows.append((film, number_text(sample.mm_per_px), *points))
            if rows:
                write_rows(folder / f"{split or 'labels'}.csv", columns, rows)

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether a table of this kind has these columns."""
        return bool(set(columns) & set(self.columns)) and {self.spacing, "p1x", "p1y"} <= set(columns)

    def _count(self, columns: Sequence[str], file: Path) -> int:
        """How many points a line holds; DataError for other columns, or a count that the format has not."""
        points = [column for column in columns if re.fullmatch(r"p[1-9]\d{0,3}[xy]", column)]
        count = len(points) // 2
        known = {*self.columns, self.spacing, *(f"{point}{axis}" for point in numbered(count) for axis in "xy")}
        place = Place(str(file), 1, 1)
        if odd := next((column for column in columns if column not in known), None):
            raise DataError(
                f"the column {odd!r} does not belong here", place=place, hint="p1x, p1y, p2x, p2y and so on"
            )
        if len(points) != 2 * count or (self.landmarks and count != len(self.landmarks)):
            wanted = f", not {len(self.landmarks)}" if self.landmarks else ""
            raise DataError(f"has columns for {len(points) / 2:g} points{wanted}", place=place)
        return count

    def _film(self, row: Row, column: str, count: int, places: Films, split: str) -> Film:
        path = places.find(row[column])
        if path is None:
            row.fail(f"the film {row[column]!r} is not in {places.root}", hint="put the films into the folder")
        points = [(name, f"p{k}x", f"p{k}y") for k, name in enumerate(self._names(count), 1)]
        spacing, source = row.spacing(self.spacing), f"CL-Detection {self.spacing}"
        facts = Facts(mm_per_px=spacing, source=source, absent=absent_in_row(row, points))
        return Film(path, str(row.place), {ONE_READER: points_of(row, points)}, facts=facts, part=split)

    def _names(self, count: int) -> Sequence[str]:
        return self.landmarks or numbered(count)


def numbered(count: int) -> list[str]:
    """Names of points that have only a number."""
    return [f"p{k}" for k in range(1, count + 1)]


def absent_in_row(row: Row, columns: Sequence[tuple[str, str, str]]) -> tuple[str, ...]:
    """The symbols, out of (symbol, column of x, column of y), whose cells say that they are not on the film."""
    found = []
    for symbol, x, y in columns:
        said = [row[column].lower() == ABSENT for column in (x, y)]
        if any(said) and not all(said):
            row.fail(f"{symbol} is {ABSENT} in one of {x} and {y} only", hint="say it in both, or in neither")
        found += [symbol] * all(said)
    return tuple(found)


def points_of(row: Row, columns: Sequence[tuple[str, str, str]]) -> dict[str, tuple[float, float]]:
    """The points of a row by symbol, out of (symbol, column of x, column of y).

    One with empty cells is missing, as is one that is said not to be on the film.
    """
    found, gone = {}, absent_in_row(row, columns)
    for symbol, x, y in (each for each in columns if each[0] not in gone):
        if (row[x] == "") != (row[y] == ""):
            row.fail(f"{symbol} has {x if row[x] else y}, but not {y if row[x] else x}")
        if row[x]:
            found[symbol] = (row.number(x), row.number(y))
    return found


CSV_2023 = ClDetectionCsv("cldetection2023-csv", ("file",), "scale", LANDMARKS, split=True)
CSV_2024 = ClDetectionCsv("cldetection2024", ("image file", "image path"), "spacing(mm)", (), split=False)
