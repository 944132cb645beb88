"""The `ceph` command: a table of commands, each imported only when it is called; and how errors end it."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from ceph.cli.console import exit_code, is_mine_to_tell, print_error, rank_of_job, show_names
from ceph.cli.hints import for_command, for_option
from ceph.cli.options import HELP_NAMES, TRUST, examples
from ceph.errors import CephError
from ceph.files import discard
from ceph.hooks.trust import Untrusted, agree
from ceph.stop import ended_by_signals
from ceph.training.memory import ANYTHING, explained

# name -> (module with an `app`, the line in `ceph --help`); `ceph --help` imports none of the modules.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("ceph.cli.run", "Train a detector; strategies are switched on by name."),
    "plan": ("ceph.cli.plan", "Show who answers which hook, before anything trains."),
    "evaluate": ("ceph.cli.evaluate", "Score a run, or any tool's points, on a split, in mm."),
    "predict": ("ceph.cli.predict", "Find the landmarks of films without truth."),
    "corrections": ("ceph.cli.corrections", "Say how many points of a run people moved, and how far."),
    "analyse": ("ceph.cli.analyse", "Measure films: angles, distances and ratios, with intervals."),
    "adapt": ("ceph.cli.adapt", "Move a run to another place by a few films marked there."),
    "compare": ("ceph.cli.compare", "Compare configs over films and seeds, with intervals."),
    "ablate": ("ceph.cli.ablate", "Train with and without each plugin; show what each changes."),
    "folds": ("ceph.cli.folds", "Cross-validate: a run for each fold; together they predict."),
    "ensemble": ("ceph.cli.ensemble", "Put runs into one folder that predicts by their mean."),
    "export": ("ceph.cli.export", "Write a run as a folder without torch: ONNX and a runner."),
    "suggest": ("ceph.cli.suggest", "Choose the next fine-tune from the errors of a run."),
    "report": ("ceph.cli.report", "Write report.html of a run anew, and figures for a paper."),
    "runs": ("ceph.cli.runs", "List runs with their results."),
    "plugins": ("ceph.cli.plugins", "List, show, check and begin plugins."),
    "config": ("ceph.cli.config", "Write a config, show it as resolved, or print its schema."),
    "view": ("ceph.cli.view", "Look at the films of runs in a browser, and at their curves."),
    "bench": ("ceph.cli.bench", "Measure where the time of a training step goes."),
    "doctor": ("ceph.cli.doctor", "Say what stands in the way on this machine, and what to do."),
    "data": ("ceph.cli.data", "Look at what training loads, or draw the synthetic data set."),
}
WORDS = "ceph.words"  # of the call, in a context's meta
PROGRAMS = ("ceph", "ceph-trainer")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}  # of the output
ROUNDS = 20  # of asking, in one call


class LazyGroup(typer.core.TyperGroup):
    """A group whose commands are imported when they are called, and are one line each until then."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002, D102 - the base's signature and sentence
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002, D102
        if cmd_name not in COMMANDS:
            return None
        return typer.core.TyperCommand(name=cmd_name, help=COMMANDS[cmd_name][1])

    def parse_args(self, ctx: Any, args: list[str]) -> Any:  # noqa: D102
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:  # noqa: D102
        # Signals before the command is imported: click has its own word for Ctrl-C, and exit code 1.
        with hinted(ctx), ended_by_signals():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: D102
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and (meant := for_command(name, COMMANDS)):
            ctx.fail(f"No such command '{name}'; {meant}")
        found, command, rest = super().resolve_command(ctx, args)
        return found, load_command(str(found)) if command is not None else None, rest


@contextmanager
def hinted(ctx: Any) -> Iterator[None]:
    """An unknown option gets a hint at what was meant."""
    try:
        yield
    except Exception as error:
        if (option := getattr(error, "option_name", None)) and hasattr(error, "possibilities"):  # click's NoSuchOption
            told: Any = error
            command = told.ctx.command if told.ctx else ctx.command
            names = [name for one in command.params for name in one.opts]
            if meant := for_option(option, ctx.meta[WORDS], names):
                told.message, told.possibilities = f"{told.message}; {meant}", None
        raise


def load_command(name: str) -> Any:
    """Import the module of a command and build it."""
    command = typer.main.get_command(importlib.import_module(COMMANDS[name][0]).app)
    command.name = name
    return command


def _agreed(error: Untrusted, words: Sequence[str]) -> bool:
    """Whether these files may run: by --trust, or by the person at the terminal; SystemExit where that one refuses."""
    if TRUST in words:
        return True
    if rank_of_job() is not None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print_error(error)
    try:
        said = typer.confirm("run this code, now and later?", err=True)
    except typer.Abort:
        said = False
    return said or sys.exit(error.exit_code)


def _version(value: bool) -> None:  # noqa: FBT001 - typer calls it so
    if value:
        from ceph import __version__

        typer.echo(f"ceph {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
]

app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": HELP_NAMES},
    epilog=examples(
        "ceph run                                              a first look, on synthetic films",
        "ceph run --preset quick --data ./films --plugin hard-mining",
        "ceph plugins list                                     what can be switched on",
        "ceph config init                                      a ceph.yaml to start from",
    ),
)


@app.callback()
def root(
    version: Version = False,  # noqa: FBT002 - a flag
) -> None:
    """Train landmark detectors for lateral cephalograms; switch strategies on by name and compare them."""


def _end_workers() -> None:
    """End loader workers that a run left: an interpreter that ends waits for each."""
    processes = sys.modules.get("multiprocessing")
    for child in processes.active_children() if processes else ():
        child.kill()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors meant for a person print without a traceback."""
    program = Path(sys.argv[0]).name
    if rank_of_job() is not None:  # before torch is imported: its warnings are for its developers
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    show_names()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with explained(f"running `{' '.join(['ceph', *words[:1]])}`", ANYTHING):
            for left in reversed(range(ROUNDS)):
                try:
                    app(words, prog_name=program if program in PROGRAMS else "ceph")
                except Untrusted as error:
                    if not left or not _agreed(error, words):
                        raise
                    agree(error.files)
    except OSError as error:  # those of files are told where they are written
        if error.errno not in FULL:
            raise
        reason = (error.strerror or str(error)).lower()
        print(f"error: cannot write what `ceph {' '.join(words[:1])}` prints: {reason}", file=sys.stderr)
        discard(1)
        return 1
    except CephError as error:
        _end_workers()
        if is_mine_to_tell(error):
            print_error(error)
        return exit_code(error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
