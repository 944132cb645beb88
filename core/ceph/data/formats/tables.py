"""Read tables (CSV) strictly, every fault named by its line, and write them."""

from __future__ import annotations

import csv
import io
import math
import re
import reprlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

from ceph.data.names import bare, guarded
from ceph.data.spacing import plausible_spacing
from ceph.errors import DataError, Place

DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells by column, without the space around them, and what its numbers have for a point."""

    cells: dict[str, str]
    place: Place
    mark: str = "."

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def get(self, column: str) -> str:
        """The cell in `column`, empty where the table has no such column."""
        return self.cells.get(column, "")

    def fail(self, what: str, *, hint: str = "") -> NoReturn:
        """Raise a DataError about this row."""
        raise DataError(what, place=self.place, hint=hint)

    def number(self, column: str) -> float:
        """The finite number in `column`; NaN where the cell is empty."""
        text = self[column]
        if not text:
            return math.nan
        value = self._value(text)
        if not math.isfinite(value):
            self.fail(f"{column} must be a number, not {reprlib.repr(text)}")
        return value

    def _value(self, text: str) -> float:
        """The number that `text` is; NaN where it is none, or has a point where this table has commas."""
        try:
            return math.nan if self.mark != "." and "." in text else float(text.replace(self.mark, "."))
        except ValueError:
            return math.nan

    def spacing(self, column: str) -> float | None:
        """The mm per pixel in `column`; None where the cell is empty or the table has no such column."""
        text = self.get(column)
        if not text:
            return None
        return plausible_spacing(self._value(text), f"{column} {reprlib.repr(text)}", self.fail)


def _delimiter(text: str) -> tuple[str, int]:
    """What stands between the cells of a table, and how many lines stand before the one that names the columns.

    It is what a first line `sep=;` says, as Excel writes it, else what parts the first line into most columns.
    """
    first = text.partition("\n")[0].strip()
    if first.lower().startswith("sep=") and len(first) == len("sep=;"):
        return first[-1], 1
    if text.startswith("sep=\t"):
        return "\t", 1
    return max(DELIMITERS, key=first.count), 0


def header(text: str) -> tuple[str, ...]:
    """The columns that a table names; empty where the text is none."""
    delimiter, before = _delimiter(text)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        return tuple(bare(name.strip()) for name in next(islice(rows, before, None), []))
    except csv.Error:
        return ()


def decimal_mark(cells: Iterable[str], delimiter: str) -> str:
    """What a table's numbers have for a decimal point: a comma where they have one and none has a point.

    Empty where that cannot be told: `1,234` beside `987` may be a thousand.
    """
    if delimiter == ",":
        return "."
    numbers = [cell for cell in cells if re.fullmatch(r"[+-]?\d+([.,]\d+)*", cell)]
    commas = [cell for cell in numbers if "," in cell]
    if not commas or any("." in cell for cell in numbers):
        return "."
    thousands = all(re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", cell) for cell in commas)
    return "" if thousands and len(commas) < len(numbers) else ","


def parse_rows(
    text: str, file: Path, needed: Sequence[str] = (), known: Collection[str] = ()
) -> tuple[tuple[str, ...], list[Row]]:
    """The columns and rows of a table whose first line names the columns; empty lines are passed over.

    Cells are parted by commas, semicolons or tabs. Columns of `known` are called so whatever their case. Raises
    DataError naming the line: a column of `needed` that is missing, one that stands twice, a row that is too long or
    too short.
    """
    delimiter, before = _delimiter(text)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        lines = ((rows.line_num, row) for row in islice(rows, before, None))
        return table_of(lines, str(file), delimiter, needed, known)
    except csv.Error as error:
        raise DataError(f"is no table: {error}", place=Place(str(file), max(rows.line_num, 1), 1)) from error


def table_of(
    lines: Iterator[tuple[int, list[str]]],
    file: str,
    delimiter: str = "",
    needed: Sequence[str] = (),
    known: Collection[str] = (),
) -> tuple[tuple[str, ...], list[Row]]:
    """As `parse_rows`, of cells that are parted already: each line's number and cells, the names of columns first."""
    found: list[Row] = []
    number, head = next(lines, (1, []))
    names = (bare(name.strip()) for name in head)
    columns = tuple(name.lower() if name.lower() in known else name for name in names)
    first = Place(file, number, 1)
    for column in needed:
        if columns.count(column) != 1:
            raise DataError(f"must have one column {column!r}", place=first)
    if twice := next((column for column in columns if columns.count(column) > 1), None):
        raise DataError(f"the column {reprlib.repr(twice)} stands twice", place=first)
    for number, row in lines:
        if not any(row):
            continue
        place = Place(file, number, 1)
        if len(row) != len(columns):
            raise DataError(f"has {len(row)} columns, the first line {len(columns)}", place=place)
        found.append(Row({name: bare(cell.strip()) for name, cell in zip(columns, row, strict=True)}, place))
    mark = decimal_mark((cell for row in found for cell in row.cells.values()), delimiter)
    if not mark:
        raise DataError(
            f"{file}: its numbers with a comma may be thousands or decimals", hint="write them with a decimal point"
        )
    return columns, [replace(row, mark=mark) for row in found] if mark != "." else found


def number_text(value: float) -> str:
    """A number as tables hold it: whole ones without a point, others in full; empty for NaN."""
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() else repr(float(value))


def write_rows(file: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table as `parse_rows` reads it, of which a spreadsheet runs no cell."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows(map(guarded, row) for row in (columns, *rows))
