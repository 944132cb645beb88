"""`ceph data cache`: how many decoded films are kept, where, and how to be rid of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options

app = options.new_app(
    "Show the decoded films that are kept, or delete them.",
    epilog=options.examples(
        "ceph data cache                    the user's cache, or $CEPH_CACHE",
        "ceph data cache --folder ./cache   what a config's data.cache names",
        "ceph data cache clear",
    ),
    invoke_without_command=True,
)

Folder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A cache elsewhere, as data.cache names it.", show_default=False),
]


@app.callback()
def show(context: typer.Context, folder: Folder = None) -> None:
    """Show the decoded films that are kept, or delete them."""
    if context.invoked_subcommand is None:
        from ceph.data.cache import default_films, kept

        root = folder or default_films()
        held = kept(root)
        typer.echo(f"{root}: {held.films} films at {held.levels} sizes, {megabytes(held.size)}")
    else:
        context.obj = folder


@app.command()
def clear(context: typer.Context, folder: Folder = None) -> None:
    """Delete all decoded films that are kept; a later run decodes its films again."""
    from ceph.data.cache import clear as empty
    from ceph.data.cache import default_films

    root = folder or context.obj or default_films()
    held = empty(root)
    typer.echo(f"{root}: deleted {held.films} films at {held.levels} sizes, {megabytes(held.size)}")


def megabytes(size: int) -> str:
    """A number of bytes in MB (10^6)."""
    return f"{size / 1e6:.1f} MB"
