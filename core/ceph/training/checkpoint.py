"""Checkpoints that survive: written aside, checksummed, put in place in one move; read only when the sum agrees.

`last` holds raw weights and all state, `previous` the one before it, `best` the weights that were evaluated; each is
one safetensors file (`packing.py`), so that reading it runs no code. `NAME.sha256` lists the sums under which NAME may
stand; while a file is being replaced that is the old and the new one, so that at no moment a good file is without its
sum.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ceph.errors import CheckpointError
from ceph.files import fresh_name, read_bytes, replacing, sync_folder, write_bytes
from ceph.training.packing import pack, unpack

FORMAT = 2
MAX_BYTES = 2**36
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"


def save(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write `content` (tensors and plain values) as `folder/name`; a `last` that stood there becomes `previous`.

    Raises CheckpointError when it cannot be written; what stood there before is then intact.
    """
    data = pack({"format": FORMAT, **content})
    digest = hashlib.sha256(data).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / name) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if name == LAST and _intact(folder, LAST):  # a damaged one must not push out the good one before it
                _keep(folder)
            _write_sums(folder, name, [*_sums(folder, name), digest])
        _write_sums(folder, name, [digest])
    except OSError as error:
        raise CheckpointError(
            f"cannot write {folder / name}: {error.strerror or error}",
            hint="free some space, or make the folder writable, and go on: ceph run --resume "
            f"{folder.parent}; the checkpoints already there are intact",
        ) from error


def load(folder: Path, name: str) -> dict[str, Any]:
    """Read `folder/name`, tensors on the CPU. Raises CheckpointError where it is missing or damaged."""
    path = folder / name
    try:
        data = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint {path} ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() not in _sums(folder, name):
        raise CheckpointError(f"{path} is damaged: its content does not match {name}.sha256")
    try:
        content = unpack(data)
    except ValueError as error:
        raise CheckpointError(f"{path} is not one of ours ({error})") from error
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {content.get('format')!r}; this version reads {FORMAT}")
    return content


def load_last(folder: Path) -> tuple[dict[str, Any], str]:
    """The newest good state of a run, and a note if it is not the newest file ("" if it is)."""
    try:
        return load(folder, LAST), ""
    except CheckpointError as error:
        if not (folder / PREVIOUS).exists():
            if (folder / LAST).exists():
                raise
            raise CheckpointError(
                f"{folder} holds no checkpoint: the run ended before its first step",
                hint="nothing is lost: start it again with the command that began it",
            ) from error
        return load(folder, PREVIOUS), f"{error}; going on from {folder / PREVIOUS}, the one before"


def _keep(folder: Path) -> None:
    """Make `last` the one before it; whenever this is cut short, `previous` has its sum."""
    digests, fresh = _sums(folder, LAST), fresh_name(folder / PREVIOUS)
    os.link(folder / LAST, fresh)
    _write_sums(folder, PREVIOUS, _sums(folder, PREVIOUS) + digests)
    fresh.replace(folder / PREVIOUS)
    fresh.unlink(missing_ok=True)  # still there where both were one file already
    sync_folder(folder)
    _write_sums(folder, PREVIOUS, digests)


def _intact(folder: Path, name: str) -> bool:
    try:
        return hashlib.sha256(read_bytes(folder / name, MAX_BYTES)).hexdigest() in _sums(folder, name)
    except OSError:
        return False


def _sums(folder: Path, name: str) -> list[str]:
    try:
        text = read_bytes(folder / f"{name}.sha256", 2**16).decode("ascii")
        return [line.split()[0] for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return []


def _write_sums(folder: Path, name: str, digests: list[str]) -> None:
    lines = (f"{digest}  {name}\n" for digest in dict.fromkeys(digests))
    write_bytes(folder / f"{name}.sha256", "".join(lines).encode("ascii"))
