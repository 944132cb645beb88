"""The JSON files of a run folder: epochs, figures, environment, fingerprint of the data, cost of plugins."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ceph.data.files import read_text
from ceph.data.strict_json import parse_json
from ceph.errors import DataError
from ceph.files import write_bytes
from ceph.files import write_text as put_text
from ceph.runfolder.place import ADAPTED, COST, ENVIRONMENT, EPOCHS, FIGURES, FINGERPRINT, PLUGINS, writing

if TYPE_CHECKING:
    from ceph.data.types import Sample  # with torch

MAX_BYTES = 2**28
UNTRAINED = "untrained"  # of the fingerprint: landmarks that no training film had
NOT_LEARNED = "%s: marked in no training film, so that this run did not learn where it is"
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


# --- any of them ------------------------------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` in one move, so that a reader never sees half of it; raises CephError where it cannot."""
    with writing(path):
        put_text(path, text)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON; numbers that are not finite become null."""
    write_text(path, json.dumps(finite(content), indent=2, ensure_ascii=False) + "\n")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of the run folder; DataError where it is missing or damaged."""
    content = parse_json(read_text(path, limit=MAX_BYTES), path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold a JSON object")
    return content


def finite(value: Any) -> Any:
    """The value with null in place of numbers that are not finite, which JSON does not know."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def mapping(value: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at `path` inside of a value; empty where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def number(value: Any, *path: str) -> float:
    """The number at `path` inside of a value; NaN where there is none."""
    *parents, name = path
    found = mapping(value, *parents).get(name)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else math.nan


def _read(path: Path) -> dict[str, Any]:
    return read_object(path) if path.exists() else {}


# --- metrics.jsonl, metrics.json, hooks.json --------------------------------------------------------------------------


def write_records(folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write metrics.jsonl anew, a line an epoch."""
    text = "".join(json.dumps(finite(record), ensure_ascii=False) + "\n" for record in records)
    write_text(folder / EPOCHS, text)


def read_records(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """The epochs of metrics.jsonl; none where there is no such file yet. Raises DataError, naming the line."""
    path = folder / EPOCHS
    lines = read_text(path, limit=MAX_BYTES).splitlines() if path.exists() else []
    found = []
    for place, line in enumerate(lines, 1):
        try:
            found.append(mapping(parse_json(line, path)))
        except DataError as error:
            raise DataError(f"{path}:{place}: {error.problems[0].what}") from None
    return tuple(found)


def read_figures(folder: Path) -> dict[str, Any]:
    """The figures of metrics.json, by split; empty where there are none yet."""
    return _read(folder / FIGURES)


def add_figures(folder: Path, split: str, figures: Mapping[str, Any]) -> None:
    """Write the figures of a split into metrics.json, beside those of the others."""
    write_json(folder / FIGURES, {**read_figures(folder), split: figures})


def write_cost(folder: Path, cost: Mapping[str, Any]) -> None:
    """Write hooks.json: what each plugin took (`hooks/trace.py`)."""
    write_json(folder / COST, cost)


def read_cost(folder: Path) -> dict[str, Any]:
    """What hooks.json says; empty for a run without plugins, or one that has not ended."""
    return _read(folder / COST)


# --- environment.json, plugins/ ---------------------------------------------------------------------------------------


def environment(plugins: Mapping[str, Mapping[str, Any]], device: str, init_from: Path | str | None) -> dict[str, Any]:
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


def write_environment(folder: Path, found: Mapping[str, Any]) -> None:
    """Write environment.json: what `environment` found."""
    write_json(folder / ENVIRONMENT, found)


def read_environment(folder: Path) -> dict[str, Any]:
    """What environment.json says; empty where it is not there."""
    return _read(folder / ENVIRONMENT)


def note_opened(folder: Path, split: str) -> None:
    """Note in environment.json that a test split was looked at, and when."""
    content = read_object(folder / ENVIRONMENT)
    at = datetime.now().astimezone().isoformat(timespec="seconds")
    content.setdefault("opened_test_splits", []).append({"split": split, "at": at})
    write_environment(folder, content)


def copy_plugins(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Copy file plugins (`path.py` or `path.py:Class`, by name) into the run; returns what `from` says there."""
    kept: dict[str, str] = {}
    for name, file in files.items():
        path, _, attribute = file.rpartition(":") if not file.endswith(".py") else (file, "", "")
        copy = folder / PLUGINS / name / Path(path).name
        with writing(copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(copy, Path(path).read_bytes())
        kept[name] = f"./{copy.relative_to(folder)}" + (f":{attribute}" if attribute else "")
    return kept


# --- adapt.json -------------------------------------------------------------------------------------------------------


def write_adapted(folder: Path, learned: Mapping[str, Any]) -> None:
    """Write adapt.json: from which run, on which films, what was learned and what is expected of it."""
    write_json(folder / ADAPTED, learned)


def read_adapted(folder: Path) -> dict[str, Any]:
    """What adapt.json says; empty for a run that was trained."""
    return _read(folder / ADAPTED)


# --- data_fingerprint.json --------------------------------------------------------------------------------------------


def fingerprint(samples: Sequence[Sample], digests: Sequence[str], landmarks: Sequence[str]) -> dict[str, Any]:
    """What a run has seen: by split, a hash of each film and of its annotations, and the group it belongs to."""
    films: dict[str, dict[str, str]] = {}
    groups: dict[str, dict[str, str]] = {}
    for sample, digest in zip(samples, digests, strict=True):
        marks = hashlib.blake2b(np.ascontiguousarray(sample.points).tobytes(), digest_size=16)
        marks.update(np.ascontiguousarray(sample.valid).tobytes() + np.float64(sample.mm_per_px).tobytes())
        if sample.absent is not None:
            marks.update(sample.absent.tobytes())
        if sample.labels:
            marks.update(repr(sorted(sample.labels.items())).encode())
        films.setdefault(sample.split, {})[sample.id] = f"{digest}:{marks.hexdigest()}"
        groups.setdefault(sample.split, {})[sample.id] = sample.group
    return {"landmarks": list(landmarks), "films": films, "groups": groups}


def write_fingerprint(folder: Path, seen: Mapping[str, Any]) -> None:
    """Write data_fingerprint.json: what `fingerprint` gave."""
    write_json(folder / FINGERPRINT, seen)


def read_fingerprint(folder: Path) -> dict[str, Any]:
    """What data_fingerprint.json says; empty where it is not there."""
    return _read(folder / FINGERPRINT)


def labels(seen: Mapping[str, Any], part: str, split: str) -> dict[str, str]:
    """Of a fingerprint's part `films` or `groups` the text of each film of a split; empty where there is none.

    Raises DataError where it is none.
    """
    splits = seen.get(part, {})
    films = splits.get(split, {}) if isinstance(splits, Mapping) else None
    if not isinstance(films, Mapping) or not all(isinstance(text, str) for text in films.values()):
        raise DataError(f"{FINGERPRINT}: {part}.{split}: must be an object with a text for each film")
    return dict(films)


def untrained(folder: Path) -> tuple[str, ...]:
    """The landmarks that no training film of the run had."""
    known = read_fingerprint(folder).get(UNTRAINED, []) if (folder / FINGERPRINT).is_file() else []
    return tuple(map(str, known)) if isinstance(known, list) else ()


def add_fingerprint(folder: Path, scored: Mapping[str, Any]) -> None:
    """Add the splits that were scored after training to data_fingerprint.json."""
    known = read_object(folder / FINGERPRINT)
    for part in ("films", "groups"):
        known[part] = {**mapping(known, part), **scored[part]}
    write_fingerprint(folder, known)


def require_same_data(folder: Path, now: Mapping[str, Any]) -> None:
    """Raise DataError naming the first film that changed since the run began."""
    then = read_object(folder / FINGERPRINT)
    for split in sorted(now["films"]):
        before, after = labels(then, "films", split), labels(now, "films", split)
        changed = sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))
        if changed:
            raise DataError(
                f"the data changed since this run began: {len(changed)} films of {split}, {changed[0]} among them",
                hint=f"restore the data, or start a new run from these weights: ceph run --init-from {folder} ...",
            )
