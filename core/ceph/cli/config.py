"""`ceph config`: init writes a starter file, show prints the config as resolved, schema its JSON schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file
from ceph.errors import ConfigError

if TYPE_CHECKING:
    from ceph.config.load import Resolved

app = options.new_app("Write a config, show it as resolved, or print its schema.", no_args_is_help=True)


@app.command(epilog=options.examples("ceph config init", "ceph config init experiments/wide.yaml"))
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path("ceph.yaml"),
) -> None:
    """Write a commented config to start from. An existing file is left as it is."""
    from ceph.config.starter import starter

    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(starter())
    except FileExistsError:
        raise ConfigError(f"{file} is there already", hint="name another file, or remove it first") from None
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {(error.strerror or str(error)).lower()}") from None
    typer.echo(f"wrote {file}; `ceph config show {file}` shows what it means")


@app.command(
    epilog=options.examples(
        "ceph config show", "ceph config show ceph.yaml --preset quick --plugin hard-mining --set train.epochs=5"
    )
)
@options.with_config(reading=True, imports="trusted")
def show(resolved: Resolved) -> None:
    """Print the config as a run would resolve it. Each value says where it comes from.

    Of plugins in files that a run folder or ./ceph.yaml names, and that you have not agreed to run, nothing is
    imported: their settings stand as they are written, without defaults.
    """
    typer.echo(resolved.dump(), nl=False)


@app.command(epilog=options.examples("ceph config schema --out ceph.schema.json"))
def schema(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it here; default: print it.", show_default=False)
    ] = None,
) -> None:
    """Print the JSON schema of the config. It covers the settings of every installed plugin, which is imported."""
    import json

    from ceph.config.schema import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return
    write_file(out, text)
