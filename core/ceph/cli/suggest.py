"""`ceph suggest`: the config of the next fine-tune of a run, or the films to mark next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.errors import ConfigError

app = options.new_app()

SHOWN = 5  # films that were passed over


@app.command(
    epilog=options.examples(
        "ceph suggest runs/first",
        "ceph suggest runs/first --out experiments/second.yaml",
        "ceph suggest runs/folds --films ./archive --next 20             which films to mark next",
    )
)
@options.asking
def suggest(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write the config (default: next.yaml) or the films, a CSV; never over a file.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(metavar="S", help="The errors to read: validation or train.")] = "validation",
    films: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Unmarked films: name those to mark next.", show_default=False),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--next", metavar="N", min=1, help="How many of them (default: 20).", show_default=False),
    ] = None,
) -> None:
    """Choose weights, mining, size and rate of the next fine-tune from the errors of a run, and write its config.

    With --films: name the films below FOLDER whose marking would teach most, those on which the runs of a folder of
    several disagree, the second look moves points, and radii are wide; of films that look alike one.
    """
    if films is not None:
        _name_films(run, films, count or 20, out and _free(out))
    elif count is not None:
        raise ConfigError("there are no films to name", key="--next", hint="give a folder of them: --films FOLDER")
    else:
        _write_config(run, split, _free(out or Path("next.yaml")))


def _write_config(run: Path, split: str, out: Path) -> None:
    from ceph.cli.console import table
    from ceph.config.dump import flow
    from ceph.config.source import dotted
    from ceph.tools.suggest import suggest as choose

    found = choose(run, split=split)
    _write(out, found.text)
    rows = [(dotted(c.key), "" if isinstance(c.value, dict) else flow(c.value), c.reason) for c in found.choices]
    typer.echo(table(rows))
    typer.echo(f"wrote {out}: read it, and change what you know better")
    typer.echo(f"next: {found.command(out)}")


def _name_films(run: Path, folder: Path, count: int, out: Path | None) -> None:
    from ceph.cli.console import table
    from ceph.data.names import guarded, shown
    from ceph.report.predictions import csv_text
    from ceph.tools.suggest_films import suggest_films

    chosen, passed = suggest_films(run, folder, count)
    names = list(chosen[0].measured)
    head = ["film", "doubt", *(f"{name}_px" for name in names)]
    rows = [(shown(str(c.film)), f"{c.doubt:.2f}", *(f"{c.measured[n]:.2f}" for n in names)) for c in chosen]
    typer.echo(table([tuple(head), *rows]))
    typer.echo(f"{len(chosen)} of {passed.films} films, the first to mark first; px of the network's image")
    for film, why in passed.over[:SHOWN]:
        typer.echo(f"  passed over: {shown(str(film))}: {shown(why)}")
    if (more := len(passed.over) - SHOWN) > 0:
        typer.echo(f"  and {more} more")
    if out is not None:
        _write(out, csv_text(map(guarded, row) for row in [head, *rows]))
        typer.echo(f"wrote {out}")


def _free(out: Path) -> Path:
    """The file, before the work is done. Raises ConfigError where one is there, or no folder for it."""
    if out.exists():
        raise ConfigError(f"{out} is there already", key="--out", hint="name another file, or remove it first")
    if not out.parent.is_dir():
        raise ConfigError(f"there is no folder {out.parent}", key="--out")
    return out


def _write(out: Path, text: str) -> None:
    try:
        with out.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {(error.strerror or str(error)).lower()}", key="--out") from None
