"""Every write of the program: under a new name beside its place, then moved there, and never through a link."""

from __future__ import annotations

import glob
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger("ceph")

FRESH = ".new"  # how the names of files end that are being written


def fresh_name(path: Path) -> Path:
    """A name in the folder of `path` that nobody guesses."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}{FRESH}")


@contextmanager
def replacing(path: Path, *, durable: bool = True, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file, open for writing, that takes the place of `path` in one move at the end of the block.

    What stands at `path`, a link too, is replaced, and intact where the block fails. `durable` waits for the disk.
    Raises OSError.
    """
    fresh = fresh_name(path)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise
    if durable:
        sync_folder(path.parent)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder`, which is missing or empty, at the end of the block.

    Where the block fails it is removed. What a killed call left of another is named: one may run now, so it stays.
    Raises OSError.
    """
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.part"):
        log.warning("%s is left of a call that was killed (unless one runs now): it can be removed", left)
    work = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    work.mkdir(parents=True)
    try:
        yield work
        if folder.exists():
            folder.rmdir()
        work.replace(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one move, and through no link. Raises OSError."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path`, as UTF-8, in one move and through no link. Raises OSError."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def appending(path: Path, *, reading: bool = False) -> BinaryIO:
    """The file at `path`, open to add to, and to read; what is no file of its own there (a link, a pipe) is removed.

    Raises OSError.
    """
    if not is_plain(path):
        path.unlink(missing_ok=True)
    flags = os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags | (os.O_RDWR if reading else os.O_WRONLY), 0o666)
    return os.fdopen(handle, "a+b" if reading else "ab")


def is_plain(path: Path) -> bool:
    """Whether a regular file stands at `path` that has no other name."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def discard(handle: int) -> None:
    """From here on what is written to an open file of this number is lost, and no fault."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, handle)
    os.close(nowhere)


def is_own(file: Path | int) -> bool:
    """Whether what stands at a path, or is open, belongs to this user, and not everybody can write to it."""
    try:
        found = os.stat(file)  # noqa: PTH116 - also of what is open
    except OSError:
        return False
    return os.name == "nt" or (found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH)


def read_bytes(path: Path, most: int) -> bytes:
    """The first `most` bytes of a regular file; OSError where it is none: a pipe would hang, a device never end."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        return file.read(min(size, most))  # of `most` bytes Python would take the memory first


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open to read; OSError where it is none."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "is no regular file")
        yield file


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
