"""How often the truth lay within its radius, as a person reads it: sentences, and a table of landmarks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ceph.report.text import digits
from ceph.runfolder import mapping, number


def radius_sentences(figures: Mapping[str, Any]) -> Iterable[str]:
    """What a split's `radius` says of all points; nothing where no radii are known."""
    found = mapping(figures, "radius")
    covered, level = number(found, "covered_percent"), number(found, "level")
    if math.isnan(covered) or math.isnan(level):
        return
    yield (
        f"The truth lies within the {100 * level:g} % radius of {digits(covered, 1)} % of the points; "
        f"the mean radius is {digits(number(found, 'mean_radius_mm'))} mm"
    )
    share = number(found, "large", "in_largest_tenth_percent")
    if math.isfinite(share):
        count = number(found, "large", "n")
        yield f"Of the {count:.0f} errors above 4 mm the tenth of points with the largest radii holds {share:.0f} %"


def radius_rows(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The header and a row a landmark, the widest radius first; of several machines then a row each."""
    found = mapping(figures, "radius")
    rows = []
    for kind in ("per_landmark", "per_machine"):
        known = [(str(name), mapping(row)) for name, row in mapping(found, kind).items() if number(row, "n") > 0]
        known.sort(key=lambda item: -number(item[1], "mean_radius_mm"))
        for name, row in known:
            percent, mean = number(row, "covered_percent"), number(row, "mean_radius_mm")
            rows.append([name, digits(percent, 1), digits(mean), f"{number(row, 'n'):.0f}"])
    return ["radius of", "covered %", "mean mm", "n"], rows


def radius_table(figures: Mapping[str, Any]) -> Table:
    """`radius_rows` for a terminal."""
    header, rows = radius_rows(figures)
    table = Table()
    for place, name in enumerate(header):
        table.add_column(Text(name), justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
