"""The runs below a folder, with how far each has come and what it has reached; a broken run is a line that says so."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ceph.report.record import read_record
from ceph.report.text import digits
from ceph.runfolder import CHECKPOINTS, is_run, number
from ceph.runfolder.place import LOG, STATE

DEPTH = 4  # folders below the one that is named


@dataclass(frozen=True)
class Listed:
    """A run in one line. Errors are in mm, None where nothing is scored; `note` is what could not be read."""

    name: str
    started: str
    state: str  # finished, running, interrupted or failed; unknown where it cannot be read
    epochs: int
    planned: int | None
    validation_mm: float | None
    tests_mm: Mapping[str, float]
    plugins: tuple[str, ...]
    backbone: str
    seed: int | None
    note: str = ""
    adapted_from: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def find_runs(folder: Path) -> list[Listed]:
    """The runs in `folder` and below, the latest first; a folder that is a run is itself the only one."""
    runs = [describe(run, folder) for run in run_folders(folder)]
    return sorted(runs, key=lambda run: (run.started, run.name), reverse=True)


def run_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Folders that hold a config and what a run leaves beside it; links to folders are not followed."""
    if is_run(folder) and any((folder / name).exists() for name in (STATE, CHECKPOINTS, LOG)):
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
    return Listed(
        name=record.name if run == below else run.relative_to(below).as_posix(),
        started=str(record.environment.get("started", "")),
        state=record.state.state if record.state else "unknown",
        epochs=len(record.epochs),
        planned=_whole(record.setting("train", "epochs")),
        validation_mm=errors.pop("validation", min(so_far, default=None)),
        tests_mm={split: mm for split, mm in sorted(errors.items()) if split != "train"},
        plugins=tuple(map(str, record.plugins)),
        backbone=record.setting("model", "backbone"),
        seed=_whole(record.setting("train", "seed")),
        note="; ".join(record.notes),
        adapted_from=record.adapted_from,
    )


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,19}", text) else None


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
            *([f"(adapted from {run.adapted_from})"] if run.adapted_from else []),
            *([f"[{run.note}]"] if run.note else []),
        ]
        rows.append([run.started[:16].replace("T", " "), run.state, done, *errors, _printable(" ".join(words))])
    return ["STARTED", "STATE", "EPOCHS", "VALIDATION", *map(_printable, tests), "RUN"], rows


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
