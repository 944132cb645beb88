"""`ceph suggest`: the config of the next fine-tune of a run, each choice with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.errors import ConfigError

app = options.new_app()


@app.command(
    epilog=options.examples(
        "ceph suggest runs/first",
        "ceph suggest runs/first --out experiments/second.yaml",
    )
)
@options.asking
def suggest(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the config; never over a file.")] = Path(
        "next.yaml"
    ),
    split: Annotated[str, typer.Option(metavar="S", help="The errors to read: validation or train.")] = "validation",
) -> None:
    """Choose weights, mining, size and rate of the next fine-tune from the errors of a run, and write its config."""
    from ceph.cli.console import table
    from ceph.config.dump import flow
    from ceph.config.source import dotted
    from ceph.tools.suggest import suggest as choose

    found = choose(run, split=split)
    try:
        with out.open("x", encoding="utf-8") as stream:
            stream.write(found.text)
    except FileExistsError:
        raise ConfigError(
            f"{out} is there already", key="--out", hint="name another file, or remove it first"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {(error.strerror or str(error)).lower()}", key="--out") from None
    rows = [(dotted(c.key), "" if isinstance(c.value, dict) else flow(c.value), c.reason) for c in found.choices]
    typer.echo(table(rows))
    typer.echo(f"wrote {out}: read it, and change what you know better")
    typer.echo(f"next: {found.command(out)}")
