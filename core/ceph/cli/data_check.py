"""`ceph data check`: what is wrong with a data set, before anything trains on it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ceph.cli import options
from ceph.cli.console import write_file
from ceph.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ceph.config.load import Resolved
    from ceph.config.plugins import Imports
    from ceph.data.formats.base import DataSet
    from ceph.data.types import Points

EXAMPLES = options.examples(
    "ceph data check ./films",
    "ceph data check --run runs/folds                      mistakes that a model finds which never saw the film",
    "ceph data check ./isbi2015 --set data.mm_per_px=0.1 --json check.json",
)


@options.asking
def check(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="Folder of the data set; default: the config's.", show_default=False),
    ] = None,
    data: options.Data = None,
    plugin: options.Plugins = None,
    set_: options.Settings = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Hold the points against what this run found on films that it never saw, such as `ceph folds` leaves.",
            show_default=False,
        ),
    ] = None,
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
    if run is None:
        resolve = partial(options.resolve_flags, plugin=plugin, set_=set_, data=path, reading=True)
    else:
        resolve = partial(of_run, run, set_, path)
    resolved = resolve(imports="trusted" if plugin else "none")
    from ceph.data.check.check import check as check_data
    from ceph.data.check.check import outside_noted, unreadable
    from ceph.report.console import PlainConsole
    from ceph.report.data_check import show
    from ceph.run.films import read_sparingly

    where = str(path or resolved.config.data.place)
    with outside_noted() as outside:
        try:
            found = read_sparingly(resolved, resolve)
        except ConfigError:
            raise
        except DataError as error:
            if any(problem.key for problem in error.problems):  # the wrong folder, not a fault of a set
                raise
            checked = unreadable(where, error)
        else:
            checked = check_data(where, found, outside, None if run is None else found_by(run, found))
    show(checked, PlainConsole())
    if json_ is not None:
        write_file(json_, json.dumps(checked.as_dict(), indent=2, ensure_ascii=False) + "\n", "--json")
    if checked.errors:
        raise typer.Exit(1)


def of_run(run: Path, settings: list[str] | None, path: Path | None, imports: Imports = "all") -> Resolved:
    """The config of a run, with the set's own splits."""
    from ceph.config.load import resolve_run
    from ceph.runfolder import require_run

    require_run(run)
    return resolve_run(run, settings=["data.fold=null", *(settings or ())], data=path, imports=imports)


def found_by(run: Path, data: DataSet) -> Points:
    """What the run found on films that it never saw [N, K, 2]. Raises ConfigError where that is nothing."""
    import numpy as np

    from ceph.runfolder import unseen_points

    points = unseen_points(run, [sample.id for sample in data.samples], data.landmarks)
    if np.isnan(points).all():
        hint = f"ceph folds scores each film by a run that never saw it; or: ceph evaluate {run} --split validation"
        raise ConfigError(f"{run} has found nothing on films of this set that it never saw", key="--run", hint=hint)
    return points
