"""Write the page of evidence from the runs of one ablation: `python benchmarks/evidence.py RUNS > docs/evidence.md`.

RUNS holds the cells of `ceph ablate` (`--design add-one` and `--design leave-one-out` with the same `--out`, or
`full`). The page has each plugin alone, all together, all but one, and the chosen combination (`--cell`) against none.
Cells without a finished run are left out; the seeds are those that all the others have.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ceph.ablation import design, effects
from ceph.ablation.cells import RECORD
from ceph.ablation.costs import how_made
from ceph.evaluation.scores import scored_splits
from ceph.fanout.record import read_record
from ceph.report import ablation as report


def seeds_by_cell(runs):
    """The seeds of each cell that has any finished run."""
    found = {}
    for folder in runs.glob("*/s*/"):
        cell, seed = folder.parent.name, int(folder.name[1:])
        if effects.finished(runs, cell, seed):
            found.setdefault(cell, set()).add(seed)
    return dict(sorted(found.items(), key=lambda item: (len(design.cell_plugins(item[0])), item[0])))


def families_of(cells, chosen):
    """The families of contrasts whose cells are all there."""
    plugins = sorted({plugin for cell in cells for plugin in design.cell_plugins(cell)})
    joined = [cell for cell in dict.fromkeys([design.cell_name(plugins), chosen]) if "+" in cell]
    together = [against_none(cell) for cell in joined]
    wanted = [
        *design.families("add-one", plugins),
        design.Family("together against none", tuple(together)),
        *design.families("leave-one-out", plugins),
        *(design.families("full", plugins) if len(plugins) > 1 else ()),
    ]
    there = [(f.title, tuple(c for c in f.contrasts if set(c.cells) <= set(cells))) for f in wanted]
    return [design.Family(title, contrasts) for title, contrasts in there if contrasts]


def against_none(cell):
    return design.against(cell.replace("+", " + "), design.cell_plugins(cell), [])


def in_short(runs, chosen, seeds, splits, hardest):
    """What the chosen combination does: a sentence a measure, and the hardest landmarks one by one."""
    contrast, lines = against_none(chosen), ["", "## In short", ""]
    for split in splits:
        scores = effects.read(runs, [design.NONE, chosen], seeds, split)
        for measure in effects.measures(scores.landmarks, hardest):
            table = effects.effect_table(scores, design.Family("against none", (contrast,)), measure)
            lines.append(f"- {report.verdict(table, table.rows[0], split)}")
        table = report.effect_grid(effects.landmark_table(scores, contrast, hardest))
        lines += ["", report.markdown_table(replace(table, title=f"{split}: {table.title}")).rstrip(), ""]
    return lines


def page(asked):
    runs = asked.runs
    found = seeds_by_cell(runs)
    if not found:
        sys.exit(f"there is no finished run in {runs}")
    cells, seeds = list(found), sorted(set.intersection(*found.values()))
    if not seeds:
        sys.exit(f"no seed is finished in all cells of {runs}: {', '.join(cells)}")
    plugins = {plugin for cell in cells for plugin in design.cell_plugins(cell)}
    chosen = design.cell_name(design.cell_plugins(asked.cell)) if asked.cell else design.cell_name(plugins)
    for cell in (design.NONE, chosen):
        if cell not in cells:
            sys.exit(f"the cell {cell} has no finished run in {runs}; there are: {', '.join(cells)}")
    whole = scored_splits([(cell, [runs / cell / f"s{seed}" for seed in seeds]) for cell in cells])
    splits = asked.split or sorted(whole, key=lambda s: (s != "validation", s))
    chosen_landmarks = [s.strip() for s in asked.landmarks.split(",") if s.strip()]
    hardest = effects.hardest_landmarks(runs, cells, seeds, asked.hardest, chosen_landmarks)
    record = read_record(runs / RECORD)
    reports = [
        effects.split_report(runs, split, cells, seeds, families_of(cells, chosen), hardest, record.get("minutes", {}))
        for split in splits
    ]
    made = [*how_made(runs, cells, seeds, record), *in_short(runs, chosen, seeds, splits, hardest)]
    return report.markdown(asked.title, made, reports)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    parser.add_argument("--cell", help="the chosen combination, such as hard-mining+multi-scale (default: all plugins)")
    parser.add_argument("--split", action="append", help="default: all on which every run was scored")
    parser.add_argument("--hardest", type=int, default=5)
    parser.add_argument("--landmarks", default="", help="A,B: these instead of the hardest")
    parser.add_argument("--title", default="Evidence")
    asked = parser.parse_args()
    print(page(asked), end="")


if __name__ == "__main__":
    main()
