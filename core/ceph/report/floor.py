"""How much of an error is the readers', as a person reads it: sentences, and a table of landmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ceph.report.text import digits

WHO = ("model", "first", "second")
TOGETHER = "Own errors are RMS in mm, each one's mean offsets taken out, with 95 % intervals over films"


def floor_sentences(figures: Mapping[str, Any]) -> Iterable[str]:
    """What a split's `floor` says of all landmarks together; nothing where no two readers marked the films."""
    floor = figures.get("floor")
    if not floor:
        return
    one, other = floor["readers"]
    text = f"{one} and {other} are {digits(floor['apart_mm'])} mm apart"
    text += f", {digits(floor['apart_without_habits_mm'])} mm without the mean offset of each landmark"
    if floor["floor_mre_mm"] is not None:
        text += (
            f": who made no error and knew these offsets would be {digits(floor['floor_mre_mm'])} mm from their mean"
        )
    yield text
    part, whole = floor["floor_rms_mm"], floor["scatter_rms_mm"]
    if part is not None and whole:
        share = min(100.0, 100 * part**2 / whole**2)
        yield (
            f"Of the scatter about the truth, RMS {digits(whole)} mm with the bias out, the readers make "
            f"{digits(part)} mm, {share:.0f} % of its square"
        )
    names = dict(zip(WHO, ("the model", one, other), strict=True))
    owns = ", ".join(f"{names[who]} {_own(floor['all'][who], ' (', ')')}" for who in WHO)
    yield f"Own errors over all landmarks: {owns}. {TOGETHER}; they assume that {floor['assumed']}"
    within, beyond = floor["undisputed"], floor["disputed"]
    if beyond["n"]:
        yield (
            f"MRE without the {beyond['n']} points on which the readers are more than {floor['disputed_mm']:g} mm "
            f"apart: {digits(within['mre_mm'], 3)} mm; of these alone: {digits(beyond['mre_mm'], 3)} mm"
        )
    if any(row[who]["clipped"] for row in floor["per_landmark"].values() for who in WHO):
        yield "* below zero by the three distances, taken as 0: chance, or errors that are not independent"


def floor_rows(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The header and a row a landmark, most scatter first: bias, scatter, own errors where there are two readers."""
    floor = figures.get("floor")
    header = ["landmark", "bias x, y", "scatter", *(["own error", *floor["readers"]] if floor else [])]
    rows = []
    for symbol, row in _by_scatter(figures):
        own = floor["per_landmark"][symbol] if floor else {}
        cells = [_own(own[who], " (", ")") for who in WHO if own]
        rows.append([symbol, _signed(row["bias_mm"], ", "), digits(row["scatter_mm"]), *cells])
    return header, rows


def agreement_rows(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The header and a row a landmark, in the same order: limits of agreement and ICC along x and y, readers' too."""
    floor = figures.get("floor")
    header = ["landmark", "limits x", "limits y", "ICC x, y"]
    header += ["readers: limits x", "limits y", "ICC x, y", "n"] if floor else ["n"]
    rows = []
    for symbol, row in _by_scatter(figures):
        cells = [symbol, *_limits(row)]
        cells += _limits(floor["per_landmark"][symbol]["readers"]) if floor else []
        rows.append([*cells, str(row["n"])])
    return header, rows


def floor_table(figures: Mapping[str, Any]) -> Table:
    """`floor_rows` for a terminal, without the intervals of the readers."""
    header, rows = floor_rows(figures)
    title = "mm; bias: mean of found less true; scatter: RMS about it"
    table = Table(title=title, title_justify="left", title_style="bold")
    for place, name in enumerate(header):
        width = 16 if place > 3 else None  # readers have any name
        table.add_column(Text(name), justify="right" if place else "left", no_wrap=True, max_width=width)
    for row in rows:
        table.add_row(*map(Text, (*row[:4], *(cell.partition(" ")[0] for cell in row[4:]))))
    return table


def _by_scatter(figures: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    rows = [(symbol, row) for symbol, row in figures["agreement"].items() if row["scatter_mm"] is not None]
    return sorted(rows, key=lambda item: -item[1]["scatter_mm"])


def _own(found: Mapping[str, Any], before: str, after: str) -> str:
    low, high = found["interval_95"]
    if found["rms_mm"] is None or low is None:
        return digits(found["rms_mm"])
    return f"{digits(found['rms_mm'])}{'*' if found['clipped'] else ''}{before}{digits(low)}-{digits(high)}{after}"


def _limits(row: Mapping[str, Any]) -> list[str]:
    limits = (_signed(row["limits_95_mm"][axis], " to ") for axis in "xy")
    return [*limits, ", ".join(digits(row["icc"][axis], 3) for axis in "xy")]


def _signed(values: Sequence[float | None], between: str) -> str:
    return between.join("\u2013" if value is None else f"{value:+.1f}" for value in values)
