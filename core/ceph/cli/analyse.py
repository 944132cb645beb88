"""`ceph analyse`: what is measured on films, from their points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file
from ceph.cli.imports import for_good
from ceph.errors import CephError, ConfigError, Problem

if TYPE_CHECKING:
    from ceph.measuring.analyse import Analysis

app = options.new_app()


@app.command(
    epilog=options.examples(
        "ceph analyse points.csv --out values.csv               points that ceph predict, or any tool, has written",
        "ceph analyse points.csv --mm-per-px 0.1 --errors runs/first",
        "ceph analyse runs/first ./films --mm-per-px 0.1 --out values.csv --tracings pictures",
        "ceph analyse ./isbi2015 --set data.mm_per_px=0.1       the readers' own points of a data set",
    )
)
@options.asking
def analyse(
    source: Annotated[
        Path,
        typer.Argument(metavar="POINTS|RUN|DIR", help="A .csv or .json of points, a run, or a data set."),
    ],
    films: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILM...", help="Of a run: image files, and folders of them.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table there: a .csv.", show_default=False)
    ] = None,
    mm_per_px: Annotated[
        float | None,
        typer.Option("--mm-per-px", metavar="X", help="Millimetres of a pixel of all these films.", show_default=False),
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="For points in a file: intervals by the errors of this run on films it had not seen.",
            show_default=False,
        ),
    ] = None,
    measurements: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .yaml of measurements of your own.", show_default=False)
    ] = None,
    tracings: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Draw lines and planes over each film there, PNG and SVG.", show_default=False
        ),
    ] = None,
    set_: options.Settings = None,
) -> None:
    """Measure films: a row a film and measurement, of the usual analyses, as far as the films' landmarks allow.

    Low and high are the ends of a 90 % interval. Lengths are given where a film's spacing is known; angles and ratios
    always. This is no medical device: a person who knows the films decides what a value means.
    """
    for key, folder in (("--out", out and out.parent), ("--tracings", tracings and tracings.parent)):
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}", key=key)
    with for_good():
        from ceph.measuring.analyse import analyse as measure

    found = measure(
        source, films or (), mm_per_px=mm_per_px, errors=errors, measurements=measurements, settings=set_ or ()
    )
    if out is None:
        typer.echo(found.csv(), nl=False)
    else:
        write_file(out, found.csv(), "--out")
    wrote = f"; wrote {out}" if out else ""
    if tracings is not None:
        from ceph.measuring.tracing import write_tracings

        wrote += f"; {write_tracings(found, tracings)}"
    for line in summary(found, wrote):
        typer.echo(line, err=out is None)
    if found.not_read:
        raise CephError([*found.not_read, Problem("some films were not read (above); the others are measured")])


def summary(found: Analysis, wrote: str) -> list[str]:
    """What was measured, and what was not and why."""
    import numpy as np

    films = "1 film" if len(found.films) == 1 else f"{len(found.films)} films"
    lines = [f"measured {films}, {len(found.measurements)} measurements{wrote}"]
    if unknown := int(np.isnan(found.points.mm_per_px).sum()):
        lengths = sum(one.unit == "mm" for one in found.measurements)
        lines.append(
            f"{lengths} lengths are left out for {unknown} of them: their spacing is unknown; --mm-per-px X gives it"
        )
    if not np.isfinite(found.low).any():
        lines.append("no intervals: the points have no radius, and no run its errors on 19 films (--errors RUN)")
    return lines
