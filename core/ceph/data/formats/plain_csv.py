"""Read and write a plain table of points, a line for each film and reader; text, or the sheets of a workbook.

    film,split,group,machine,mm_per_px,spacing_source,reader,S_x,S_y,N_x,N_y,...

Or a line for each point, as `ceph predict` writes it: film,landmark,x,y and any of the other columns. Only the film and
the points must be there; x and y are pixel indices: the centre of the first pixel is (0, 0). A point that is not marked
is empty; of a landmark that is not on the film x and y are the word `absent`. Columns of points that are only numbered
(1, 2, 3, ... as x, y, x, y) need names from the reader of the set: `data.landmarks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ceph.data.formats.base import DataSet
from ceph.data.formats.cldetection_csv import CSV_2023, CSV_2024, absent_in_row, numbered, points_of
from ceph.data.formats.film_table import ABSENT, TABLE, absent_of, facts_cells, facts_of
from ceph.data.formats.in_files import InFiles
from ceph.data.formats.locate import annotation_files, head
from ceph.data.formats.records import ONE_READER, PREDICTED, Film, Found, Marks, marks_of
from ceph.data.formats.spelling import clean
from ceph.data.formats.splits import split_of
from ceph.data.formats.tables import Row, header, number_text, parse_rows, table_of, write_rows
from ceph.data.formats.workbook import SUFFIX, headings, is_workbook, label, sheets
from ceph.errors import ConfigError, DataError, Place, nearest

FILM = (
    *("film", "image", "file", "filename", "file_name", "file name", "image_file", "image file", "image_path", "path"),
    *("image_id", "image_name", "image name", "film name"),
)
LANDMARK = ("landmark", "symbol", "point", "label")  # of a table with a line for each point, with its X and Y
X, Y = ("x", "x_px", "x (px)"), ("y", "y_px", "y (px)")
TEXT = (".csv", ".tsv", ".txt")
SHEETS = (".xlsm", ".xls", ".xlsb", ".ods")  # which are not read
SHOWN = 3  # tables of which is said why they cannot be read
INDEX = ("", "index", "unnamed: 0", "#", "no", "no.", "nr", "nr.")  # a column that only counts the lines
PATIENT = ("patient", "patient_id", "patient id", "patient-id")  # a group, and perhaps a folder
FACTS = ("split", "group", "machine", "mm_per_px", "spacing_source")
READER = "reader"
SCORE = "score"  # of a line for each point: a model found it
KNOWN = (*FACTS, *PATIENT, READER)
HALF = re.compile(r"(.*?)[\s_.:-]*\(?([xy])\)?(?:[\s_]*\(?px\)?)?", re.IGNORECASE)  # of a point: S_x, Sx, "N X", S_x_px

Columns = list[tuple[str, str, str]]  # symbol, column of x, column of y


class PlainCsv(InFiles):
    """A table that a person or a script made."""

    name = "csv"
    layout = "a .csv, .tsv, .txt or .xlsx file with columns `film` and S_x,S_y,..., or landmark,x,y, beside the films"
    suffix = ".csv"
    complete = True

    def listed(self, folder: Path) -> list[Path]:
        """The tables, and then the workbooks."""
        files = [file for suffix in (*TEXT, SUFFIX) for file in annotation_files(folder, suffix, beside=self.folders)]
        return [file for file in files if file.name != TABLE]

    def knows(self, file: Path) -> bool:
        """Whether a table, or a sheet of a workbook, names films and points."""
        if not is_workbook(file):
            return _has_points(header(head(file)))
        try:
            return any(map(_has_points, headings(file).values()))
        except (ConfigError, DataError):
            return False

    def chosen(self, known: list[Path]) -> list[Path]:
        """Tables of text where there are any: who has both has exported the one from the other."""
        return [file for file in known if not is_workbook(file)] or known

    def add_file(self, file: Path, found: Found) -> None:
        """Add the films of a table, or of all sheets of a workbook that name films and points."""
        if not is_workbook(file):
            return super().add_file(file, found)
        every = sheets(file)
        known = {title: lines for title, lines in every.items() if lines and _has_points(lines[0][1])}
        for title in every.keys() - known.keys() if known else ():
            found.findings.leave_out(f"{file}: the sheet {title!r}, which names no films and points")
        for title, lines in (known or every).items():
            with found.findings.gather():
                columns, rows = table_of(iter(lines), place := label(file, title), known=KNOWN)
                self._add(columns, rows, place, split_of(title) or split_of(file.stem), found)
        return None

    def add(self, text: str, file: Path, found: Found) -> None:
        """Add the films of a table; its name may state the split."""
        columns, rows = parse_rows(text, file, known=KNOWN)
        self._add(columns, rows, str(file), split_of(file.stem), found)

    def _add(self, columns: Sequence[str], rows: Sequence[Row], file: str, split: str, found: Found) -> None:
        if long := long_columns(columns):
            return self._add_long(rows, columns, long, file, split, found)
        film_column, points, named = layout_of(columns, file)
        found.named &= named
        found.numbered = not found.named
        found.landmarks += [symbol for symbol, _, _ in points]
        for row in rows:
            with found.findings.gather():
                film = _film(row, film_column, found, split)
                reader = row.get(READER) or ONE_READER
                if reader in film.marks:
                    row.fail(
                        f"{film.path.name} stands twice",
                        hint="a film has one line, or one for each `reader`, and one split",
                    )
                film.marks[reader] = _noted(row, points, film)
        return None

    def _add_long(
        self,
        rows: Sequence[Row],
        columns: Sequence[str],
        long: tuple[str, str, str, str],
        file: str,
        split: str,
        found: Found,
    ) -> None:
        """Add the points of a table with a line for each; `long` are its columns film, landmark, x and y."""
        predicted = SCORE in columns
        for column in columns:
            if column not in (*long, *KNOWN) and column.lower() not in INDEX and not predicted:
                found.findings.leave_out(f"{file}: the column {column!r}")
        film_column, landmark, x, y = long
        for row in rows:
            with found.findings.gather():
                film = _film(row, film_column, found, split)
                marks = film.marks.setdefault(row.get(READER) or (PREDICTED if predicted else ONE_READER), {})
                if not (symbol := row[landmark]):
                    row.fail("a point without a landmark's name")
                if symbol in marks:
                    row.fail(f"{symbol} of {film.path.name} stands twice")
                marks.update(_noted(row, [(symbol, x, y)], film))

    def write(self, data: DataSet, folder: Path, films: Mapping[str, str]) -> None:
        """Write points.csv."""
        rows = []
        for sample in data.samples:
            for row, reader in enumerate(data.readers):
                marks = marks_of(sample, row, data.landmarks)
                cells = {symbol: [number_text(value) for value in point] for symbol, point in marks.items()}
                cells |= {symbol: [ABSENT, ABSENT] for symbol in absent_of(sample, data.landmarks)}
                points = [cell for symbol in data.landmarks for cell in cells.get(symbol, ["", ""])]
                rows.append((Path(films[sample.id]).name, *facts_cells(sample), reader, *points))
        columns = [f"{symbol}_{axis}" for symbol in data.landmarks for axis in "xy"]
        write_rows(folder / "points.csv", ("film", *FACTS, READER, *columns), rows)


def _noted(row: Row, points: Columns, film: Film) -> Marks:
    """The points of a row; those that it says are not on the film are noted there."""
    for symbol in absent_in_row(row, points):
        film.lacks(symbol)
    return points_of(row, points)


def _film(row: Row, column: str, found: Found, split: str) -> Film:
    """The film that a row is of; each of its rows must say the same of it."""
    places, called = found.places, row[column]
    patient = next(filter(None, map(row.get, PATIENT)), "")
    path = places.named(called, patient)
    if path is None:
        row.fail(f"the film {called!r} is not in {places.root}", hint=nearest(called, list(places.stems())))
    facts = facts_of(row)
    # A column `absent` here is of points, as in what `ceph evaluate` writes.
    facts = replace(facts, group=facts.group or patient, absent=())
    film = found.film(path, str(row.place))
    if not film.marks:
        film.facts, film.part = facts, split
    elif replace(film.facts, absent=()) != facts:
        row.fail(f"{path.name} stands with another split, group, machine or spacing in {film.where}")
    return film


def _has_points(columns: Sequence[str]) -> bool:
    """Whether these columns are films and points, and not those of another format."""
    if CSV_2023.fits(columns) or CSV_2024.fits(columns) or not any(column.lower() in FILM for column in columns):
        return False
    rest = {column for column in columns if column.lower() not in (*FILM, *KNOWN)}
    halves = {(match[1].lower(), match[2].lower()) for column in rest if (match := HALF.fullmatch(column))}
    return any((point, "y") in halves for point, axis in halves if axis == "x") or {"1", "2"} <= rest


def long_columns(columns: Sequence[str]) -> tuple[str, str, str, str] | None:
    """The columns of film, landmark, x and y of a table with a line for each point; None where it is not one."""
    found = [[column for column in columns if column.lower() in names] for names in (FILM, LANDMARK, X, Y)]
    if any(len(there) != 1 for there in found):
        return None
    film, landmark, x, y = (there[0] for there in found)
    return film, landmark, x, y


def layout_of(columns: Sequence[str], file: str) -> tuple[str, Columns, bool]:
    """The column of the film, those of the points, and whether the points are named; DataError for any other column."""
    place = Place(file, 1, 1)
    film = [column for column in columns if column.lower() in FILM]
    if len(film) != 1:
        raise DataError(
            f"must have one column with the film's file, not {len(film)}", place=place, hint=f"as {FILM[0]}"
        )
    rest = [column for column in columns if column.lower() not in (*FILM, *KNOWN, *INDEX)]
    if rest and all(re.fullmatch(r"[1-9]\d{0,3}", column) for column in rest):
        if [int(column) for column in rest] != list(range(1, len(rest) + 1)) or len(rest) % 2:
            raise DataError("numbered columns must be 1, 2, 3, ... and an even count: x, y, x, y", place=place)
        pairs = zip(numbered(len(rest) // 2), rest[::2], rest[1::2], strict=True)
        return film[0], list(pairs), False
    halves: dict[tuple[str, str], str] = {}
    for column in rest:
        match = HALF.fullmatch(column)
        if match is None or not clean(match[1]):
            raise DataError(
                f"the column {column!r} is no half of a point",
                place=place,
                hint=f"points are S_x,S_y and so on; beside them stand {', '.join((FILM[0], *FACTS, READER))}",
            )
        half = (clean(match[1]), match[2].lower())
        if half in halves:
            raise DataError(f"{column!r} and {halves[half]!r} are the same", place=place)
        halves[half] = column
    points: Columns = []
    for symbol in dict.fromkeys(symbol for symbol, _ in halves):
        if len(pair := [halves[symbol, axis] for axis in "xy" if (symbol, axis) in halves]) != 2:
            raise DataError(f"the column {pair[0]!r} has no other half", place=place, hint="a point is two columns")
        points.append((symbol, pair[0], pair[1]))
    return film[0], points, True


def why_no_table(folder: Path) -> str:
    """What keeps the tables in `folder` from being read, a line each; empty where there is none."""
    lines = []
    for file in PlainCsv().listed(folder):
        try:
            tops = headings(file) if is_workbook(file) else {"": header(head(file))}
            for title, columns in tops.items():
                if len(columns) > 1 or file.suffix.lower() == PlainCsv.suffix:
                    layout_of(columns, label(file, title) if title else str(file))
        except (ConfigError, DataError) as error:
            lines += [str(problem).replace("\n  hint: ", ": ") for problem in error.problems]
        if len(lines) >= SHOWN:
            break
    others = [file.name for suffix in SHEETS for file in annotation_files(folder, suffix)][:SHOWN]
    lines += [f"{name} is a workbook of a kind that is not read: save its sheet as CSV" for name in others]
    return "".join(f"{line}\n    " for line in lines)
