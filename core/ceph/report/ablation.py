"""What an ablation shows: tables of cells and effects, for a terminal and as Markdown, and the verdicts in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

LEVEL = 0.05
READING = """## How to read this

An effect is a difference of cells, on the same films and with the same seeds; below zero means smaller errors. Its
95 % interval covers the choice of the films and, from two seeds on, the luck of the seeds (one seed: the verdict says
so); p is adjusted for the rows
of its table (Holm). An effect is called better or worse only where the interval leaves out zero and p is at most 0.05;
"no effect shown" does not prove that there is none. The hardest landmarks are those with the largest validation errors
of the cell without plugins (or with the fewest, where that was not trained), unless they were named. Minutes, films
drawn and megapixels (Mpx) that the network was trained on are those of one run."""


@dataclass(frozen=True)
class CellRow:
    """A cell: means over its runs; `minutes`, `films` drawn and `megapixels` trained of one run, None if unknown."""

    cell: str
    runs: int
    mre_mm: float
    sdr2_percent: float
    hardest_mm: float
    minutes: float | None = None
    films: float | None = None
    megapixels: float | None = None


@dataclass(frozen=True)
class EffectRow:
    """What `label` changes: the difference, its 95 % interval, percent of where it starts, and p adjusted by Holm."""

    label: str
    value: float
    low: float
    high: float
    p: float
    percent: float | None = None

    @property
    def shown(self) -> bool:
        """Whether the data show an effect at all."""
        return self.p <= LEVEL and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class EffectTable:
    """The effects of one family on one measure; `unit` is mm, where less is better, or points, where more is.

    `scope` is what follows a verdict that does not hold for other seeds.
    """

    family: str
    measure: str
    unit: str
    rows: tuple[EffectRow, ...]
    scope: str = ""

    def verdict(self, row: EffectRow) -> str:
        """`better`, `worse` (and the scope) or `no effect shown`."""
        if not row.shown:
            return "no effect shown"
        return ("better" if (row.value < 0) == (self.unit == "mm") else "worse") + self.scope


@dataclass(frozen=True)
class SplitReport:
    """All that an ablation shows on one split of `films` films (of `units` people) with `seeds`; `notes` go along."""

    split: str
    films: int
    units: int
    seeds: tuple[int, ...]
    hardest: tuple[str, ...]
    cells: tuple[CellRow, ...]
    effects: tuple[EffectTable, ...]
    notes: tuple[str, ...] = ()

    def caption(self) -> str:
        """What the figures are of."""
        who = f"{self.films} films" if self.units == self.films else f"{self.films} films of {self.units} patients"
        luck = f"{len(self.seeds)} seeds ({', '.join(map(str, self.seeds))})"
        if len(self.seeds) == 1:
            luck = f"one seed ({self.seeds[0]}): the intervals do not cover the luck of a seed"
        return "; ".join([f"{self.split}: {who}, {luck}", f"hardest: {', '.join(self.hardest)}", *self.notes])


@dataclass(frozen=True)
class Grid:
    """A table as texts."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grids(report: SplitReport) -> Iterator[Grid]:
    """The table of the cells, then those of the effects."""
    yield cell_grid(report)
    yield from map(effect_grid, report.effects)


def cell_grid(report: SplitReport) -> Grid:
    """What each cell reached and what it cost."""
    few = len(report.hardest)
    header = ("cell", "runs", "MRE mm", "SDR2 %", f"hardest {few}", "min", "films", "Mpx")
    rows = tuple(
        (
            _spaced(row.cell),
            str(row.runs),
            f"{row.mre_mm:.3f}",
            f"{row.sdr2_percent:.1f}",
            f"{row.hardest_mm:.3f}",
            _or_dash(row.minutes, ".1f"),
            _or_dash(row.films, ".0f"),
            _or_dash(row.megapixels, ".4g"),
        )
        for row in report.cells
    )
    return Grid("cells", header, rows)


def effect_grid(table: EffectTable) -> Grid:
    """One row an effect."""
    digits = 3 if table.unit == "mm" else 1
    percent = any(row.percent is not None for row in table.rows)
    header = ("of", table.unit, *(("%",) if percent else ()), "95 % interval", "p (Holm)", "verdict")
    rows = tuple(
        (
            _spaced(row.label),
            f"{row.value:+z.{digits}f}",
            *((_or_dash(row.percent, "+z.1f"),) if percent else ()),
            f"{row.low:+z.{digits}f} to {row.high:+z.{digits}f}",
            "< 0.001" if row.p < 0.001 else f"{row.p:.3f}",
            table.verdict(row),
        )
        for row in table.rows
    )
    return Grid(f"effect on the {table.measure}, {table.family}", header, rows)


def rich_table(grid: Grid) -> Table:
    """A grid for a terminal."""
    table = Table(title=grid.title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for i, name in enumerate(grid.header):
        first, last = i == 0, grid.header[i] == "verdict"
        table.add_column(
            name,
            justify="left" if first or last else "right",
            no_wrap=not (first or last),
            max_width=15 if last else None,
        )
    for row in grid.rows:
        table.add_row(*row)
    return table


def markdown_table(grid: Grid) -> str:
    """A grid as a Markdown table below its title."""
    aligned = ["---" if i == 0 or name == "verdict" else "---:" for i, name in enumerate(grid.header)]
    lines = [grid.header, aligned, *grid.rows]
    return f"**{_sentence(grid.title)}**\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def verdicts(report: SplitReport) -> Iterator[str]:
    """Each effect in a sentence."""
    for table in report.effects:
        for row in table.rows:
            yield verdict(table, row, report.split)


def verdict(table: EffectTable, row: EffectRow, split: str) -> str:
    """`hard-mining alone against none cuts the MRE on test1 by 3.2 % (...): better.`, or that no effect was shown."""
    who, interval = f"{row.label} {table.family}", f"95 % interval {row.low:+z.3f} to {row.high:+z.3f} {table.unit}"
    if not row.shown:
        return f"{who}: no effect on the {table.measure} shown on {split} ({row.value:+z.3f} {table.unit}, {interval})."
    verb = "cuts" if row.value < 0 else "raises"
    size = f"{abs(row.percent):.1f} %" if row.percent is not None else f"{abs(row.value):.2f} {table.unit}"
    if row.percent is not None and row.value:
        ends = sorted(
            abs(row.percent) / abs(row.value) * end * (-1 if row.value < 0 else 1) for end in (row.low, row.high)
        )
        interval = f"95 % interval {ends[0]:.1f} to {ends[1]:.1f} %"
    return f"{who} {verb} the {table.measure} on {split} by {size} ({interval}): {table.verdict(row)}."


def markdown(title: str, made: Sequence[str], reports: Sequence[SplitReport]) -> str:
    """The page: how the cells were made (Markdown lines), how to read it, each split's verdicts and tables."""
    parts = [f"# {title}", "\n".join(made), READING]
    for report in reports:
        parts += [
            f"## {report.split}",
            f"{_sentence(report.caption())}.",
            "\n".join(f"- {v}" for v in verdicts(report)),
        ]
        parts += [markdown_table(grid).rstrip() for grid in grids(report)]
    return "\n\n".join(parts) + "\n"


def _spaced(name: str) -> str:
    return name.replace("+", " + ")


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
