"""`ceph predict`: the landmarks of films without truth."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file
from ceph.data.names import shown
from ceph.data.spacing import hint, plausible
from ceph.errors import CephError, ConfigError, Problem, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ceph.run.predictions import NamedFilm, Predicted

app = options.new_app()

BY_ENDING = {".json": "json", ".csv": "csv"}
SHOWN = 10  # films, and points of a film, that are doubted


@app.command(
    epilog=options.examples(
        "ceph predict runs/first film.png                              a table (CSV) on the screen",
        "ceph predict runs/first ./films --out points.json --overlays ./pictures",
        "ceph predict runs/first ./films --out points.csv --mm-per-px 0.1",
        "ceph predict runs/first ./films --out points.json --format coco",
    )
)
@options.asking
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)],
    films: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILM...", help="Image files, and folders of them.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A folder of films, as FILM.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the points there: .json or .csv.", show_default=False),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="KIND", help="json, csv or coco; default: by --out's ending.", show_default=False
        ),
    ] = None,
    mm_per_px: Annotated[
        float | None,
        typer.Option("--mm-per-px", metavar="X", help="Millimetres of a pixel of all these films.", show_default=False),
    ] = None,
    overlays: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw each film with its points there, as PNG.", show_default=False),
    ] = None,
    set_: options.Settings = None,
    without: options.Without = None,
) -> None:
    """Find the landmarks of films without truth, in pixels of each film, with a score for each point.

    Millimetres are given where the spacing is known: by --mm-per-px, or by the data set whose folder is given. Films
    that cannot be read are named together at the end; the others are predicted, and the exit code is 1. Points whose
    score is low for their landmark are named, too: look at them first.
    """
    kind = choose_kind(format_, out)
    wanted = [*(films or ()), *([data] if data else ())]
    if not wanted:
        raise ConfigError("no film is given", key="FILM", hint="name image files, or folders of them")
    if mm_per_px is not None and not plausible(mm_per_px):
        raise ConfigError(f"{mm_per_px:g} is no spacing of a film", key="--mm-per-px", hint=hint(mm_per_px))
    for key, folder in (("--out", out and out.parent), ("--overlays", overlays and overlays.parent)):
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}", key=key)
    import numpy as np

    from ceph.report.predictions import render
    from ceph.run.doubt import doubtful, usual_scores
    from ceph.run.predictions import find_films, predict_films, readers_of, write_overlays
    from ceph.run.trained import load

    trained = load(run, settings=set_ or (), without=without or ())
    named = find_films(wanted, readers=readers_of(trained), mm_per_px=mm_per_px, leave_out=overlays)
    begun = time.monotonic()
    found = predict_films(trained, named, _progress(len(named)))
    seconds = time.monotonic() - begun
    broken = {str(film.path): error.problems[0].what for film, error in found.broken}
    usual = usual_scores(trained.folder, trained.landmarks, np.array([film.scores for film in found.films]))
    doubts = {film.film: low for film in found.films if (low := doubtful(film.scores, usual))}
    text = render(kind, found.films, trained.landmarks, str(run), broken)
    if out is None:
        typer.echo(shown(text, keep="\n"), nl=False)
    else:
        write_file(out, text, "--out")
    if overlays is not None:
        try:
            write_overlays(overlays, named, found.films, trained.landmarks, doubts)
        except OSError as error:
            raise ConfigError(f"cannot write: {error}", key="--overlays") from None
    typer.echo(summary(found, named, len(trained.landmarks), seconds, out, overlays), err=out is None)
    if found.films:
        typer.echo(shown(doubts_text(found, doubts, trained.landmarks), keep="\n"), err=out is None)
    if found.broken:
        problems = [problem for _, error in found.broken for problem in error.problems]
        what = f"{len(found.broken)} of {len(named)} films were not read (above); the others are predicted"
        raise CephError([*problems, Problem(what if found.films else "no film could be read")])


def choose_kind(name: str | None, out: Path | None) -> str:
    """The kind of output that --format or the ending of --out asks for. Raises ConfigError."""
    kinds = (*BY_ENDING.values(), "coco")
    if name is not None:
        if name not in kinds:
            raise ConfigError(f"there is no kind {name!r}", key="--format", hint=nearest(name, kinds))
        return name
    if out is None:
        return "csv"
    if out.suffix.lower() not in BY_ENDING:
        raise ConfigError(
            f"{out.name} does not say what to write", key="--out", hint="end it in .json or .csv, or give --format"
        )
    return BY_ENDING[out.suffix.lower()]


def summary(
    found: Predicted, named: list[NamedFilm], landmarks: int, seconds: float, out: Path | None, overlays: Path | None
) -> str:
    """What was done, in a line; and a second where millimetres are missing."""
    pace = f"{len(found.films) / max(seconds, 1e-9):.1f} films a second"
    wrote = "".join(f"; wrote {path}" for path in (out, overlays) if path is not None)
    lines = [f"predicted {len(found.films)} of {len(named)} films, {landmarks} landmarks each, {pace}{wrote}"]
    unknown = [film.film for film in found.films if film.mm_per_px is None]
    if unknown:
        note = next((film.note for film in named if film.note and str(film.path) in unknown), "")
        lines.append(
            f"no millimetres for {len(unknown)} of them: their spacing is unknown{note}; --mm-per-px X gives it"
        )
    return "\n".join(lines)


def doubts_text(found: Predicted, doubts: Mapping[str, Sequence[int]], landmarks: Sequence[str]) -> str:
    """The points to look at first, a line a film, those with most of them first."""
    if not doubts:
        return "no point has a score that is low for its landmark, which does not say that all are right"
    scores = {film.film: film.scores for film in found.films}
    count, every = sum(map(len, doubts.values())), len(found.films) * len(landmarks)
    why = "have a score below 0.01, or below half of what their landmark usually has"
    lines = [f"look at these first: {count} of {every} points {why}"]
    for film, low in sorted(doubts.items(), key=lambda item: -len(item[1]))[:SHOWN]:
        points = [f"{landmarks[k]} {scores[film][k]:.2g}" for k in low[:SHOWN]]
        more = [f"and {len(low) - SHOWN} more"] if len(low) > SHOWN else []
        lines.append(f"  {film}: {', '.join(points + more)}")
    if len(doubts) > SHOWN:
        lines.append(f"  and {len(doubts) - SHOWN} more films; --overlays marks such points")
    return "\n".join(lines)


def _progress(films: int) -> Callable[[int], None]:
    """Counts films on one line of a terminal; says nothing elsewhere."""

    def show(done: int) -> None:
        print(f"\r{done} of {films} films", end="\n" if done == films else "", file=sys.stderr, flush=True)

    return show if sys.stderr.isatty() else lambda _done: None
