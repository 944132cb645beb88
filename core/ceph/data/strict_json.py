"""Read JSON strictly: no NaN, no infinity, no doubled key, bounded depth and size, and errors that name the field."""

from __future__ import annotations

import json
import math
import re
import reprlib
from pathlib import Path
from typing import Any, NoReturn

from ceph.data.files import read_text
from ceph.errors import DataError, Place

MAX_DEPTH = 64
MAX_DIGITS = 40
# Strings are skipped whole (an unterminated one up to the end), so that brackets inside them do not count.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


class _RefusedError(ValueError):
    """Raised inside the parser's callbacks, which do not know the file."""


def depth(text: str) -> int:
    """How deep brackets nest in JSON text, valid or not."""
    deepest = level = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            level += 1
            deepest = max(deepest, level)
        elif match[0] in "]}":
            level -= 1
    return deepest


def parse_json(text: str, file: Path) -> Any:
    """The value of JSON `text`; `file` is named in the DataError where it is malformed or beyond the bounds."""
    # Few brackets cannot nest deeply: small annotations skip the scan.
    if text.count("[") + text.count("{") > MAX_DEPTH and depth(text) > MAX_DEPTH:
        raise DataError(f"{file}: nests deeper than {MAX_DEPTH} levels")
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1 : error.lineno] or [""]
        place = Place(str(file), error.lineno, error.colno, line[0] if len(line[0]) <= 120 else "")
        raise DataError(f"is not valid JSON: {error.msg}", place=place) from error
    except _RefusedError as error:
        raise DataError(f"{file}: {error}") from error


def read_json(file: Path) -> Field:
    """The value of a JSON file, as a Field that names the file in errors."""
    return Field(parse_json(read_text(file), file), file)


class Field:
    """A value of a JSON file that knows where it stands, and raises DataError naming file and field."""

    __slots__ = ("file", "name", "value")

    def __init__(self, value: Any, file: Path, name: str = "") -> None:
        self.value = value
        self.file = file
        self.name = name

    def fail(self, what: str, *, hint: str = "") -> NoReturn:
        """Raise a DataError about this field."""
        raise DataError(f"{self.file}: {self.name or 'the file'}: {what}", hint=hint)

    def __getitem__(self, key: str) -> Field:
        found = self.get(key)
        if found is None:
            self.fail(f"{key!r} is missing")
        return found

    def get(self, key: str) -> Field | None:
        """The field under `key` of this object, or None where it has none."""
        if not isinstance(self.value, dict):
            self.fail(f"must be an object with {key!r}, not {_kind(self.value)}")
        if key not in self.value:
            return None
        return Field(self.value[key], self.file, f"{self.name}.{key}" if self.name else key)

    def items(self) -> list[Field]:
        """The fields of the list that this field holds."""
        if not isinstance(self.value, list):
            self.fail(f"must be a list, not {_kind(self.value)}")
        return [Field(value, self.file, f"{self.name}[{index}]") for index, value in enumerate(self.value)]

    def text(self) -> str:
        """The string that this field holds."""
        if not isinstance(self.value, str):
            self.fail(f"must be a text, not {_kind(self.value)}")
        return self.value

    def number(self) -> float:
        """The number that this field holds, finite."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self.fail(f"must be a number, not {_kind(self.value)}")
        return float(self.value)


def _kind(value: Any) -> str:
    """What a JSON value is, short enough for a message."""
    names = {dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value)) or reprlib.repr(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of the pairs of an object; a key given twice is refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RefusedError(f"the key {reprlib.repr(key)} stands twice in one object")
            seen.add(key)
    return found


def _no_constant(text: str) -> NoReturn:
    raise _RefusedError(f"{text} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedError(f"the number {reprlib.repr(text)} is too large")
    return value


def _integer(text: str) -> int:
    # Python turns millions of digits into an int in quadratic time, or refuses.
    if len(text) > MAX_DIGITS:
        raise _RefusedError(f"the number {reprlib.repr(text)} is too large")
    return int(text)
