"""`ceph corrections`: what people did to the points of a run in a tool for marking films."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file

app = options.new_app()


@app.command(
    epilog=options.examples(
        "ceph corrections runs/first ./films --predictions points.csv --set data.mm_per_px=0.1",
        "ceph corrections runs/first ./export --set data.mm_per_px=0.1 --json saved.json",
        "ceph corrections runs/first ./export --set data.truth=annotator2",
    )
)
@options.asking
def corrections(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The films, and what the tool has exported.", show_default=False)
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The points as people were given them, a .csv of ceph predict; default: RUN finds them again.",
            show_default=False,
        ),
    ] = None,
    set_: options.Settings = None,
    without: options.Without = None,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there too.", show_default=False)
    ] = None,
) -> None:
    """Say how many points of RUN were moved in FOLDER, how far, and what share of the marking the run saves.

    The corrected points are those of the reader `corrected`, else of all readers; --set data.truth=NAME names another.
    """
    from ceph.report.console import PlainConsole
    from ceph.report.corrections import corrections_table, saved_line
    from ceph.run.corrections import corrections as count

    figures = count(run, folder, predictions=predictions, settings=set_ or (), without=without or ())
    console = PlainConsole()
    console.print(corrections_table(figures))
    console.print(saved_line(figures), soft_wrap=True)
    if json_ is not None:
        write_file(json_, json.dumps(figures, indent=2, ensure_ascii=False) + "\n", "--json")
