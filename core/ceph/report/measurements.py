"""How good measurements are, as a person reads it: a table, and a sentence on the ISBI challenge's eight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ceph.report.text import digits
from ceph.runfolder import mapping, number

# On a terminal, beside those with classes.
SHORT = ("SNA", "SNB", "ANB", "Wits", "SN-GoMe", "FMA", "IMPA", "U1-SN", "U1-L1")
HEADER = ["measurement", "error", "readers apart", "same class", "readers' same", "bias", "films"]
TITLE = "what is measured on the points: mean absolute error"


def measurement_rows(figures: Mapping[str, Any], *, short: bool = False) -> tuple[list[str], list[list[str]]]:
    """The header and a row a measurement; with `short` the best known, and those with classes, only."""
    rows = []
    for name, row in mapping(figures, "measurements", "each").items():
        classes = mapping(row, "classes") or mapping(row, "challenge")
        if not short or name in SHORT or classes:
            unit = mapping(row).get("unit", "")
            errors = (f"{digits(number(row, 'mean_abs_error'))} {unit}", digits(number(row, "readers_apart")))
            same = (number(classes, who) for who in ("same_percent", "readers_percent"))
            more = [] if short else [f"{number(row, 'bias'):+.2f}", f"{number(row, 'n'):g}"]
            rows.append([name, *errors, *map(_percent, same), *more])
    return HEADER[:5] if short else HEADER, rows


def measurement_table(figures: Mapping[str, Any]) -> Table | None:
    """The short rows for a terminal; None where there are none."""
    header, rows = measurement_rows(figures, short=True)
    if not rows:
        return None
    table = Table(title=TITLE, title_justify="left", title_style="bold")
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def measurement_sentences(figures: Mapping[str, Any]) -> Iterable[str]:
    """What the eight measurements of the ISBI challenge come to; nothing where there are not all."""
    same, readers = (number(figures, "measurements", "challenge", who) for who in ("same_percent", "readers_percent"))
    if math.isfinite(same):
        text = f"Films in the class that the readers' points give, by the ISBI 2015 challenge's eight: {same:.1f} %"
        yield text + (f" (one reader in the other's: {readers:.1f} %)" if math.isfinite(readers) else "")


def _percent(value: float) -> str:
    return f"{value:.1f} %" if math.isfinite(value) else ""
