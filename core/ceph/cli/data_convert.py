"""`ceph data convert`: write a set in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.errors import ConfigError

EXAMPLES = options.examples(
    "ceph data convert ./isbi2015 ./isbi-coco --to coco --mm-per-px 0.1",
    "ceph data convert ./export ./films --to csv --format labelstudio --mm-per-px 0.1",
    "ceph data convert ./scans ./films --to csv --landmarks S,N,A,B      columns without names",
)


def complete_format(incomplete: str) -> list[str]:
    """Names of formats that begin so."""
    from ceph.data.formats.find import WRITERS

    return [name for name in WRITERS if name.startswith(incomplete)]


def convert(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="[SRC] DST",
            help="Folder of the set (or --data), and a new folder.",
            show_default=False,
        ),
    ],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="Format to write.", autocompletion=complete_format, show_default=False)
    ],
    format: Annotated[  # noqa: A002 - the option's name
        str, typer.Option(metavar="FORMAT", help="Format of SRC.", autocompletion=complete_format)
    ] = "auto",
    mm_per_px: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Millimetres of a film's pixel, where SRC does not say.", show_default=False),
    ] = None,
    landmarks: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Landmarks to keep, or names of numbered points.", show_default=False),
    ] = None,
    truth: Annotated[
        str, typer.Option(metavar="NAME", help="Reader to write where FORMAT holds one: mean, or a reader's name.")
    ] = "mean",
    link: Annotated[bool, typer.Option("--link", help="Hard-link the films instead of copying them.")] = False,  # noqa: FBT002 - a flag
    data: options.Data = None,
    plugin: options.Plugins = None,
) -> None:
    """Write the films and points of SRC as FORMAT into DST, and say what FORMAT has no place for."""
    from ceph.data.convert import convert as write
    from ceph.data.formats.find import READERS

    if len(folders) != (1 if data else 2):
        raise ConfigError(
            "two folders are needed", key="DST", hint="`ceph data convert SRC DST`, or DST and --data SRC"
        )
    source, target = (data, *folders) if data else folders
    readers = READERS
    if plugin:
        resolved = options.resolve_flags(plugin=plugin)
        from ceph.run.assembly import make_hooks

        readers = (*READERS, *make_hooks(resolved).merge("dataset_formats").values())
    done = write(
        source,
        target,
        to,
        format=format,
        mm_per_px=mm_per_px,
        landmarks=[name.strip() for name in landmarks.split(",")] if landmarks is not None else None,
        truth=truth,
        link=link,
        readers=readers,
    )
    for what in done.lost:
        typer.echo(f"not kept: {what}", err=True)
    if done.redrawn:
        typer.echo(f"{done.redrawn} DICOM films became 8-bit PNG, seen through their window, without their header")
    typer.echo(
        f"wrote {done.films} films of format {done.format} as {to} into {target}, and read them back: points, splits, "
        "groups, machines and spacings are equal"
    )
    if done.table:
        typer.echo(f"{done.table} there holds what {to} has no place for, such as splits, groups and machines")
