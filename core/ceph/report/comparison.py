"""What a comparison shows: a table, sentences that say no more than the table holds, and a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from ceph.data.names import shown
from ceph.errors import ConfigError
from ceph.evaluation.comparison import Comparison, Difference
from ceph.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")


def heading(comparison: Comparison) -> str:
    """Which two configs, and on what they were compared."""
    (mine, its), films = comparison.seeds, f"{comparison.films} film{'s' if comparison.films > 1 else ''}"
    units = "" if comparison.units == comparison.films else f" ({comparison.units} independent units)"
    seeds = f"seed{'s' if len(mine) > 1 else ''} {' '.join(map(str, mine))}"
    if None in (*mine, *its):
        names = {comparison.baseline: mine, comparison.other: its}
        told = [f"seed {' '.join(map(str, own))} of {name}" for name, own in names.items() if own != (None,)]
        seeds = "; ".join([*told, *(f"{name} is a table of points" for name, own in names.items() if own == (None,))])
    elif set(mine) != set(its):
        seeds += f" of {comparison.baseline}, {' '.join(map(str, its))} of {comparison.other}"
    return f"{comparison.other} against {comparison.baseline}\n{comparison.split}: {films}{units}; {seeds}"


def comparison_table(comparison: Comparison) -> Table:
    """MRE, SDR and each landmark of both configs; fits 80 columns."""
    shown = f"* a difference is shown{_scope(comparison)}"
    table = Table(title=Text(f"MRE in mm, SDR in %; {shown}"), title_justify="left", box=SIMPLE)
    table.add_column("", no_wrap=True)
    for name in (comparison.baseline, comparison.other):
        table.add_column(Text(name), justify="right", overflow="fold", max_width=9)
    for name in ("change", "95 % interval", "%", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(*_cells(comparison.mre, 3, change=True), style="bold")
    for difference in comparison.sdr:
        table.add_row(*_cells(difference, 1, change=False))
    table.add_section()
    for difference in comparison.landmarks:
        table.add_row(*_cells(difference, 2, change=True))
    return table


def _scope(comparison: Comparison) -> str:
    return " on these films, one seed" if comparison.one_seed else ""


def _cells(row: Difference, digits: int, *, change: bool) -> list[str | Text]:
    found = row.estimate
    return [
        Text(shown(row.name)),
        f"{row.baseline:.{digits}f}",
        f"{row.other:.{digits}f}",
        f"{found.value:+.{digits}f}",
        f"{found.low:+.{digits}f} to {found.high:+.{digits}f}",
        f"{100 * found.value / row.baseline:+.1f}" if change and row.baseline > 0 else "",
        f"{_p(row.p)} {'*' if row.shown else ' '}",
    ]


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def verdict(comparison: Comparison) -> str:
    """What is shown and what is not, a sentence a line; then the notes. With one seed each says that it is one."""
    who, scope = comparison.other, _scope(comparison)
    lines = [_about_mre(comparison.mre, who, scope)]
    lines += [
        _about(what, rows, f"{who} is", scope, more_is_better=more)
        for what, rows, more in (("SDR", comparison.sdr, True), ("Landmarks", comparison.landmarks, False))
    ]
    return "\n".join([*lines, *(f"Note: {note}." for note in comparison.notes)])


def _about_mre(mre: Difference, who: str, scope: str) -> str:
    found = mre.estimate
    if not mre.shown:
        includes = found.low <= 0 <= found.high
        reason = "the interval includes zero" if includes else f"the sign-flip test gives p = {_p(mre.p)}"
        return f"MRE: no difference shown: {reason}."
    low, high = sorted((abs(found.low), abs(found.high)))
    share = f" ({100 * abs(found.value) / mre.baseline:.1f} %)" if mre.baseline > 0 else ""
    word = "lower" if found.value < 0 else "higher"
    return f"MRE: {who} is {abs(found.value):.3f} mm{share} {word}{scope}, between {low:.3f} and {high:.3f} mm."


def _about(what: str, rows: Sequence[Difference], who: str, scope: str, *, more_is_better: bool) -> str:
    shown = [row for row in rows if row.shown]
    if not shown:
        return f"{what}: no difference shown: none of {len(rows)} survives Holm's correction."
    better = [row.name for row in shown if (row.estimate.value > 0) == more_is_better]
    worse = [row.name for row in shown if row.name not in better]
    parts = [f"{word}{scope}: {', '.join(names)}" for word, names in (("better", better), ("worse", worse)) if names]
    rest = len(rows) - len(shown)
    if rest:
        parts.append(f"no difference shown for {'the other ' if rest > 1 else 'one other'}{rest if rest > 1 else ''}")
    return f"{what}: {who} {'; '.join(parts)}."


def require_picture(path: Path) -> None:
    """Raise ConfigError unless the suffix is one that `forest_plot` can write."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path} must end in {' or '.join(SUFFIXES)}", key="--plot")


def forest_plot(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw each comparison as a column: MRE overall and by landmark, and SDR below; PNG or SVG by the suffix.

    A filled mark is a difference that is shown, an open one is not; lines are 95 % intervals. Raises ConfigError where
    the suffix is another or the file cannot be written.
    """
    require_picture(path)
    from matplotlib.figure import Figure

    rows = max(len(c.landmarks) for c in comparisons) + 1
    figure = Figure(figsize=(1 + 5 * len(comparisons), 2.6 + 0.2 * (rows + 4)), layout="constrained")
    axes = figure.subplots(2, len(comparisons), squeeze=False, height_ratios=[rows + 1, 5])
    for column, comparison in enumerate(comparisons):
        landmarks, rates = axes[0][column], axes[1][column]
        landmarks.set_title(_plain(heading(comparison)), fontsize=9, loc="left")
        _draw(landmarks, [comparison.mre, *comparison.landmarks], first="D")
        landmarks.axhline(0.5, color="0.7", linewidth=0.8)
        landmarks.set_xlabel(_plain(f"difference in MRE, mm (left of zero: {comparison.other} is better)"))
        _draw(rates, comparison.sdr)
        rates.set_xlabel(_plain(f"difference in SDR, points (right of zero: {comparison.other} is better)"))
    legend = "filled: a difference is shown; open: none is; lines: 95 % intervals"
    if any(c.one_seed for c in comparisons):
        legend += "\none seed: the interval does not cover what another seed would do"
    figure.supxlabel(legend, fontsize=8)
    try:
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {(error.strerror or str(error)).lower()}", key="--plot") from None


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar sign would begin a formula


def _draw(axes: Axes, rows: Sequence[Difference], first: str = "o") -> None:
    for y, row in enumerate(rows):
        found = row.estimate
        marker: dict[str, Any] = {"marker": first if y == 0 else "o", "markersize": 7 if y == 0 and first != "o" else 5}
        if np.isfinite([found.low, found.high]).all():
            axes.plot([found.low, found.high], [y, y], color="black", linewidth=1.2)
        axes.plot(
            found.value, y, color="black", markerfacecolor="black" if row.shown else "white", linestyle="", **marker
        )
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [_plain(row.name) for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
