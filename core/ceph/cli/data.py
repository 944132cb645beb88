"""`ceph data`: look at films as training loads them, or draw the synthetic set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ceph.cli import data_cache, data_check, data_convert, options
from ceph.errors import ConfigError

if TYPE_CHECKING:
    from ceph.config.load import Resolved

app = options.new_app("Look at what training loads, or draw the synthetic data set.", no_args_is_help=True)


@app.callback()
def root() -> None:
    """Look at what training loads, or draw the synthetic data set."""


app.command("convert", epilog=data_convert.EXAMPLES)(data_convert.convert)
app.command("check", epilog=data_check.EXAMPLES)(data_check.check)
app.add_typer(data_cache.app, name="cache")


@app.command(
    epilog=options.examples("ceph data synth ./synthetic", "ceph data synth ./synthetic --films 2000 --varied")
)
def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.", show_default=False)],
    films: Annotated[int, typer.Option(metavar="N", min=3, help="How many films.")] = 64,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of shapes and drawing.")] = 0,
    height: Annotated[int, typer.Option(metavar="PX", min=330, help="Height of a film of the nominal machine.")] = 640,
    varied: Annotated[bool, typer.Option("--varied", help="As from many clinics: to train for real films.")] = False,  # noqa: FBT002 - a flag
    exact: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--exact", help="One reader, who marks where each landmark was drawn: no reader's scatter.")
    ] = False,
    absent: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="Of so many films a tooth is lost, and said to be.")
    ] = 0.0,
) -> None:
    """Draw synthetic cephalograms with 29 landmarks by two readers, in the Aariz layout."""
    from ceph.data.synthetic.sets import write

    try:
        write(folder, films=films, seed=seed, height=height, varied=varied, exact=exact, absent=absent)
    except FileExistsError:
        raise ConfigError(f"{folder} is there already and not empty", hint="name a new folder") from None
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}") from None
    typer.echo(f"wrote {films} films into {folder}; train on them: ceph run --data {folder}")


@app.command(
    epilog=options.examples(
        "ceph data preview                                          the embedded synthetic set",
        "ceph data preview ceph.yaml --plugin heavy-augmentation --set plugins.heavy-augmentation.strength=2",
        "ceph data preview --data ./isbi2015 --set data.mm_per_px=0.1 --films 3 --draws 8 --out films.png",
    )
)
@options.with_config(reading=True)
def preview(
    resolved: Resolved,
    films: Annotated[int, typer.Option(metavar="N", min=1, help="How many training films, a row each.")] = 6,
    draws: Annotated[int, typer.Option(metavar="M", min=1, help="How many random draws of each.")] = 4,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the picture (PNG) here.")] = Path("preview.png"),
) -> None:
    """Draw a contact sheet of training films with their points (circles): each as it is, then as training loads it.

    "epoch 12" below a draw: so the film is given to the network in epoch 12 of the run that this config asks for. Each
    epoch draws its turn, shift, size and grey anew; some plugins change with the epochs, so the draws are spread over
    all of them. Nothing is trained.
    """
    from ceph.report.sheet import sheet, write_png
    from ceph.tools.preview import NOTES, draw_films

    rows = draw_films(resolved, films, draws)
    picture = sheet(rows, NOTES)
    try:
        write_png(picture, out)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {(error.strerror or str(error)).lower()}", key="--out") from None
    size = f"{picture.shape[1]} x {picture.shape[0]} px"
    typer.echo(f"wrote {out}, {size}: {len(rows)} training films, each as it is and then as {draws} epochs draw it")
