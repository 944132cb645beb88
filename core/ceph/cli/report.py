"""`ceph report`: the page of a run, and its figures for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options

app = options.new_app()

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)]
Figures = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Also write figures for a paper there: PNG at 300 dpi, SVG and PDF.", show_default=False
    ),
]


@app.command(
    epilog=options.examples(
        "ceph report runs/hard                                 writes runs/hard/report.html",
        "ceph report runs/hard --figures paper/hard",
    )
)
def report(run: RunFolder, figures: Figures = None) -> None:
    """Write report.html of a run anew, with every split that was scored since; open it in any browser."""
    from ceph.run.report import report as write

    for path in write(run, figures):
        typer.echo(path)
