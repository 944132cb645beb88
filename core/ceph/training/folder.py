"""The run folder: its name, its lock, and the files in it that are not checkpoints.

config.yaml  environment.json  data_fingerprint.json  metrics.jsonl  metrics.json
predictions-<split>.csv  checkpoints/  plugins/ (copies of file plugins)  hooks.json  log.txt
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ceph.data.files import read_text
from ceph.data.strict_json import parse_json
from ceph.data.types import Sample
from ceph.errors import CephError, ConfigError, DataError
from ceph.evaluation.predict import Prediction
from ceph.training.checkpoint import LAST, PREVIOUS

MAX_JSON_BYTES = 2**30
CONFIG, FINGERPRINT = "config.yaml", "data_fingerprint.json"
PACKAGES = (
    "ceph-trainer",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "opencv-python-headless",
    "albumentations",
    "accelerate",
)


def default_name(backbone: str, plugins: Sequence[str], seed: int) -> Path:
    """`runs/<date>-<model>-<plugins>-<seed>` in the current folder."""
    now = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / "-".join([now, backbone, *(["+".join(sorted(plugins))] if plugins else []), f"s{seed}"])


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


def require_run(folder: Path) -> None:
    """Raise ConfigError unless `folder` holds a run."""
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"{folder} is no run folder: it holds no {CONFIG}", hint="give the folder that `ceph run` printed"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock dies with it. Raises CephError where another process holds it."""
    lock = FileLock(folder / ".lock")
    try:
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
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the run folder {folder}: {error.strerror}", key="--out") from error
    with locked(folder):
        if (folder / CONFIG).exists() and any((folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS)):
            raise ConfigError(
                f"{folder} already holds a run",
                key="--out",
                hint=f"go on with it: ceph run --resume {folder}; or give the new run another folder",
            )
        yield


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Append the log of `ceph` to the folder's log.txt; warnings are printed as well, if nothing else shows them."""
    log = logging.getLogger("ceph")
    shown = log.hasHandlers()  # else a file alone would keep warnings from the person
    with writing(folder / "log.txt"):
        handler = _LogFile(folder / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.setLevel(logging.INFO)
    console = logging.StreamHandler()
    console.addFilter(lambda record: record.levelno == logging.WARNING)  # an error is raised, too
    handlers: list[logging.Handler] = [handler] if shown else [handler, console]
    for each in handlers:
        log.addHandler(each)
    try:
        yield
    finally:
        for each in handlers:
            log.removeHandler(each)
        log.setLevel(before)
        with suppress(OSError):
            handler.close()


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short without a word: what matters more cannot be written either, and says so."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base's name
        pass


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` in one move, so that a reader never sees half of it; raises CephError where it cannot."""
    fresh = path.with_name(f".{path.name}.new")
    with writing(path):
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of the run folder; DataError where it is damaged."""
    content = parse_json(read_text(path, limit=MAX_JSON_BYTES), path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold a JSON object")
    return content


def leave_out(folder: Path, plugins: Sequence[str]) -> None:
    """Take these plugins out of the run's config.yaml: from here on it runs, and is evaluated, without them."""
    kept, section, dropped = [], "", False
    for line in (folder / CONFIG).read_text("utf-8").splitlines():
        if not line.startswith(" "):
            section, dropped = line.partition(":")[0], False
        elif not line.startswith("    ") and section == "plugins":
            dropped = line.strip().partition(":")[0] in plugins
        kept += [] if dropped else [line]
    if kept[-1].startswith("plugins:"):
        kept[-1] = "plugins: {}"
    write_text(folder / CONFIG, "\n".join(kept) + "\n")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON; numbers that are not finite become null."""
    write_text(path, json.dumps(finite(content), indent=2, ensure_ascii=False) + "\n")


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write metrics.jsonl anew, a line an epoch."""
    write_text(path, "".join(json.dumps(finite(r), ensure_ascii=False) + "\n" for r in records))


def finite(value: Any) -> Any:
    """The value with null in place of numbers that are not finite, which JSON does not know."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def read_metrics(folder: Path) -> dict[str, Any]:
    """The figures of metrics.json, by split; empty where there are none yet."""
    path = folder / "metrics.json"
    return read_object(path) if path.exists() else {}


def note_opened(folder: Path, split: str) -> None:
    """Note in environment.json that a test split was looked at, and when."""
    path = folder / "environment.json"
    content = read_object(path)
    content.setdefault("opened_test_splits", []).append(
        {"split": split, "at": datetime.now().astimezone().isoformat(timespec="seconds")}
    )
    write_json(path, content)


def copy_plugins(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Copy file plugins (`path.py` or `path.py:Class`, by name) into the run; returns what `from` says there."""
    kept: dict[str, str] = {}
    for name, file in files.items():
        path, _, attribute = file.rpartition(":") if not file.endswith(".py") else (file, "", "")
        copy = folder / "plugins" / name / Path(path).name
        with writing(copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(Path(path).read_bytes())
        kept[name] = f"./{copy.relative_to(folder)}" + (f":{attribute}" if attribute else "")
    return kept


def write_predictions(path: Path, prediction: Prediction, ids: Sequence[str], landmarks: Sequence[str]) -> None:
    """predictions-<split>.csv, in pixels of the original film; truth and error are empty where there is none."""
    fresh = path.with_name(f".{path.name}.new")
    with writing(path), fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "symbol", "x_px", "y_px", "score", "true_x_px", "true_y_px", "error_mm"])
        for n, film in enumerate(ids):
            for k, symbol in enumerate(landmarks):
                x, y = prediction.points_px[n, k]
                row = [film, symbol, f"{x:.3f}", f"{y:.3f}", f"{prediction.scores[n, k]:.4f}"]
                if prediction.valid[n, k]:
                    true_x, true_y = prediction.truth_px[n, k]
                    row += [f"{true_x:.3f}", f"{true_y:.3f}", f"{prediction.errors_mm[n, k]:.4f}"]
                else:
                    row += ["", "", ""]
                writer.writerow(row)
    fresh.replace(path)


def environment(plugins: Mapping[str, Mapping[str, str]], device: str, init_from: Path | str | None) -> dict[str, Any]:
    """Versions, device, git state of the current folder, each plugin's version, source and hash, and whose weights."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": device,
        "versions": versions,
        "plugins": dict(plugins),
        "init_from": str(Path(init_from).resolve()) if init_from is not None else None,
        "git": _git_state(),
        "command": sys.argv,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _git_state() -> dict[str, Any] | None:
    def git(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def fingerprint(samples: Sequence[Sample], digests: Sequence[str], landmarks: Sequence[str]) -> dict[str, Any]:
    """What a run has seen: by split, a hash of each film and of its annotations, and the group it belongs to."""
    films: dict[str, dict[str, str]] = {}
    groups: dict[str, dict[str, str]] = {}
    for sample, digest in zip(samples, digests, strict=True):
        marks = hashlib.blake2b(np.ascontiguousarray(sample.points).tobytes(), digest_size=16)
        marks.update(np.ascontiguousarray(sample.valid).tobytes() + np.float64(sample.mm_per_px).tobytes())
        films.setdefault(sample.split, {})[sample.id] = f"{digest}:{marks.hexdigest()}"
        groups.setdefault(sample.split, {})[sample.id] = sample.group
    return {"landmarks": list(landmarks), "films": films, "groups": groups}


def add_fingerprint(folder: Path, scored: Mapping[str, Any]) -> None:
    """Add the splits that were scored after training to data_fingerprint.json."""
    path = folder / FINGERPRINT
    known = read_object(path)
    for part in ("films", "groups"):
        known[part] = {**known.get(part, {}), **scored[part]}
    write_json(path, known)


def require_same_data(folder: Path, now: Mapping[str, Any]) -> None:
    """Raise DataError naming the first film that changed since the run began."""
    then = read_object(folder / FINGERPRINT)
    for split in sorted(now["films"]):
        before, after = then["films"].get(split, {}), now["films"].get(split, {})
        changed = sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))
        if changed:
            raise DataError(
                f"the data changed since this run began: {len(changed)} films of {split}, {changed[0]} among them",
                hint=f"restore the data, or start a new run from these weights: ceph run --init-from {folder} ...",
            )
