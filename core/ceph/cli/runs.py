"""`ceph runs`: what was trained, how far it came, and what it reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.errors import ConfigError

app = options.new_app()

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Where the runs are.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    epilog=options.examples(
        "ceph runs                                             those in ./runs, the latest first",
        "ceph runs experiments --json",
    )
)
def runs(
    folder: Folder = Path("runs"),
    as_json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """List the runs of a folder with their results, the latest first."""
    from ceph.cli.console import table
    from ceph.report.runs import find_runs, run_rows

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder", key="DIR", hint="name the folder that holds your runs")
    found = find_runs(folder)
    if as_json:
        typer.echo(json.dumps([run.to_dict() for run in found], indent=2, ensure_ascii=False))
    elif found:
        header, rows = run_rows(found)
        typer.echo(table(rows, header=header))
        typer.echo("MRE in mm; where nothing is scored yet, the best validation so far")
    else:
        typer.echo(f"no runs in {folder}")
