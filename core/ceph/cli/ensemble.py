"""`ceph ensemble`: finished runs as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options

app = options.new_app()

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, the first first.", show_default=False)]
Out = Annotated[Path, typer.Option(metavar="DIR", help="The new folder; the runs are copied.", show_default=False)]


@app.command(
    epilog=options.examples(
        "ceph ensemble runs/small runs/large --out runs/both",
        "ceph evaluate runs/both --split test1                  what the mean gains, and what it costs",
    )
)
@options.asking
def ensemble(runs: Runs, out: Out) -> None:
    """Put runs of any backbones and sizes into one folder that predicts as a run does, by the mean of their maps.

    The first says which landmarks are found; one that lacks a landmark leaves it to the others. What decoding does
    after the maps is the first one's; of second looks the mean is taken.
    """
    from ceph.report.console import PlainConsole
    from ceph.report.tables import landmark_table, members_line
    from ceph.run.ensemble import ensemble as put_together

    console, result = PlainConsole(), put_together(runs, out=out)
    if figures := result.metrics:
        console.print(landmark_table(figures, f"validation, {figures['n_images']} films"))
        console.print(members_line(figures), soft_wrap=True)
    console.print(f"run: {result.folder}", soft_wrap=True)
