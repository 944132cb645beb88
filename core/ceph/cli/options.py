"""The options that commands share, and the config that they come to; and how a command's app is made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ceph.errors import ConfigError

if TYPE_CHECKING:
    from ceph.config.load import Resolved
    from ceph.config.plugins import Imports

HELP_NAMES = ["-h", "--help"]
RUN = "The run folder, or drawn: the run that ships, which has seen drawn films only."
TRUST = "--trust"


def new_app(help: str = "", *, epilog: str = "", **settings: Any) -> typer.Typer:  # noqa: A002 - typer's own name
    """An app for one command or one group of commands, plain text, as all of ceph's."""
    return typer.Typer(
        help=help or None,
        epilog=epilog or None,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": HELP_NAMES},
        **settings,
    )


def examples(*lines: str) -> str:
    """An epilog of example calls, one a line, as they are."""
    # The control character keeps click from re-wrapping the lines below it.
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def complete_preset(incomplete: str) -> list[str]:
    """Names of presets that begin so."""
    from ceph.config.layers import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def complete_plugin(incomplete: str) -> list[tuple[str, str]]:
    """Names of installed plugins that begin so, or .py files where a path was begun."""
    if incomplete.startswith((".", "/", "~")):
        folder, _, stem = incomplete.rpartition("/")
        found = Path(folder or ".").expanduser().glob("*")
        lead = f"{folder}/" if folder or incomplete.startswith("/") else ""
        wanted = (path for path in sorted(found) if path.name.startswith(stem))
        return [
            (f"{lead}{path.name}{'/' if path.is_dir() else ''}", "")
            for path in wanted
            if path.is_dir() or path.suffix == ".py"
        ]
    from ceph.hooks.discovery import installed

    return [(plugin.name, plugin.description) for plugin in installed() if plugin.name.startswith(incomplete)]


def complete_key(incomplete: str) -> list[tuple[str, str]]:
    """Keys of the config that begin so, with their meaning, for `--set`."""
    from ceph.config.starter import keys

    return [(f"{key}=", info.description or "") for key, info in keys() if key.startswith(incomplete)]


ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="CONFIG|DIR",
        help="Config file, or folder of the data set; default: ./ceph.yaml if it is there.",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Lay a preset over the file.", autocompletion=complete_preset, show_default=False
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="NAME|FILE",
        help="Switch a plugin on: a name, ./file.py or ./file.py:Class. Repeatable.",
        autocompletion=complete_plugin,
        show_default=False,
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="NAME",
        help="Switch a plugin off. Repeatable.",
        autocompletion=complete_plugin,
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set any key of the config, such as train.lr=1e-4. Repeatable.",
        autocompletion=complete_key,
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Folder of the data set (data.path).", show_default=False),
]
Trust = Annotated[
    bool,
    typer.Option(TRUST, help="Run plugins in files that somebody else's run or config names, now and later, unasked."),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", help="Seed of everything random (train.seed).", show_default=False),
]


def file_and_folder(config: Path | None, data: Path | None) -> tuple[Path | None, Path | None]:
    """The config's file and the data set's folder, which may be given in the file's place. Raises ConfigError."""
    if config is None or not config.is_dir():
        return config, data
    if (config / "config.yaml").is_file():
        raise ConfigError(f"{config} is a run folder", key="CONFIG", hint=f"its config is {config / 'config.yaml'}")
    return None, one_folder(config, data)


def one_folder(argument: Path | None, data: Path | None) -> Path | None:
    """The folder of the data set, given as an argument or by --data. Raises ConfigError where both are given."""
    if argument is not None and data is not None:
        raise ConfigError(f"two folders are given: {argument} and {data}", key="--data", hint="give the folder once")
    return argument if data is None else data


def resolve_flags(
    config: ConfigFile = None,
    preset: Preset = None,
    plugin: Plugins = None,
    without: Without = None,
    set_: Settings = None,
    data: Data = None,
    seed: Seed = None,
    *,
    reading: bool = False,
    imports: Imports = "all",
) -> Resolved:
    """The config that the options of `ceph run` come to. Raises ConfigError, PluginError."""
    from ceph.config.load import resolve

    config, data = file_and_folder(config, data)
    return resolve(
        config,
        preset=preset,
        plugins=plugin or (),
        without=without or (),
        settings=set_ or (),
        data=data,
        seed=seed,
        reading=reading,
        imports=imports,
    )


def with_config(
    *, reading: bool = False, imports: Imports = "all"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """On the command line the options of `resolve_flags` stand for this command's first argument, what they come to."""

    def over(command: Callable[..., None]) -> Callable[..., None]:
        flags, own = _parameters(resolve_flags), _parameters(command)[1:]

        @functools.wraps(command)
        def call(**given: Any) -> None:
            options = {flag.name: given.pop(flag.name) for flag in flags}
            command(resolve_flags(**options, reading=reading, imports=imports), **given)

        _show(call, [*flags, *own])
        return asking(call) if imports == "all" else call

    return over


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that may meet a plugin which must be trusted the option --trust; `app.main` answers by it."""

    @functools.wraps(command)
    def call(trust: bool, **given: Any) -> None:  # noqa: ARG001, FBT001
        command(**given)

    own = inspect.Parameter("trust", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Trust)
    _show(call, [*_parameters(command), own])
    return call


def _show(call: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> None:
    """Have typer read these parameters in place of the function's own."""
    call.__annotations__ = {}
    call.__dict__["__signature__"] = inspect.Signature(list(parameters))


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    """The parameters that are options."""
    # These are imported for type checkers alone, since they bring pydantic.
    later = {"Resolved": object, "Imports": object}
    found = inspect.signature(function, eval_str=True, locals=later).parameters.values()
    return [parameter for parameter in found if parameter.kind is not inspect.Parameter.KEYWORD_ONLY]
