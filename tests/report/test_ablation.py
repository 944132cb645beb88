"""The tables and sentences of an ablation: what is shown is called so, and everything fits a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ceph.report.ablation import (
    CellRow,
    EffectRow,
    EffectTable,
    SplitReport,
    effect_grid,
    grids,
    markdown,
    rich_table,
    verdict,
)

LONG = "heavy-augmentation"
EVERYTHING = "hard-mining+heavy-augmentation+multi-scale+weighted-loss"
GOOD = EffectRow("hard-mining", -0.040, -0.060, -0.020, 0.0004, -4.0)
UNSURE = EffectRow(LONG, 0.001, -0.020, 0.022, 0.9, 0.1)
MRE = EffectTable("over all settings of the others", "mean error of the 5 hardest", "mm", (GOOD, UNSURE))
SDR = EffectTable("alone against none", "SDR 2 mm", "points", (EffectRow("hard-mining", 1.52, 0.4, 2.6, 0.01),))
CELLS = (CellRow("none", 3, 1.5, 75.0, 2.4, 12.25, 8000, 655.4), CellRow(EVERYTHING, 3, 1.4, 77.1, 2.2))


def split(seeds=(0, 1, 2), **more):
    return SplitReport("test1", 150, 131, seeds, ("UMT", "UPM"), CELLS, (MRE, SDR), **more)


@pytest.mark.parametrize("table", [MRE, SDR])
def test_an_effect_is_better_or_worse_only_where_it_is_shown(table):
    for value, low, high, p, shown in (
        (-1.0, -1.5, -0.5, 0.01, True),
        (1.0, 0.5, 1.5, 0.01, True),
        (-1.0, -1.5, -0.5, 0.06, False),
        (-1.0, -2.5, 0.5, 0.01, False),
    ):
        row = EffectRow("x", value, low, high, p)
        less_is_better = table.unit == "mm"
        expected = ("better" if (value < 0) == less_is_better else "worse") if shown else "no effect shown"
        assert table.verdict(row) == expected


def test_sentences_are_made_of_the_figures():
    for table, row, words in (
        (MRE, GOOD, ("hard-mining", "cuts", "the 5 hardest", "test1", "4.0 %", "2.0 to 6.0 %", "better.")),
        (MRE, UNSURE, (LONG, "no effect", "the 5 hardest", "test1", "+0.001 mm", "-0.020 to +0.022 mm")),
        (SDR, SDR.rows[0], ("raises", "SDR 2 mm", "1.52 points", "+0.400 to +2.600 points", "better.")),
    ):
        for word in words:
            assert word in verdict(table, row, "test1")


def test_every_table_fits_80_columns_with_all_its_figures():
    console = Console(file=io.StringIO(), width=80)
    for grid in grids(split()):
        console.print(rich_table(grid))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for part in ("-0.060 to -0.020", "< 0.001", "no effect shown", "-4.0", "12.2", "8000", "655.4", "hardest 2"):
        assert part in text
    assert "…" not in text


def test_what_is_not_known_is_a_dash():
    rows = {row[0]: row for row in next(grids(split())).rows}
    assert rows["hard-mining + heavy-augmentation + multi-scale + weighted-loss"][-3:] == ("-", "-", "-")


def test_one_seed_is_said_to_say_nothing_of_other_seeds():
    assert "one seed (4)" in split((4,)).caption()
    limited = replace(MRE, scope=" on these films, one seed")
    assert limited.verdict(GOOD) == "better on these films, one seed"
    assert limited.verdict(UNSURE) == "no effect shown"
    console = Console(file=io.StringIO(), width=80)
    console.print(rich_table(effect_grid(limited)))
    assert "films, one seed" in console.file.getvalue()
    assert max(map(len, console.file.getvalue().splitlines())) <= 80
    assert "150 films of 131 patients, 3 seeds (0, 1, 2); hardest: UMT, UPM" in split().caption()
    assert split(notes=("left out 2 films",)).caption().endswith("; left out 2 films")


def test_the_page_has_verdicts_before_tables_and_whole_rows():
    page = markdown("Evidence", ["made so"], [split()])
    assert page.startswith("# Evidence\n\nmade so\n")
    assert page.index("cuts the mean error") < page.index("| cell | runs |")
    assert "| hard-mining | -0.040 | -4.0 | -0.060 to -0.020 | < 0.001 | better |" in page
    assert page.count("no effect shown |") == 1
