"""`ceph view`: a local page to look at the films of runs."""

from __future__ import annotations

import importlib.util
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ceph.cli import options
from ceph.errors import ConfigError

app = options.new_app()


@app.command(
    epilog=options.examples(
        "ceph view runs/first",
        "ceph view runs/first runs/second             two runs side by side",
        "ceph view runs/now --no-open --port 8642     then open the printed address, through a tunnel, say",
    )
)
def view(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port; 0: any that is free.")] = 0,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,  # noqa: FBT002
    data: options.Data = None,
    trust: options.Trust = False,  # noqa: FBT002
) -> None:
    """Look at films with the points of run, truth and readers, at maps, and at the curves of a run in progress.

    The page is served on this machine only, at an address with a secret in it. --data says where the films are now.
    """
    absent = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(f"ceph view needs {' and '.join(absent)}", hint="pip install 'ceph-trainer[web]'")
    from ceph.config.load import resolve_run
    from ceph.view.runs import ViewedRun
    from ceph.view.server import address, listen, make_server, new_secret

    if trust:
        for folder in runs:
            resolve_run(folder)
    viewed = [ViewedRun(folder, data) for folder in runs]
    for run in viewed:
        if run.missing:
            typer.echo(f"{run.folder}: its films are not to be seen: {run.missing}", err=True)
    listening, secret = listen(port), new_secret()
    url = address(listening, secret)
    typer.echo(f"{url}\nEnd with Ctrl-C.")
    if open_:
        webbrowser.open(url)
    try:
        make_server(viewed, secret).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
