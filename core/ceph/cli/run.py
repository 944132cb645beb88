"""`ceph run`: train, go on with a run, or only check a config."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ceph.cli import options
from ceph.cli.console import rank_of_job
from ceph.cli.ending import Ending
from ceph.errors import ConfigError, Interrupted

if TYPE_CHECKING:
    from rich.console import Console

app = options.new_app()

Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Run folder; default: runs/DATE-MODEL-PLUGINS-SEED.", show_default=False),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN", help="Go on with this run exactly where it stopped; takes only --without.", show_default=False
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
        "ceph run ceph.yaml --init-from runs/hard --set train.lr=1e-6",
    )
)
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
    if resume is not None:
        others = {
            "CONFIG": config,
            "--preset": preset,
            "--plugin": plugin,
            "--set": set_,
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
                f"--resume takes only --without, not {given}",
                hint=f"to change a run's settings, start a new one from its weights: --init-from {resume}",
            )

    with EndingOfRun(resume or out) as ending:
        _run(
            ending,
            config,
            {"preset": preset, "plugins": plugin or (), "settings": set_ or (), "data": data, "seed": seed},
            tuple(without or ()),
            resume=resume,
            init_from=init_from,
            dry_run=dry_run,
            trace_hooks=trace_hooks,
        )


def _run(
    ending: EndingOfRun,
    config: Path | None,
    layers: Mapping[str, Any],
    without: tuple[str, ...],
    *,
    resume: Path | None,
    init_from: Path | None,
    dry_run: bool,
    trace_hooks: bool,
) -> None:
    """Train or go on, and print the figures; `layers` are the arguments of `resolve`."""
    from rich.console import Console

    from ceph.evaluation.runs import read_settings
    from ceph.hooks.trace import traced
    from ceph.report.progress import watcher_for
    from ceph.report.tables import landmark_table

    console = Console(highlight=False, quiet=bool(rank_of_job()))
    with watcher_for(console) as watcher, traced() if trace_hooks and not rank_of_job() else nullcontext():
        if resume is not None:
            from ceph.run import resume as go_on

            result = go_on(resume, without=without, watcher=watcher)
        else:
            from ceph.config.load import resolve

            resolved = resolve(config, without=without, **layers)
            from ceph.run import check, train
            from ceph.training.folder import default_name

            if dry_run:
                console.print(check(resolved), markup=False)
                return
            settings = resolved.config
            ending.folder = ending.folder or default_name(
                settings.model.backbone, tuple(resolved.plugins), settings.train.seed
            )
            result = train(resolved, out=ending.folder, init_from=init_from, watcher=watcher)
    scales = read_settings(result.folder / "config.yaml").get("evaluate.scales", "")
    title = f"validation, epoch {result.best_epoch + 1}"  # a line of the epoch is of one scale
    console.print(landmark_table(result.metrics, f"{title}, averaged over scales {scales}" if "," in scales else title))
    _print_shares(console, result.folder)
    console.print(f"run: {result.folder}", markup=False, soft_wrap=True)
    if (result.folder / "report.html").is_file():
        console.print(f"look at it: {result.folder / 'report.html'}", markup=False, soft_wrap=True)
    console.print(f"next: ceph evaluate {result.folder}", markup=False, soft_wrap=True)


class EndingOfRun(Ending):
    """Says whether there is a checkpoint to go on from in `folder`."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self.folder = folder

    def interrupted(self) -> Interrupted:
        """What a person reads."""
        if self.folder is not None and any((self.folder / "checkpoints").glob("last.*")):
            what, hint = "the checkpoint is written", f"go on with: ceph run --resume {self.folder}"
        else:
            what, hint = "training had not begun", "the same command starts again"
        return Interrupted(f"stopped by {signal.Signals(self.signal).name}; {what}", signal=self.signal, hint=hint)


def _print_shares(console: Console, folder: Path) -> None:
    import json

    from ceph.hooks.trace import FILE, share_line

    if (folder / FILE).is_file():
        console.print(share_line(json.loads((folder / FILE).read_text("utf-8"))), markup=False, soft_wrap=True)
