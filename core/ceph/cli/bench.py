"""`ceph bench`: where the time of a training step goes, and films a second with and without loading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file

if TYPE_CHECKING:
    from ceph.config.load import Resolved

app = options.new_app()


@app.command(
    epilog=options.examples(
        "ceph bench                                              the embedded synthetic set",
        "ceph bench --preset quick --data ./films --plugin hard-mining --json bench.json",
        "ceph bench ceph.yaml --set data.workers=4 --steps 20",
    )
)
@options.with_config()
def bench(
    resolved: Resolved,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser steps of a round, at most an epoch.")] = 5,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Rounds; their medians are shown.")] = 3,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the figures here; - for stdout alone.")
    ] = None,
) -> None:
    """Measure a training step stage by stage, training and evaluation in films a second, and each plugin's share.

    It takes what `ceph run` takes, trains a few steps from random weights and keeps nothing.
    """
    from ceph.tools.bench import bench as measure

    found = measure(resolved, steps=steps, rounds=rounds)
    if json is not None:
        from json import dumps

        text = dumps(found, indent=2) + "\n"
        if str(json) == "-":
            typer.echo(text, nl=False)
            return
        write_file(json, text, "--json")
    from ceph.report.bench import bench_tables
    from ceph.report.console import PlainConsole

    console = PlainConsole()
    for part in bench_tables(found):
        console.print(part)
