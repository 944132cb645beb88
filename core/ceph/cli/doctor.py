"""`ceph doctor`: what on this machine stands in the way, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from ceph.cli import options
from ceph.cli.console import table

app = options.new_app()

SIGNS = {"ok": "ok", "note": "note", "warn": "WARNING", "fail": "FAILS"}


@app.command(epilog=options.examples("ceph doctor", "ceph doctor --batch", "ceph doctor --json"))
def doctor(
    batch: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--batch", help="Try how large a batch of the default network trains here: minutes.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Look at versions, device, weights, cache, disk, memory, threads and plugins, and say what to do about each.

    Every installed plugin is imported. The exit code is 1 where something will not work.
    """
    from ceph.tools.doctor import examine

    found = examine(batch=batch)
    failures = sum(one.state == "fail" for one in found)
    warnings = sum(one.state == "warn" for one in found)
    if json:
        import dataclasses
        import json as json_module

        content = {"ok": not failures, "findings": [dataclasses.asdict(one) for one in found]}
        typer.echo(json_module.dumps(content, indent=2, ensure_ascii=False))
    else:
        rows = []
        for one in found:
            rows.append((SIGNS[one.state], one.check, one.what))
            if one.remedy:
                rows.append(("", "", f"-> {one.remedy}"))
        typer.echo(table(rows))
        counts = f"{failures} fail, {warnings} warn" if failures or warnings else "nothing is in the way"
        typer.echo(f"\n{counts}")
    if failures:
        raise typer.Exit(1)
