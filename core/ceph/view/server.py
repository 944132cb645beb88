"""The page's server: bound to this machine, behind a secret in its address, and serving films by their place only."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ceph.errors import CephError, ConfigError
from ceph.evaluation.runs import short_names
from ceph.training.memory import FREE, explained
from ceph.view.runs import ViewedRun, changed, picture

PAGE = Path(__file__).parent / "page"
LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost")
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guarded:
    """Sends the headers that keep other pages out with every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self.app(scope, receive, guarded)


def make_app(runs: Sequence[ViewedRun], secret: str) -> Starlette:
    """The application; everything lies below `/<secret>/`, so that only who was told the address sees a film."""

    def run_of(request: Request) -> ViewedRun:
        number: int = request.path_params["run"]
        if number >= len(runs):
            raise HTTPException(404, "there is no such run")
        return runs[number]

    def split_of(request: Request) -> str:
        split: str = request.path_params["split"]
        if split not in run_of(request).splits():  # one of the files that are there, never a path
            raise HTTPException(404, "there is no such split")
        return split

    def page(_request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    def list_runs(_request: Request) -> Response:
        names = short_names([run.folder for run in runs])
        return JSONResponse(
            [
                {
                    "name": name,
                    "folder": str(run.folder),
                    "splits": run.splits(),
                    "missing": run.missing,
                    **run.curves(),
                }
                for name, run in zip(names, runs, strict=True)
            ]
        )

    def films(request: Request) -> Response:
        return JSONResponse(run_of(request).films(split_of(request)))

    def film(request: Request) -> Response:
        path = run_of(request).path(split_of(request), request.path_params["film"])
        return Response(picture(path, changed(path)), media_type="image/jpeg")

    def glow(request: Request) -> Response:
        run, split = run_of(request), split_of(request)
        landmarks = run.films(split)["landmarks"]
        number: int = request.path_params["landmark"]
        if number >= len(landmarks):
            raise HTTPException(404, "there is no such landmark")
        return JSONResponse(run.maps.glow(run.path(split, request.path_params["film"]), landmarks[number]))

    place = "{run:int}/{split:str}"
    answers = {
        ("/runs", "reading the curves of runs"): list_runs,
        (f"/films/{place}", "reading the points of films"): films,
        (f"/film/{place}/{{film:int}}", "showing a film"): film,
        (f"/map/{place}/{{film:int}}/{{landmark:int}}", "computing the map of a film"): glow,
    }
    inner = [
        Route("/", page),
        *(Route(path, explained(doing, FREE)(answer)) for (path, doing), answer in answers.items()),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    return Starlette(
        routes=[Mount(f"/{secret}", routes=inner)],
        middleware=[Middleware(Guarded), Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))],
        exception_handlers={CephError: _problem, HTTPException: _refused},
    )


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CephError)  # noqa: S101 - starlette asks by class
    problem = error.problems[0]
    return JSONResponse({"problem": problem.what, "hint": problem.hint}, status_code=409)


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - starlette asks by class
    text = error.detail if error.status_code != 404 else f"{error.detail}: open the address that `ceph view` printed"
    return PlainTextResponse(text, status_code=error.status_code)


def listen(port: int) -> socket.socket:
    """A socket of this machine only, at `port` (0: any that is free). Raises ConfigError where it is taken."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((LOOPBACK, port))
        listening.listen()  # who opens the address before the server is up waits for it
    except (OSError, OverflowError) as error:
        listening.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(
            f"cannot listen at {LOOPBACK}:{port}: {reason.lower()}", key="--port", hint="leave --port out: any free one"
        ) from None
    return listening


def new_secret() -> str:
    """A part of the address that nobody guesses."""
    return secrets.token_urlsafe(12)


def address(listening: socket.socket, secret: str) -> str:
    """What to open in a browser."""
    return f"http://{LOOPBACK}:{listening.getsockname()[1]}/{secret}/"


def make_server(runs: Sequence[ViewedRun], secret: str) -> uvicorn.Server:
    """A server that is not started yet: `run(sockets=[...])` serves until it is interrupted."""
    return uvicorn.Server(uvicorn.Config(make_app(runs, secret), log_level="warning", lifespan="off"))
