"""`ceph folds`: cross-validation, and one folder of all its runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ceph.cli import options

if TYPE_CHECKING:
    from ceph.config.load import Resolved
    from ceph.run.train import Result

app = options.new_app()

Folds = Annotated[int, typer.Option(metavar="N", min=2, help="How many, with --by group.")]
By = Annotated[
    Literal["group", "machine", "set"],
    typer.Option(help="What is never divided: groups of films; machine, set: each of these is a fold, left out once."),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs, itself a run.")]
Jobs = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Runs at a time; default: 1 on a GPU, else the cores.", show_default=False),
]
On = Annotated[
    Literal["local", "ray"], typer.Option(help="Where: this machine, or a ray cluster with a shared file system.")
]


@app.command(
    epilog=options.examples(
        "ceph folds ceph.yaml --folds 5 --out runs/five",
        "ceph folds --preset quick --data ./films --by machine --out runs/machines     will it work on another one",
        "ceph run --resume runs/five",
        "ceph evaluate runs/five --split test1                  what the mean of all gains, and what it costs",
    )
)
@options.with_config()
def folds(
    resolved: Resolved,
    folds: Folds = 5,
    by: By = "group",
    out: Out = Path("runs/folds"),
    jobs: Jobs = None,
    on: On = "local",
) -> None:
    """Train a run for each fold of the films of train and validation, and score each film by the run that held it out.

    A fold's films choose nothing: the best epoch is the last. DIR then predicts as a run does, by the mean of all.
    Interrupted or failed runs go on, and finished ones are kept, when the same command is given again.
    """
    from ceph.report.console import PlainConsole
    from ceph.run.folds import folds as run_folds

    console = PlainConsole()
    say = lambda line: console.print(line, soft_wrap=True)  # noqa: E731
    show(run_folds(resolved, out=out, folds=folds, by=by, jobs=jobs, on=on, say=say))


def go_on_with(out: Path) -> None:
    """`ceph run --resume` of a folder of folds."""
    from ceph.report.console import PlainConsole
    from ceph.run.folds import resume_folds

    console = PlainConsole()
    show(resume_folds(out, lambda line: console.print(line, soft_wrap=True)))


def show(result: Result) -> None:
    """Print the figures of all films, the cost, and what can be done next."""
    from ceph.report.console import PlainConsole
    from ceph.report.tables import landmark_table, members_line

    console, figures = PlainConsole(), result.metrics
    console.print(
        landmark_table(figures, f"out of fold, {figures['n_images']} films, each by the run that held it out")
    )
    for line in (
        members_line(figures),
        f"run: {result.folder}",
        f"next: ceph evaluate {result.folder} --split test1",
    ):
        console.print(line, soft_wrap=True)
