"""members.json: a folder of several runs that predicts as one; the runs lie in it, so that it can be moved whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ceph.data.strict_json import Field
from ceph.files import read_bytes, write_bytes
from ceph.runfolder.place import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    EPOCHS,
    FIGURES,
    FINGERPRINT,
    HELD_OUT,
    INSIDE,
    MEMBERS,
    PLUGINS,
    STATE,
    writing,
)
from ceph.runfolder.records import read_object, write_json

FILES = (ENVIRONMENT, FINGERPRINT, EPOCHS, FIGURES, HELD_OUT, STATE)
MAX_BYTES = 2**36


def read_members(folder: Path) -> tuple[Path, ...]:
    """The run folders of the members, in order; none where the folder is a run of its own.

    Raises DataError where members.json is damaged, or names what does not lie in the folder.
    """
    path = folder / MEMBERS
    if not path.exists():
        return ()
    listed = Field(read_object(path), path)["members"]
    names = [item.text() for item in listed.items()]
    for name in names:
        if name in ("", ".", "..") or Path(name).name != name:
            listed.fail(f"{name!r:.60} is no name of a folder in {INSIDE}/")
    return tuple(folder / INSIDE / name for name in names)


def write_members(folder: Path, names: Sequence[str]) -> None:
    """Say which folders in `members/` are the members, in order."""
    write_json(folder / MEMBERS, {"members": list(names)})


def version(folder: Path) -> str:
    """Twelve hexadecimal digits that change with the config and the best weights of a run, or of its members."""
    found = hashlib.sha256()
    for run in (folder, *read_members(folder)):
        for path in (run / CONFIG, *sorted((run / CHECKPOINTS).glob("best.*.sha256"))):
            with suppress(OSError):
                found.update(read_bytes(path, MAX_BYTES))
    return found.hexdigest()[:12]


def copy_run(run: Path, to: Path) -> None:
    """Copy what predicting and comparing need of a run: all but its log, its report and what resuming needs."""
    best, tables = sorted((run / CHECKPOINTS).glob("best.*")), sorted(run.glob("*.csv"))
    _copy(run, to, [*(path.relative_to(run) for path in (*best, *tables)), *map(Path, FILES)])
    copy_config(run, to)


def copy_config(run: Path, to: Path) -> None:
    """Copy a run's config and the plugins that it has in files; then `to` is a run."""
    _copy(run, to, [*(path.relative_to(run) for path in sorted((run / PLUGINS).rglob("*.py"))), Path(CONFIG)])


def _copy(run: Path, to: Path, names: Sequence[Path]) -> None:
    for name in names:
        with writing(to / name):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                write_bytes(to / name, read_bytes(run / name, MAX_BYTES))
