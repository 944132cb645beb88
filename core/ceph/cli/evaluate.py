"""`ceph evaluate`: the figures of a run on a split, or on another data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file

app = options.new_app()

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="S",
        help="train, validation, test, test1 ...; default: validation, or the only one.",
        show_default=False,
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there too.", show_default=False)
]


@app.command(
    epilog=options.examples(
        "ceph evaluate runs/hard",
        "ceph evaluate runs/hard --split test1",
        "ceph evaluate runs/hard --data ./other-clinic --set data.mm_per_px=0.12 --json other.json",
    )
)
def evaluate(
    run: RunFolder,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Another data set, as --data.", show_default=False)
    ] = None,
    data: options.Data = None,
    split: Split = None,
    set_: options.Settings = None,
    json_: JsonFile = None,
) -> None:
    """Score the best checkpoint of a run, in millimetres. With --data nothing is written into RUN."""
    from ceph.report.console import PlainConsole
    from ceph.report.tables import landmark_table
    from ceph.run.trained import load
    from ceph.runfolder import finite

    figures, name = load(run, settings=set_ or ()).evaluate(split, options.one_folder(folder, data))
    PlainConsole().print(landmark_table(figures, f"{name}, {figures['n_images']} films"))
    if json_ is not None:
        write_file(json_, json.dumps(finite({name: figures}), indent=2, ensure_ascii=False) + "\n", "--json")
