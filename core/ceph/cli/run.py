"""`ceph run`: train, go on with a run, or only check a config."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ceph.cli import options
from ceph.cli.console import rank_of_job
from ceph.cli.imports import for_good
from ceph.errors import ConfigError
from ceph.stop import StopRequest, ended_by_signals

if TYPE_CHECKING:
    from ceph.config.load import Resolved

app = options.new_app()

Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Run folder; default: runs/DATE-MODEL-PLUGINS-SEED.", show_default=False),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Go on with this run exactly where it stopped; takes only --without and, for a finished run, "
        "--set train.epochs=N: a new schedule from there to epoch N.",
        show_default=False,
    ),
]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN|FILE",
        help="Start a new run from these weights, at the rate that is asked for.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read the data, check everything, train nothing.")]
TraceHooks = Annotated[
    bool,
    typer.Option("--trace-hooks", help="Print each call of a plugin, its time and the shape of its answer."),
]


@app.command(
    epilog=options.examples(
        "ceph run                                                   the embedded synthetic set",
        "ceph run --preset quick --data ./isbi2015 --set data.mm_per_px=0.1",
        "ceph run ceph.yaml --plugin weighted-loss --plugin hard-mining --out runs/hard",
        "ceph run --resume runs/hard",
        "ceph run --resume runs/hard --set train.epochs=90          a finished run trains on",
        "ceph run ceph.yaml --init-from runs/hard --set train.lr=1e-6",
    )
)
@options.asking
def run(
    config: options.ConfigFile = None,
    preset: options.Preset = None,
    plugin: options.Plugins = None,
    without: options.Without = None,
    set_: options.Settings = None,
    data: options.Data = None,
    out: Out = None,
    resume: Resume = None,
    init_from: InitFrom = None,
    seed: options.Seed = None,
    dry_run: DryRun = False,  # noqa: FBT002 - a flag
    trace_hooks: TraceHooks = False,  # noqa: FBT002 - a flag
) -> None:
    """Train a landmark detector; with no config, ./ceph.yaml, else the embedded synthetic set."""
    epochs = None
    if resume is not None:
        epochs, more = longer(set_ or ())
        others = {
            "CONFIG": config,
            "--preset": preset,
            "--plugin": plugin,
            "--set": more,
            "--data": data,
            "--out": out,
            "--init-from": init_from,
            "--seed": seed,
            "--dry-run": dry_run or None,
            "--trace-hooks": trace_hooks or None,
        }
        given = ", ".join(name for name, value in others.items() if value is not None)
        if given:
            raise ConfigError(
                f"--resume takes only --without and, for a finished run, --set train.epochs=N, not {given}",
                hint=f"to change a run's settings, start a new one from its weights: --init-from {resume}",
            )

    with ended_by_signals() as stop:
        stop.left = partial(what_is_left, resume or out)
        _run(
            stop,
            partial(options.resolve_flags, config, preset, plugin, without, set_, data, seed),
            without=without or (),
            resume=resume,
            out=out,
            epochs=epochs,
            init_from=init_from,
            dry_run=dry_run,
            trace_hooks=trace_hooks,
        )


def _run(
    stop: StopRequest,
    resolve: Callable[[], Resolved],
    *,
    without: Sequence[str],
    resume: Path | None,
    out: Path | None,
    epochs: int | None,
    init_from: Path | None,
    dry_run: bool,
    trace_hooks: bool,
) -> None:
    """Train or go on, and print the figures."""
    from ceph import runfolder
    from ceph.hooks.trace import share_line, traced
    from ceph.report.console import PlainConsole
    from ceph.report.progress import watcher_for
    from ceph.report.tables import landmark_table

    console = PlainConsole(quiet=bool(rank_of_job()))
    with watcher_for(console) as watcher, traced() if trace_hooks and not rank_of_job() else nullcontext():
        if resume is not None:
            with for_good():
                from ceph.run.train import resume as go_on

            if not (without or epochs) and runfolder.read_members(resume):
                from ceph.cli.folds import go_on_with

                go_on_with(resume)
                return
            result = go_on(resume, without=without, epochs=epochs, watcher=watcher)
        else:
            with for_good():
                resolved = resolve()  # plugins may import torch
                from ceph.run.train import check, train

            if dry_run:
                console.print(check(resolved, init_from))
                return
            settings = resolved.config
            out = out or runfolder.default_name(settings.model.backbone, tuple(resolved.plugins), settings.train.seed)
            stop.left = partial(what_is_left, out)
            result = train(resolved, out=out, init_from=init_from, watcher=watcher)
    scales = runfolder.values_of(runfolder.read_settings(result.folder)).get("evaluate.scales", "")
    title = f"validation, epoch {result.best_epoch + 1}"  # a line of the epoch is of one scale
    console.print(landmark_table(result.metrics, f"{title}, averaged over scales {scales}" if "," in scales else title))
    if cost := runfolder.read_cost(result.folder):
        console.print(share_line(cost), soft_wrap=True)
    if result.was_done:
        more = f"ceph run --resume {result.folder} --set train.epochs=N"
        console.print(f"was done already, and is left as it is; to train on: {more}", soft_wrap=True)
    console.print(f"run: {result.folder}", soft_wrap=True)
    if (result.folder / runfolder.REPORT).is_file():
        console.print(f"look at it: {result.folder / runfolder.REPORT}", soft_wrap=True)
    console.print(f"next: ceph evaluate {result.folder}", soft_wrap=True)


def what_is_left(folder: Path | None) -> tuple[str, str]:
    """Whether there is a checkpoint to go on from in `folder`, and how to."""
    from ceph.runfolder import has_checkpoint

    if folder is not None and has_checkpoint(folder):
        return "the checkpoint is written", f"go on with: ceph run --resume {folder}"
    return "training had not begun", "the same command starts again"


def longer(settings: Sequence[str]) -> tuple[int | None, list[str] | None]:
    """How many epochs a `--set train.epochs=N` beside --resume asks for, and what else is set (None: nothing)."""
    found: list[int] = []
    others = []
    for setting in settings:
        key, _, value = (part.strip() for part in setting.partition("="))
        if key == "train.epochs" and re.fullmatch("[0-9]{1,9}", value):
            found.append(int(value))
        else:
            others.append(setting)
    return found[-1] if found else None, others or None
