"""`ceph predict`: the landmarks of films without truth."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file
from ceph.cli.imports import for_good
from ceph.data.names import shown
from ceph.data.spacing import hint, plausible
from ceph.errors import CephError, ConfigError, Problem, nearest
from ceph.stop import ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ceph.run.many import Asked

app = options.new_app()

KINDS, LABELME = ("json", "csv", "coco", "labelstudio", "cvat", "labelme"), "labelme"
BY_ENDING = {".json": "json", ".csv": "csv", ".xml": "cvat"}
TRAINS = ("csv", "coco")  # kinds that say of a film that it is one to train on
SHOWN = 10  # films, and points of a film, that are doubted


@app.command(
    epilog=options.examples(
        "ceph predict runs/first film.png                              a table (CSV) on the screen",
        "ceph predict drawn film.png                                   by the run that ships: nothing to train",
        "ceph predict runs/first ./films --out points.json --overlays ./pictures",
        "ceph predict runs/first ./films --out points.csv --mm-per-px 0.1",
        "ceph predict runs/first ./films --out tasks.json --format labelstudio      to be corrected there",
        "ceph predict runs/first ./films --out ./films --format labelme",
    )
)
@options.asking
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help=options.RUN, show_default=False)],
    films: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILM...", help="Image files, and folders of them.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A folder of films, as FILM.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the points there: .json, .csv or .xml; for labelme a folder.",
            show_default=False,
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="KIND",
            help="json, csv, coco, labelstudio, cvat, labelme; default: by --out's ending.",
            show_default=False,
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
    gate: Annotated[
        str, typer.Option(metavar="G", help="Of films that are no lateral cephalograms: refuse, warn or off.")
    ] = "warn",
    orient: Annotated[
        str, typer.Option(metavar="O", help="auto: put mirrored, inverted and turned films right first; or off.")
    ] = "off",
    level: Annotated[float, typer.Option(metavar="P", help="How often the truth lies within a point's radius.")] = 0.9,
    agree: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            min=0,
            help="Keep only points on which all runs of RUN, a folder of several, agree so closely: a set that trains.",
            show_default=False,
        ),
    ] = None,
    set_: options.Settings = None,
    without: options.Without = None,
) -> None:
    """Find the landmarks of films without truth, in pixels of each film, with a score for each point.

    Millimetres are given where the spacing is known: by --mm-per-px, or by the data set whose folder is given. Films
    that cannot be read are named together at the end; the others are predicted, and the exit code is 1. Points whose
    score is low for their landmark are named, too: look at them first. Each point has a radius where the run knows
    enough films that did not train it; so it does of films that are no lateral cephalograms. With --out a call that
    was stopped is gone on with by the same call. A point has a presence, too, where the run learned which are absent.
    """
    kind = choose_kind(format_, out)
    if agree is not None and kind not in TRAINS:
        raise ConfigError(f"{kind} holds no split", key="--agree", hint=f"what trains is {' or '.join(TRAINS)}")
    wanted = [*(films or ()), *([data] if data else ())]
    if not wanted:
        raise ConfigError("no film is given", key="FILM", hint="name image files, or folders of them")
    if mm_per_px is not None and not plausible(mm_per_px):
        raise ConfigError(f"{mm_per_px:g} is no spacing of a film", key="--mm-per-px", hint=hint(mm_per_px))
    for key, folder in (("--out", out and out.parent), ("--overlays", overlays and overlays.parent)):
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}", key=key)
    with for_good():
        from ceph.run.gate import made_gate
        from ceph.run.many import asking
        from ceph.run.members import require_members
        from ceph.run.predictions import find_films, readers_of
        from ceph.run.trained import load

    asked_gate = made_gate(gate, orient, level)
    trained = load(run, settings=set_ or (), without=without or ())
    if agree is not None:
        require_members(trained, "--agree")
    named = find_films(wanted, readers=readers_of(trained), mm_per_px=mm_per_px, leave_out=overlays)
    with asking(trained, named, out, asked_gate, agree_mm=agree) as asked, ended_by_signals() as stop:
        progress = Progress(len(named))
        if asked.answers.lasting:
            stop.left = progress.left
        if kind == LABELME and out is not None:
            asked.require_free(out)
        asked.find(progress)
        with told("--out"):
            write(asked, kind, str(run), out)
        if overlays is not None:
            with told("--overlays"):
                asked.draw(overlays)
        wrote = "".join(f"; wrote {path}" for path in (out, overlays) if path is not None)
        typer.echo(summary(asked, f"{progress.pace()}{wrote}"), err=out is None)
        for line in gate_lines(asked):
            typer.echo(shown(line, keep="\n"), err=out is None)
        if looks := doubts_text(asked):
            typer.echo(shown(looks, keep="\n"), err=out is None)
        broken = [[Problem(what, hint=hint) for what, hint in why] for _, why in asked.broken()]
    if broken:
        what = f"{len(broken)} of {len(named)} films were not read (above); the others are predicted"
        last = Problem(what if looks else "no film could be read")
        raise CephError([*(problem for problems in broken for problem in problems), last])


def choose_kind(name: str | None, out: Path | None) -> str:
    """The kind of output that --format or the ending of --out asks for. Raises ConfigError."""
    if name is not None and name not in KINDS:
        raise ConfigError(f"there is no kind {name!r}", key="--format", hint=nearest(name, KINDS))
    if name == LABELME and (out is None or (out.exists() and not out.is_dir())):
        raise ConfigError(f"{LABELME} is a file for each film", key="--out", hint="name a folder, as that of the films")
    if name != LABELME and out is not None and out.is_dir():
        raise ConfigError(f"{out} is a folder", key="--out", hint="name a file")
    if name is not None or out is None:
        return name or "csv"
    if out.suffix.lower() not in BY_ENDING:
        raise ConfigError(
            f"{out.name} does not say what to write", key="--out", hint="end it in .json or .csv, or give --format"
        )
    return BY_ENDING[out.suffix.lower()]


def write(asked: Asked, kind: str, run: str, out: Path | None) -> None:
    """Write the points, a film at a time, into --out or on the screen."""
    if kind == LABELME and out is not None:
        asked.write_pages(out, run)
    elif out is not None:
        write_file(out, asked.pieces(kind, run), "--out")
    else:
        for piece in asked.pieces(kind, run):
            typer.echo(shown(piece, keep="\n"), nl=False)


@contextmanager
def told(key: str) -> Iterator[None]:
    """What cannot be written is an error of the option `key`; a closed pipe is the caller's."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write: {error}", key=key) from None


def summary(asked: Asked, more: str) -> str:
    """What was done, in a line; and a second where millimetres are missing."""
    found = unknown = agreed = 0
    note = ""
    for film, points in asked.found():
        found += 1
        agreed += 0 if points.agreed is None else int(points.agreed.sum())
        if points.mm_per_px is None:
            unknown, note = unknown + 1, note or film.note
    landmarks = len(asked.trained.landmarks)
    lines = [f"predicted {found} of {len(asked.films)} films, {landmarks} landmarks each, {more}"]
    if asked.agree_mm is not None:
        within = f"within {asked.agree_mm:g} mm"
        lines.append(f"kept {agreed} of {found * landmarks} points: those on which all runs agree {within}")
    if unknown:
        lines.append(f"no millimetres for {unknown} of them: their spacing is unknown{note}; --mm-per-px X gives it")
    return "\n".join(lines)


def doubts_text(asked: Asked) -> str:
    """The points to look at first, a line a film, the worst films first; empty where no film was read."""
    landmarks, doubts = asked.trained.landmarks, asked.doubts(SHOWN)
    if not (every := len(landmarks) * sum(1 for _ in asked.found())):
        return ""
    if not doubts.films:
        return "no point has a score that is low for its landmark, which does not say that all are right"
    why = "have a score below 0.01, or below half of what their landmark usually has"
    lines = [f"look at these first: {doubts.points} of {every} points {why}"]
    for film, low in doubts.worst:
        points = [f"{landmarks[k]} {film.scores[k]:.2g}" for k in low[:SHOWN]]
        more = [f"and {len(low) - SHOWN} more"] if len(low) > SHOWN else []
        lines.append(f"  {film.film}: {', '.join(points + more)}")
    if doubts.films > SHOWN:
        lines.append(f"  and {doubts.films - SHOWN} more films; --overlays marks such points")
    return "\n".join(lines)


def gate_lines(asked: Asked) -> Iterable[str]:
    """The films that were found to be no lateral cephalogram as they should be, and those that were put right."""
    for said, of in (("these films may be none that the run knows", "wrong"), ("put right before reading", "turned")):
        films = [(found.film, text) for found in asked.points() if (text := getattr(found, of))]
        if films:
            yield f"{said}: {len(films)}"
            yield from (f"  {film}: {text}" for film, text in films[:SHOWN])
            yield from [f"  and {len(films) - SHOWN} more"] if len(films) > SHOWN else []


class Progress:
    """Counts the films that are done, on one line of a terminal; says nothing elsewhere."""

    def __init__(self, films: int) -> None:
        self.films, self.done, self.before, self.begun = films, 0, -1, time.monotonic()

    def __call__(self, done: int) -> None:
        """So many films are done; the first call tells how many were before."""
        self.done = done
        if self.before < 0:
            self.before = done
        elif sys.stderr.isatty():
            print(f"\r{done} of {self.films} films", end="\n" * (done == self.films), file=sys.stderr, flush=True)

    def pace(self) -> str:
        """How fast films were predicted, and how many were known before."""
        rate = (self.done - self.before) / max(time.monotonic() - self.begun, 1e-9)
        return f"{rate:.1f} films a second" + f" ({self.before} films are from before)" * bool(self.before)

    def left(self) -> tuple[str, str]:
        """What is done so far, and what to do now."""
        return f"{self.done} of {self.films} films are done", "the same command goes on with the others"
