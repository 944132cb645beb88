"""`ceph compare`: what one config changes against another, with intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file
from ceph.errors import ConfigError

app = options.new_app()

Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="BASELINE OTHER...",
        help="Run folders, or folders that hold the runs of one config; runs that differ in nothing but their seed are "
        "taken together. A .csv file holds points that any tool has found.",
        show_default=False,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="S",
        help="A split that every run has scored; default: validation, or the only one.",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="The set that .csv files are scored on; default: the first run's.", show_default=False
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write all of it there too, at full precision.", show_default=False),
]
PlotFile = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw a forest plot, .png or .svg.", show_default=False),
]


@app.command(
    epilog=options.examples(
        "ceph compare runs/base runs/hard",
        "ceph compare runs/base-s* runs/hard-s*                three seeds each",
        "ceph compare runs/base runs/hard runs/both --split test1 --plot gain.svg",
        "ceph compare runs/base theirs.csv --split test1        points of another tool, on the films of runs/base",
    )
)
def compare(
    runs: Runs,
    split: Split = None,
    data: Data = None,
    set_: options.Settings = None,
    json_: JsonFile = None,
    plot: PlotFile = None,
) -> None:
    """Compare configs with the first one, film by film and over their seeds, in millimetres, with 95 % intervals."""
    from ceph.evaluation.comparison import compare as compare_scores
    from ceph.evaluation.comparison import to_dict
    from ceph.evaluation.runs import find_groups
    from ceph.evaluation.scores import choose_split, read_scores
    from ceph.report.comparison import comparison_table, forest_plot, heading, require_picture, verdict
    from ceph.report.console import PlainConsole

    if plot is not None:
        require_picture(plot)
    groups = find_groups(runs)
    if len(groups) < 2:
        raise ConfigError(
            f"there is one config only: {groups[0][0]} ({', '.join(str(run) for run in groups[0][1])})",
            hint="name a baseline and at least one other config; runs that differ in their seed only are one config",
        )
    folders, files = ([run for _, runs in groups for run in runs if run.is_file() is file] for file in (False, True))
    if not files and (data is not None or set_):
        raise ConfigError("--data and --set are for .csv files; runs are compared as they were scored")
    chosen = split or (choose_split(groups) if folders else None)
    tables = {}
    for file in files:
        from ceph.run.scoring import table_beside

        run = folders[0] if folders and data is None else None
        tables[file], chosen = table_beside(file, run, data=data, split=chosen, settings=set_ or ())
    found = compare_scores(read_scores(groups, chosen or "", tables))
    console = PlainConsole()
    for comparison in found:
        console.print(heading(comparison), soft_wrap=True)
        console.print(comparison_table(comparison))
        console.print(verdict(comparison))
    if json_ is not None:
        text = json.dumps({"comparisons": [to_dict(c) for c in found]}, indent=2, ensure_ascii=False)
        write_file(json_, text + "\n", "--json")
    if plot is not None:
        forest_plot(found, plot)
