"""Names that strangers chose, made safe to print on a terminal and to keep in a table that a spreadsheet opens."""

from __future__ import annotations

import logging
import re
from typing import Any


class ShownFormatter(logging.Formatter):
    """Formats a record of the log so that no name in it reaches a terminal as a command."""

    def format(self, record: logging.LogRecord) -> str:
        """As the base does, with the names in it `shown`."""
        return shown(super().format(record), keep="\n\t")


# Control characters, which a terminal obeys; line breaks; what turns the direction of writing; half characters, which
# stand for the bytes of a file's name that is not UTF-8.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What begins a formula in a spreadsheet, behind the quotes that `guarded` has put before it.
_FORMULA = re.compile(r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")


def shown(name: str, keep: str = "") -> str:
    """`name` with what no terminal or text file should get as the `%1B` of addresses; characters of `keep` stay."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else _percent(found[0]), name)


def _percent(character: str) -> str:
    how = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", how))


def guarded(cell: Any) -> Any:
    """`cell` with a quote before it where a spreadsheet would take it for a formula; `bare` takes it off again."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) and not _is_number(cell) else cell


def bare(cell: str) -> str:
    """A cell as it was before `guarded`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
