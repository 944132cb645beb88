"""state.json: what the run is doing, or how it ended; and the number of the run folder's format."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, cast, get_args

from ceph.data.strict_json import Field
from ceph.errors import CephError, ConfigError, Interrupted
from ceph.runfolder.place import CONFIG, DRAWN, ENVIRONMENT, LOCK, STATE, is_adapted, is_locked, is_run
from ceph.runfolder.records import mapping, read_object, write_json

log = logging.getLogger("ceph")

FORMAT = 1  # of the run folder: another number where a file of it is read otherwise
FORMAT_ADAPTED = 2  # its checkpoint holds offsets, which a version that knows only 1 would pass over
Doing = Literal["running", "finished", "interrupted", "failed"]


@dataclass(frozen=True)
class State:
    """What a run does since when, or how it ended, with `why`; and the process that wrote this.

    `seconds` is the time trained so far, None where a part of it is not known.
    """

    state: Doing
    since: str = ""
    why: str = ""
    seconds: float | None = None
    pid: int = 0
    host: str = ""


def require_run(folder: Path) -> None:
    """Raise ConfigError unless `folder` holds a run, and one of this format."""
    if not is_run(folder):
        hint = (
            f"give the folder that `ceph run` printed; {DRAWN}, the run that ships, is there to predict and begin with"
        )
        raise ConfigError(f"{folder} is no run folder: it holds no {CONFIG}", hint=hint)
    read_state(folder)


def read_state(folder: Path) -> State:
    """The state as it was written last.

    Raises ConfigError where the folder is of another format, or of before there were numbers, and DataError where
    state.json is damaged.
    """
    path = folder / STATE
    whole = Field(read_object(path) if path.exists() else {}, path)
    number, reads = whole.value.get("format"), FORMAT_ADAPTED if is_adapted(folder) else FORMAT
    if number != reads:
        was = f"its format is {number!r:.40}" if path.exists() else f"it holds no {STATE}"
        raise ConfigError(
            f"{folder} is a run of another version of ceph: {was}, this version reads {reads}", hint=_use(folder)
        )
    state, seconds = whole["state"].text(), whole.get("seconds")
    if state not in get_args(Doing):
        whole["state"].fail(f"must be one of {', '.join(get_args(Doing))}, not {state[:40]!r}")
    return State(
        cast("Doing", state),
        whole["since"].text(),
        whole["why"].text(),
        None if seconds is None or seconds.value is None else seconds.number(),
        int(whole["pid"].number()),
        whole["host"].text(),
    )


def _use(folder: Path) -> str:
    """What to do with a folder of another format."""
    weights = f"start a new run from its weights: ceph run --init-from {folder}/checkpoints/best.safetensors ..."
    with suppress(CephError):
        version = mapping(read_object(folder / ENVIRONMENT), "versions").get("ceph-trainer")
        if isinstance(version, str) and version.isprintable():
            return f"use the version that made it (ceph-trainer {version[:40]}), or {weights}"
    return f"use the version that made it, or {weights}"


def write_state(folder: Path, state: State) -> None:
    """Write state.json. Raises CephError where that cannot be."""
    write_json(folder / STATE, {"format": FORMAT_ADAPTED if is_adapted(folder) else FORMAT, **asdict(state)})


def standing(folder: Path) -> State:
    """The state as it is: `interrupted` where the process is gone that was running it.

    Raises what `read_state` raises.
    """
    state = read_state(folder)
    if state.state != "running" or is_locked(folder):
        return state
    known = os.access(folder / LOCK, os.W_OK) or not (folder / LOCK).exists()  # the lock of a run dies with its process
    if known or (state.host == socket.gethostname() and not _lives(state.pid)):
        return replace(state, state="interrupted", why="its process ended without a word")
    return state  # somebody else's, whose lock cannot be tried


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except OSError:
        return True
    return True


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Inside, the run is `running`; at the end it is finished, interrupted or failed, as the block ended."""
    before = None
    with suppress(CephError):
        before = read_state(folder)
    spent = 0.0 if before is None else before.seconds if before.state != "running" else None
    began = time.monotonic()

    def now(state: Doing, why: str = "") -> State:
        seconds = None if spent is None else round(spent + time.monotonic() - began, 1)
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        return State(state, since, why, seconds, os.getpid(), socket.gethostname())

    write_state(folder, now("running"))
    try:
        yield
    except BaseException as error:
        failed = isinstance(error, Exception) and not isinstance(error, Interrupted)
        log.log(logging.ERROR if failed else logging.INFO, "stopped: %s", str(error) or type(error).__name__)
        with suppress(CephError):  # a full disk: the lock is gone, so the run counts as interrupted
            write_state(folder, now("failed" if failed else "interrupted", str(error)))
        raise
    write_state(folder, now("finished"))
