"""The runs below a folder, with how far each has come and what it has reached; a broken run is a line that says so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ceph.report.record import Record, number, read_record
from ceph.report.text import digits

DEPTH = 4  # folders below the one that is named


@dataclass(frozen=True)
class Listed:
    """A run in one line. Errors are in mm, None where nothing is scored; `note` is what could not be read."""

    name: str
    started: str
    state: str  # finished, running, interrupted or failed
    epochs: int
    planned: int | None
    validation_mm: float | None
    tests_mm: Mapping[str, float]
    plugins: tuple[str, ...]
    backbone: str
    seed: int | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def find_runs(folder: Path) -> list[Listed]:
    """The runs in `folder` and below, the latest first; a folder that is a run is itself the only one."""
    runs = [describe(run, folder) for run in run_folders(folder)]
    return sorted(runs, key=lambda run: (run.started, run.name), reverse=True)


def run_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Folders that hold a config.yaml and checkpoints or a log; links to folders are not followed."""
    if (folder / "config.yaml").is_file() and any((folder / name).exists() for name in ("checkpoints", "log.txt")):
        yield folder
        return
    if depth == 0:
        return
    try:
        below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for path in below:
        yield from run_folders(Path(path), depth - 1)


def describe(run: Path, below: Path) -> Listed:
    """One run, as far as it can be read."""
    record = read_record(run)
    scored = {split: number(figures, "mre_mm") for split, figures in record.figures.items()}
    errors = {split: mm for split, mm in scored.items() if mm == mm}
    so_far = [mm for epoch in record.epochs if (mm := number(epoch, "validation", "mre_mm")) == mm]
    planned = record.setting("train", "epochs")
    seed = record.setting("train", "seed")
    return Listed(
        name=record.name if run == below else run.relative_to(below).as_posix(),
        started=str(record.environment.get("started", "")),
        state=state(record),
        epochs=len(record.epochs),
        planned=int(planned) if planned.isdigit() else None,
        validation_mm=errors.pop("validation", min(so_far, default=None)),
        tests_mm={split: mm for split, mm in sorted(errors.items()) if split != "train"},
        plugins=tuple(map(str, record.plugins)),
        backbone=record.setting("model", "backbone"),
        seed=int(seed) if seed.isdigit() else None,
        note="; ".join(record.notes),
    )


def state(record: Record) -> str:
    """`running` while a process holds the folder, else what its log ends with."""
    if is_locked(record.folder):
        return "running"
    for level, message in reversed(record.log):
        if message.startswith("done: "):
            return "finished"
        if message.startswith("stopped: "):
            return "failed" if level == "ERROR" else "interrupted"
        if message.startswith(("going on at ", "initial weights")):
            break
    return "interrupted"


def is_locked(folder: Path) -> bool:
    """Whether a process holds the run folder; the lock of a run dies with it."""
    path = folder / ".lock"
    if not path.is_file() or not os.access(path, os.W_OK):
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def run_rows(runs: Sequence[Listed]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a table of runs, errors in mm; the plugins stand where the run's name hides them."""
    tests = sorted({split for run in runs for split in run.tests_mm})
    rows = []
    for run in runs:
        errors = [digits(run.validation_mm), *(digits(run.tests_mm.get(split)) for split in tests)]
        done = f"{run.epochs}/{'?' if run.planned is None else run.planned}"
        hidden = any(plugin not in run.name for plugin in run.plugins)
        words = [
            run.name,
            *([f"({' '.join(run.plugins)})"] if hidden else []),
            *([f"[{run.note}]"] if run.note else []),
        ]
        rows.append([run.started[:16].replace("T", " "), run.state, done, *errors, _printable(" ".join(words))])
    return ["STARTED", "STATE", "EPOCHS", "VALIDATION", *map(_printable, tests), "RUN"], rows


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
