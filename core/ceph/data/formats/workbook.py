"""Read the sheets of an Excel workbook (extra `xlsx`) as tables: of a bounded size, and no cell of it guessed."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, time
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ceph.data.files import regular
from ceph.errors import ConfigError, DataError, Place, is_out_of_memory

if TYPE_CHECKING:
    from openpyxl import Workbook

SUFFIX = ".xlsx"
INSTALL = "pip install 'ceph-trainer[xlsx]'"
MAX_XML_BYTES = 64 * 2**20  # of all parts of a workbook without its pictures, unpacked
MAX_PARTS = 2000
MAX_CELLS = 4_000_000  # of a sheet, with the empty ones before the last of each row
ROW = 4  # cells that a row counts for, even an empty one
ENTITIES = (b"<!DOCTYPE", b"<!ENTITY")  # no workbook has any; they can make a short file endless

Line = tuple[int, list[str]]  # the number of a row, and its cells


def is_workbook(file: Path) -> bool:
    """Whether a file's name says that it is a workbook which can be read."""
    return file.suffix.lower() == SUFFIX


def sheets(file: Path) -> dict[str, list[Line]]:
    """The rows of each sheet of a workbook by its title, as text, without those that are empty.

    Numbers are as exact as the workbook has them. Raises DataError for what is no workbook, too large, or holds a
    formula whose value was never saved; ConfigError without the extra.
    """
    with _opened(file, values=True) as values, _opened(file, values=False) as formulas:
        return {sheet.title: list(_lines(_rows(sheet, file, formulas[sheet.title]))) for sheet in values.worksheets}


def headings(file: Path) -> dict[str, list[str]]:
    """The first row of each sheet that is not empty, by the sheet's title; errors as those of `sheets`."""
    with _opened(file, values=True) as book:
        tops = {sheet.title: next(_lines(_rows(sheet, file)), (1, [])) for sheet in book.worksheets}
    return {title: cells for title, (_, cells) in tops.items()}


@contextmanager
def _opened(file: Path, *, values: bool) -> Iterator[Workbook]:
    """The workbook in `file`, with the values of its formulas or with these themselves; any fault is a DataError."""
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise ConfigError(
            f"{file}: reading a workbook needs the extra `xlsx`", hint=f"{INSTALL}, or save its sheet as CSV"
        ) from error
    try:
        _refuse(file)
        with warnings.catch_warnings(action="ignore"):  # of what it leaves out: colours, pictures, menus
            book = load_workbook(file, read_only=True, data_only=values, keep_links=False)
            try:
                yield book
            finally:
                book.close()
    except (DataError, ConfigError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise DataError(
            f"{file}: is no workbook that can be read ({error})",
            hint="take its password off and save it again, or save its sheet as CSV",
        ) from error


def _refuse(file: Path) -> None:
    """Raise DataError for what would unpack to more than any table of points, or refers to more than it holds."""
    regular(file)
    with zipfile.ZipFile(file) as parts:
        xml = [part for part in parts.infolist() if not part.filename.startswith("xl/media/")]
        size = sum(part.file_size for part in xml)
        if size > MAX_XML_BYTES or len(xml) > MAX_PARTS:
            raise DataError(
                f"{file}: unpacks to {size / 2**20:.0f} MB in {len(xml)} parts, which is too large for points "
                f"(limits {MAX_XML_BYTES // 2**20} MB, {MAX_PARTS})",
                hint="save the sheet with the points as CSV",
            )
        for part in xml:
            content = parts.read(part).replace(b"\0", b"")  # of UTF-16, too
            if any(mark in content for mark in ENTITIES):
                raise DataError(f"{file}: {part.filename} defines entities, as no workbook does", hint="save it anew")


def _rows(sheet: Any, file: Path, formulas: Any = None) -> Iterator[tuple[int, Sequence[Any]]]:
    """The rows of a sheet with their numbers, up to MAX_CELLS; `formulas` is the same sheet as it was typed."""
    sheet.reset_dimensions()  # a workbook may say that it is as large as a sheet can be
    typed: Iterator[Sequence[Any]] = repeat(())
    if formulas is not None:
        formulas.reset_dimensions()
        typed = formulas.iter_rows(values_only=True)
    count = 0
    for number, (row, asked) in enumerate(zip(sheet.iter_rows(values_only=True), typed, strict=False), 1):
        count += ROW + len(row)
        if count > MAX_CELLS:
            raise DataError(
                f"{label(file, sheet.title)}: has more than {MAX_CELLS} cells", hint="save the points alone, as CSV"
            )
        for column, (value, formula) in enumerate(zip(row, asked, strict=False), 1):
            if value is None and formula is not None:
                raise DataError(
                    "is a formula whose value is not saved",
                    place=Place(label(file, sheet.title), number, column),
                    hint="open the workbook in a spreadsheet program and save it, or save its sheet as CSV",
                )
        yield number, row


def _lines(rows: Iterable[tuple[int, Sequence[Any]]]) -> Iterator[Line]:
    """The rows that are not empty, as text, and as wide as the first of them or wider."""
    width = 0
    for number, row in rows:
        cells = [_text(value) for value in row]
        while len(cells) > width and not cells[-1]:
            cells.pop()
        if any(cells):
            width = width or len(cells)
            yield number, [*cells, *[""] * (width - len(cells))]


def label(file: Path, title: str) -> str:
    """How a sheet is called in errors."""
    return f"{file} (sheet {title})"


def _text(value: Any) -> str:
    """A cell as a table of text has it; what a program made a date of stays one, and is no number."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date | time) else str(value)
