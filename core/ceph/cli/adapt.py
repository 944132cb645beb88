"""`ceph adapt`: a run moved to another place by a few films that were marked there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ceph.cli import options
from ceph.cli.console import table
from ceph.errors import ConfigError

if TYPE_CHECKING:
    from ceph.run.adapt import Adaptation

app = options.new_app()

LEAST_MM = 0.05  # offsets that are shown


@app.command(
    epilog=options.examples(
        "ceph adapt runs/first --data ./our-clinic --set data.mm_per_px=0.1 --out runs/ours",
        "ceph adapt runs/first --data ./our-clinic --films 10 --out runs/ours     the first ten marked films",
        "ceph adapt drawn --data ./our-clinic --films 10 --out runs/ours          the run that ships",
        "ceph adapt runs/first --data ./our-clinic --ids ten.txt --out runs/ours  those that a file names",
    )
)
@options.asking
def adapt(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=options.RUN, show_default=False)],
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder of the marked films of the new place.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new run folder.", show_default=False)],
    films: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Learn from the first N marked films only.", show_default=False),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Learn from the films whose ids FILE names, a line each.", show_default=False
        ),
    ] = None,
    set_: options.Settings = None,
) -> None:
    """Learn from a few marked films what another place means by each landmark, and write a run that speaks so.

    All marked films count, whatever their split. Where they do not show a gain, nothing is written.
    """
    if films is not None and ids is not None:
        raise ConfigError("--films and --ids do not go together", key="--ids")
    from ceph.run.adapt import adapt as learn
    from ceph.run.adapt import read_ids

    named = None if ids is None else read_ids(ids)
    typer.echo(told(learn(run, data, out=out, films=films, ids=named, settings=set_ or ()), run))


def told(made: Adaptation, run: Path) -> str:
    """What was learned, what is expected of it, and what was written."""
    gain, used = made.gain, len(made.films) - len(made.strange)
    expected = (
        f"expected on further films: {gain.before_mm:.2f} -> {gain.after_mm:.2f} mm; gain {gain.gain_mm:.2f} "
        f"({gain.low_mm:.2f} to {gain.high_mm:.2f}, 95 %), each of {used} films by offsets of the others"
    )
    if made.folder is None:
        from ceph.runfolder import DRAWN

        more = f"\nfive films can train it: ceph folds --set model.weights={DRAWN} (docs/synthetic.md)"
        return f"{expected}\nnot worth it: keep {run}; nothing was written{more * (str(run) == DRAWN)}"
    offsets = made.offsets
    rows = [
        [symbol, f"{x:+.2f}", f"{y:+.2f}", f"{offsets.scatter_mm[k]:.2f}", str(offsets.films[k])]
        for k, (symbol, (x, y)) in enumerate(zip(made.landmarks, offsets.offsets_mm, strict=True))
        if abs(x) + abs(y) >= LEAST_MM
    ]
    header = ["LANDMARK", "RIGHT", "DOWN", "SCATTER", "FILMS"]
    radii = "" if made.radii is None else f", with radii by these {used} films"
    return f"{table(rows, header=header)}\nmm on the mean head\n{expected}\nwrote {made.folder}{radii}"
