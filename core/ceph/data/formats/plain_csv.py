"""Read and write a plain table of points, a line for each film and reader.

    film,split,group,machine,mm_per_px,spacing_source,reader,S_x,S_y,N_x,N_y,...

Only the film and the points must be there; x and y are pixel indices: the centre of the first pixel is (0, 0). A point
that is not marked is empty. Columns of points that are only numbered (1, 2, 3, ... as x, y, x, y) need names from the
reader of the set: `data.landmarks`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ceph.data.files import inside, read_text
from ceph.data.formats.base import DataSet, Findings
from ceph.data.formats.cldetection_csv import CSV_2023, CSV_2024, numbered, points_of
from ceph.data.formats.film_table import TABLE, facts_cells, facts_of
from ceph.data.formats.locate import MAX_SET_BYTES, Films, annotation_files, head
from ceph.data.formats.records import ONE_READER, Film, assemble, marks_of
from ceph.data.formats.splits import split_of
from ceph.data.formats.tables import header, number_text, parse_rows, write_rows
from ceph.data.types import Sample
from ceph.errors import DataError, Place

FILM = ("film", "image", "file", "filename", "file_name", "image_file", "image file", "image_path", "path")
FACTS = ("split", "group", "machine", "mm_per_px", "spacing_source")
READER = "reader"

Columns = list[tuple[str, str, str]]  # symbol, column of x, column of y


class PlainCsv:
    """A table that a person or a script made."""

    name = "csv"
    layout = "a .csv file with a column `film` and columns S_x,S_y,... beside the films"
    landmarks = None
    readers = None
    complete = True

    def matches(self, folder: Path) -> bool:
        """Whether a table names films and points."""
        return bool(_files(folder))

    def read(self, folder: Path, *, mm_per_px: float | None) -> DataSet:
        """Read all tables; the file's name may state the split."""
        findings = Findings()
        places = Films(folder)
        films: dict[Path, Film] = {}
        symbols: list[str] = []
        named = True
        for file in _files(folder):
            with findings.gather():
                columns, rows = parse_rows(read_text(inside(folder, file), limit=MAX_SET_BYTES), file)
                film_column, points, names_there = layout_of(columns, file)
                named &= names_there
                symbols += [symbol for symbol, _, _ in points]
                for row in rows:
                    with findings.gather():
                        path = places.find(row[film_column])
                        if path is None:
                            row.fail(f"the film {row[film_column]!r} is not in {places.root}")
                        facts = facts_of(row)
                        film = films.setdefault(path, Film(path, str(row.place), facts=facts, part=split_of(file.stem)))
                        if film.facts != facts:
                            row.fail(
                                f"{path.name} stands with another split, group, machine or spacing in {film.where}"
                            )
                        reader = row.get(READER) or ONE_READER
                        if reader in film.marks:
                            row.fail(
                                f"{path.name} stands twice",
                                hint="a film has one line, or one for each `reader`, and one split",
                            )
                        film.marks[reader] = points_of(row, points)
        return assemble(
            self.name,
            places,
            list(films.values()),
            findings,
            mm_per_px=mm_per_px,
            landmarks=list(dict.fromkeys(symbols)),
            numbered=not named,
            named=named,
        )

    def place(self, sample: Sample, number: int) -> str:  # noqa: ARG002 - the format names its films
        """All films lie together."""
        return f"images/{sample.id}"

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write points.csv."""
        rows = []
        for sample in data.samples:
            for row, reader in enumerate(data.readers):
                marks = marks_of(sample, row, data.landmarks)
                points = [number_text(v) for s in data.landmarks for v in marks.get(s, (math.nan, math.nan))]
                rows.append((Path(films[sample.id]).name, *facts_cells(sample), reader, *points))
        columns = [f"{symbol}_{axis}" for symbol in data.landmarks for axis in "xy"]
        write_rows(folder / "points.csv", ("film", *FACTS, READER, *columns), rows)


def _files(folder: Path) -> list[Path]:
    return [file for file in annotation_files(folder, ".csv") if file.name != TABLE and _has_points(header(head(file)))]


def _has_points(columns: Sequence[str]) -> bool:
    """Whether these columns are films and points, and not those of another format."""
    if CSV_2023.fits(columns) or CSV_2024.fits(columns) or not any(column.lower() in FILM for column in columns):
        return False
    rest = {column for column in columns if column.lower() not in (*FILM, *FACTS)}
    return any(x[:-1] + "y" in rest for x in rest if x.endswith("x")) or {"1", "2"} <= rest


def layout_of(columns: Sequence[str], file: Path) -> tuple[str, Columns, bool]:
    """The column of the film, those of the points, and whether the points are named; DataError for any other column."""
    place = Place(str(file), 1, 1)
    film = [column for column in columns if column.lower() in FILM]
    if len(film) != 1:
        raise DataError(
            f"must have one column with the film's file, not {len(film)}", place=place, hint=f"as {FILM[0]}"
        )
    rest = [column for column in columns if column not in (*film, *FACTS, READER)]
    if rest and all(re.fullmatch(r"[1-9]\d{0,3}", column) for column in rest):
        if [int(column) for column in rest] != list(range(1, len(rest) + 1)) or len(rest) % 2:
            raise DataError("numbered columns must be 1, 2, 3, ... and an even count: x, y, x, y", place=place)
        pairs = zip(numbered(len(rest) // 2), rest[::2], rest[1::2], strict=True)
        return film[0], list(pairs), False
    halves: dict[tuple[str, str], str] = {}
    for column in rest:
        match = re.fullmatch(r"(.+?)_?([xy])", column)
        if match is None:
            raise DataError(
                f"the column {column!r} is no half of a point",
                place=place,
                hint=f"points are S_x,S_y and so on; beside them stand {', '.join((FILM[0], *FACTS, READER))}",
            )
        if (match[1], match[2]) in halves:
            raise DataError(f"{column!r} and {halves[match[1], match[2]]!r} are the same", place=place)
        halves[match[1], match[2]] = column
    points: Columns = []
    for symbol in dict.fromkeys(symbol for symbol, _ in halves):
        if len(pair := [halves[symbol, axis] for axis in "xy" if (symbol, axis) in halves]) != 2:
            raise DataError(f"the column {pair[0]!r} has no other half", place=place, hint="a point is two columns")
        points.append((symbol, pair[0], pair[1]))
    return film[0], points, True
