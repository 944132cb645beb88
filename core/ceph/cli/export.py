"""`ceph export`: a run as a folder for other software."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.cli.imports import for_good

app = options.new_app()


@app.command(
    epilog=options.examples(
        "ceph export runs/first --out model",
        "python model/predict.py ./films --out points.csv       with numpy, onnxruntime and pillow alone",
        "ceph export runs/first --out fast --set evaluate.scales=[1.0]",
    )
)
@options.asking
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=options.RUN, show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new folder.", show_default=False)],
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Under what the model may be used, for its card; default: as the run states.",
            show_default=False,
        ),
    ] = None,
    set_: options.Settings = None,
) -> None:
    """Write a run as ONNX with a runner of one file that finds what `ceph predict` finds, and a model card.

    A folder of several runs and an adapted run go as they are. A plugin whose part cannot be exported is named.
    """
    with for_good():
        from ceph.exporting.export import export as write

    made = write(run, out=out, settings=set_ or (), licence=licence)
    for name in made.left_out:
        typer.echo(f"{name}: its figures are not of points, and are not exported", err=True)
    files = sorted(made.folder.iterdir())
    size, names = sum(path.stat().st_size for path in files), ", ".join(path.name for path in files)
    typer.echo(f"wrote {made.folder}: {names}, {size / 1e6:.1f} MB")
