"""`ceph data`: draw the synthetic set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.errors import ConfigError

app = options.new_app("Draw the synthetic data set.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Draw the synthetic data set."""


@app.command(epilog=options.examples("ceph data synth ./synthetic", "ceph data synth ./synthetic --films 500 --seed 7"))
def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)],
    films: Annotated[int, typer.Option(metavar="N", min=3, help="How many films.")] = 64,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of shapes and drawing.")] = 0,
    height: Annotated[int, typer.Option(metavar="PX", min=330, help="Height of a film of the nominal machine.")] = 640,
) -> None:
    """Draw synthetic cephalograms with 29 landmarks by two readers, in the Aariz layout."""
    from ceph.data.synthetic import write

    try:
        write(folder, films=films, seed=seed, height=height)
    except FileExistsError:
        raise ConfigError(f"{folder} is there already and not empty", hint="name a new folder") from None
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}") from None
    typer.echo(f"wrote {films} films into {folder}; train on them: ceph run --data {folder}")
