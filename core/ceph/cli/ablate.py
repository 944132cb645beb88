"""`ceph ablate`: what each plugin does, by training with it and without it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from ceph.cli import options
from ceph.cli.console import write_file

app = options.new_app()

Seeds = Annotated[int, typer.Option(metavar="N", min=1, help="Runs of each cell, with seeds from train.seed on.")]
Design = Annotated[
    Literal["leave-one-out", "add-one", "full"],
    typer.Option(
        help="leave-one-out: all, and all but one; add-one: none, and each alone; full: every combination.",
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs; designs may share it.")]
Splits = Annotated[
    list[str] | None,
    typer.Option(
        "--split", metavar="S", help="Report on this split too, such as test1. Repeatable.", show_default=False
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Runs at a time; default: 1 on a GPU, else the cores.", show_default=False),
]
On = Annotated[
    Literal["local", "ray"], typer.Option(help="Where: this machine, or a ray cluster with a shared file system.")
]
Hardest = Annotated[int, typer.Option(metavar="N", min=1, help="How many of the hardest landmarks to report on.")]
Landmarks = Annotated[
    str | None, typer.Option(metavar="A,B", help="Report on these instead of the hardest.", show_default=False)
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there too.", show_default=False)
]
MarkdownFile = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Write a page there too.", show_default=False)
]


@app.command(
    epilog=options.examples(
        "ceph ablate ceph.yaml --plugin hard-mining --plugin weighted-loss --split test1",
        "ceph ablate --preset quick --data ./isbi2015 --plugin multi-scale --design add-one --seeds 5",
        "ceph ablate --plugin ./my_idea.py --out runs/idea --markdown idea.md",
    )
)
@options.asking
def ablate(
    config: options.ConfigFile = None,
    preset: options.Preset = None,
    plugin: options.Plugins = None,
    set_: options.Settings = None,
    data: options.Data = None,
    seeds: Seeds = 3,
    design: Design = "leave-one-out",
    out: Out = Path("runs/ablation"),
    split: Splits = None,
    jobs: Jobs = None,
    on: On = "local",
    hardest: Hardest = 5,
    landmarks: Landmarks = None,
    json_: JsonFile = None,
    markdown: MarkdownFile = None,
) -> None:
    """Train with and without each plugin and print what each changes, with intervals.

    Interrupted or failed runs go on, and finished ones are kept, when the same command is given again.
    """
    from ceph.ablation.ablate import Ablation
    from ceph.ablation.ablate import ablate as run_ablation
    from ceph.ablation.cells import RunCall
    from ceph.report.ablation import grids, rich_table
    from ceph.report.console import PlainConsole
    from ceph.runfolder import finite

    console = PlainConsole()
    config, data = options.file_and_folder(config, data)
    asked = Ablation(
        common=RunCall(config, preset, data, settings=tuple(set_ or ())),
        plugins=tuple(plugin or ()),
        design=design,
        seeds=seeds,
        out=out,
        splits=tuple(split or ()),
        hardest=hardest,
        landmarks=tuple(s.strip() for s in landmarks.split(",")) if landmarks else (),
        jobs=jobs,
        on=on,
    )
    found = run_ablation(asked, lambda line: console.print(line, soft_wrap=True))
    for report in found.reports:
        console.print(f"\n{report.caption()}")
        for grid in grids(report):
            console.print(rich_table(grid))
    if json_ is not None and found.reports:
        content = finite({report.split: asdict(report) for report in found.reports})
        write_file(json_, json.dumps(content, indent=2, ensure_ascii=False) + "\n", "--json")
    if markdown is not None and found.reports:
        write_file(markdown, found.page, "--markdown")
    found.raise_failures()
