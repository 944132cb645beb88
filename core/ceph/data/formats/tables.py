"""Read tables (CSV) strictly, every fault named by its line, and write them."""

from __future__ import annotations

import csv
import io
import math
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ceph.data.formats.base import SPACING_RANGE_MM, plausible_spacing
from ceph.errors import DataError, Place


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells by column, without the space around them."""

    cells: dict[str, str]
    place: Place

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
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.fail(f"{column} must be a number, not {reprlib.repr(text)}")
        return value

    def spacing(self, column: str) -> float | None:
        """The mm per pixel in `column`; None where the cell is empty or the table has no such column."""
        text = self.get(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not plausible_spacing(value):
            low, high = SPACING_RANGE_MM
            self.fail(
                f"{column} {reprlib.repr(text)} is no spacing of a film",
                hint=f"mm per pixel, between {low} and {high}; leave it empty where it is unknown",
            )
        return value


def header(text: str) -> tuple[str, ...]:
    """The columns that the first line names; empty where it is no line of a table."""
    try:
        return tuple(name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), strict=True), []))
    except csv.Error:
        return ()


def parse_rows(text: str, file: Path, needed: Sequence[str] = ()) -> tuple[tuple[str, ...], list[Row]]:
    """The columns and rows of a table whose first line names the columns; empty lines are passed over.

    Raises DataError naming the line: a column of `needed` that is missing, one that stands twice, a row that is too
    long or too short.
    """
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[Row] = []
    try:
        columns = tuple(name.strip() for name in next(rows, []))
        first = Place(str(file), 1, 1)
        for column in needed:
            if columns.count(column) != 1:
                raise DataError(f"must have one column {column!r}", place=first)
        if twice := next((column for column in columns if columns.count(column) > 1), None):
            raise DataError(f"the column {reprlib.repr(twice)} stands twice", place=first)
        for row in rows:
            if not any(row):
                continue
            place = Place(str(file), rows.line_num, 1)
            if len(row) != len(columns):
                raise DataError(f"has {len(row)} columns, the first line {len(columns)}", place=place)
            found.append(Row(dict(zip(columns, map(str.strip, row), strict=True)), place))
    except csv.Error as error:
        raise DataError(f"is no table: {error}", place=Place(str(file), max(rows.line_num, 1), 1)) from error
    return columns, found


def number_text(value: float) -> str:
    """A number as tables hold it: whole ones without a point, others in full; empty for NaN."""
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() else repr(float(value))


def write_rows(file: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table as `parse_rows` reads it."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
