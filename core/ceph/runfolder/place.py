"""Where a run lies: the names in its folder, whose it is while a process holds it, and what may not stand there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ceph.errors import CephError, ConfigError
from ceph.files import FRESH, is_plain

CONFIG, STATE, LOG, REPORT = "config.yaml", "state.json", "log.txt", "report.html"
ENVIRONMENT, FINGERPRINT, ADAPTED = "environment.json", "data_fingerprint.json", "adapt.json"
EPOCHS, FIGURES, COST = "metrics.jsonl", "metrics.json", "hooks.json"
HELD_OUT = "held-out.json"
CHECKPOINTS, PLUGINS = "checkpoints", "plugins"
MEMBERS, INSIDE = "members.json", "members"  # of a folder of several runs
LOCK = ".lock"
DRAWN = "drawn"  # the run that ships with the package, by its name
SHIPPED = {DRAWN: Path(__file__).parent / DRAWN}


def default_name(backbone: str, plugins: Sequence[str], seed: int) -> Path:
    """`runs/<date>-<model>-<plugins>-<seed>` in the current folder."""
    now = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / "-".join([now, backbone, *(["+".join(sorted(plugins))] if plugins else []), f"s{seed}"])


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run, of whatever version."""
    return (folder / CONFIG).is_file()


def located(named: Path | str) -> Path:
    """The folder of a run that is named: `drawn` is the run that ships, unless a run of that name lies here."""
    path = Path(named)
    return path if is_run(path) else SHIPPED.get(str(path), path)


def is_adapted(folder: Path) -> bool:
    """Whether the folder holds a run that `ceph adapt` has made of another."""
    return (folder / ADAPTED).is_file()


def has_checkpoint(folder: Path) -> bool:
    """Whether there is something to go on from."""
    return any((folder / CHECKPOINTS).glob("last.*")) or any((folder / CHECKPOINTS).glob("previous.*"))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one CephError what could not be written inside, and what to do."""
    try:
        yield
    except OSError as error:
        raise CephError(
            f"cannot write {path}: {error.strerror or error}",
            hint="free some space, or make the folder writable; what was there before is intact",
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock dies with it. Raises CephError where another process holds it.

    What a killed process has left half written is removed.
    """
    lock = FileLock(folder / LOCK)
    try:
        for inner in (CHECKPOINTS, PLUGINS):
            if (folder / inner).is_symlink():
                raise ConfigError(
                    f"{folder / inner} is a link: what a run writes stays in its folder",
                    hint="put the folder itself there, or make a link to the run folder as a whole",
                )
        if not is_plain(folder / LOCK):  # locking empties the file
            (folder / LOCK).unlink(missing_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise CephError(
            f"{folder} is in use by another run", hint="wait for it, stop it, or use another folder"
        ) from error
    except OSError as error:
        raise CephError(
            f"cannot lock {folder}: {error.strerror or error}", hint="make the folder writable, or use another one"
        ) from error
    try:
        for place in (folder, folder / CHECKPOINTS):
            for left in place.glob(f".*{FRESH}"):
                with suppress(OSError):
                    left.unlink()
        yield
    finally:
        lock.release()


@contextmanager
def created(folder: Path) -> Iterator[None]:
    """Make a new run folder and hold it as `locked` does. Raises ConfigError where it holds a run already.

    A run that ended before its first checkpoint left nothing to go on with: another may take its place. What is there
    is looked at under the lock, so that of two runs that start at a time only one finds the folder free.
    """
    try:
        (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the run folder {folder}: {error.strerror}", key="--out") from error
    with locked(folder):
        if is_run(folder) and (has_checkpoint(folder) or (folder / MEMBERS).exists()):
            raise ConfigError(
                f"{folder} already holds a run",
                key="--out",
                hint=f"go on with it: ceph run --resume {folder}; or give the new run another folder",
            )
        (folder / STATE).unlink(missing_ok=True)
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process holds the run folder, as far as this user may find out."""
    path = folder / LOCK
    if not is_plain(path) or not os.access(path, os.W_OK):
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False
