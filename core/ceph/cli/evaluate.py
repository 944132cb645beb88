"""`ceph evaluate`: the figures of a run on a split, or on another data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file
from ceph.cli.imports import for_good
from ceph.errors import ConfigError

app = options.new_app()

RunFolder = Annotated[Path | None, typer.Argument(metavar="RUN", help=options.RUN, show_default=False)]
PointsFile = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        metavar="FILE",
        help="In place of RUN: a .csv of points that any tool has found on films of --data, in pixels of each film.",
        show_default=False,
    ),
]
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
        "ceph evaluate drawn --data ./our-clinic --split test",
        "ceph evaluate runs/hard --data ./other-clinic --set data.mm_per_px=0.12 --json other.json",
        "ceph evaluate --predictions theirs.csv --data ./films --split test --set data.truth=senior",
    )
)
@options.asking
def evaluate(
    run: RunFolder = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Another data set, as --data.", show_default=False)
    ] = None,
    predictions: PointsFile = None,
    data: options.Data = None,
    split: Split = None,
    set_: options.Settings = None,
    without: options.Without = None,
    json_: JsonFile = None,
) -> None:
    """Score the best checkpoint of a run, or points out of a file, in mm. With --data nothing is written into RUN."""
    if (run is None) is (predictions is None):
        raise ConfigError("name a run folder, or points with --predictions FILE, and not both")
    from ceph.report.console import PlainConsole
    from ceph.report.floor import floor_sentences, floor_table
    from ceph.report.measurements import measurement_sentences, measurement_table
    from ceph.report.presence import presence_sentences
    from ceph.report.radius import radius_sentences, radius_table
    from ceph.report.tables import landmark_table, members_line
    from ceph.runfolder import finite

    films = options.one_folder(folder, data)
    if predictions is not None:
        with for_good():
            from ceph.run.scoring import evaluate as score

        figures, name = score(predictions=predictions, data=films, split=split, settings=set_ or ())
    elif run is not None:
        with for_good():
            from ceph.run.trained import load

        figures, name = load(run, settings=set_ or (), without=without or ()).evaluate(split, films)
    console = PlainConsole()
    console.print(landmark_table(figures, f"{name}, {figures['n_images']} films"))
    if "members" in figures:
        console.print(members_line(figures), soft_wrap=True)
    console.print(floor_table(figures))
    for sentence in floor_sentences(figures):
        console.print(f"{sentence}.")
    if (table := measurement_table(figures)) is not None:
        console.print(table)
    for sentence in measurement_sentences(figures):
        console.print(f"{sentence}.")
    if "radius" in figures:
        console.print(radius_table(figures))
    for sentence in (*radius_sentences(figures), *presence_sentences(figures)):
        console.print(f"{sentence}.")
    if json_ is not None:
        write_file(json_, json.dumps(finite({name: figures}), indent=2, ensure_ascii=False) + "\n", "--json")
