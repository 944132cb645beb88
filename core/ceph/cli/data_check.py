"""`ceph data check`: what is wrong with a data set, before anything trains on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file
from ceph.errors import ConfigError, DataError

EXAMPLES = options.examples(
    "ceph data check ./films",
    "ceph data check ./isbi2015 --set data.mm_per_px=0.1 --json check.json",
)


def check(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="Folder of the data set; default: the config's.", show_default=False),
    ] = None,
    data: options.Data = None,
    plugin: options.Plugins = None,
    set_: options.Settings = None,
    json_: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all that was found there too.", show_default=False),
    ] = None,
) -> None:
    """Check films, points and readers of a data set, and find films that are copies of others.

    Ends with 1 where training on the set would be wrong: a film in two splits or unreadable, points that are swapped or
    impossible. All splits are opened, test splits too; nothing is written but FILE.
    """
    path = options.one_folder(path, data)
    resolved = options.resolve_flags(plugin=plugin, set_=set_, data=path)
    from ceph.data.check.check import check as check_data
    from ceph.data.check.check import outside_noted, unreadable
    from ceph.report.console import PlainConsole
    from ceph.report.data_check import show
    from ceph.run.assembly import make_hooks
    from ceph.run.films import read_data

    where = str(path or resolved.config.data.place)
    with outside_noted() as outside:
        try:
            found = read_data(resolved.config, make_hooks(resolved))
        except ConfigError:
            raise
        except DataError as error:
            if any(problem.key for problem in error.problems):  # the wrong folder, not a fault of a set
                raise
            checked = unreadable(where, error)
        else:
            checked = check_data(where, found, outside)
    show(checked, PlainConsole())
    if json_ is not None:
        write_file(json_, json.dumps(checked.as_dict(), indent=2, ensure_ascii=False) + "\n", "--json")
    if checked.errors:
        raise typer.Exit(1)
