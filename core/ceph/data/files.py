"""Open the files of a data folder safely: regular files inside it, text and films of a bounded size."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ceph.errors import DataError

MAX_TEXT_BYTES = 16 * 2**20
MAX_PIXELS = 100_000_000
MIN_SIDE = 16
COPY_AGAIN = "copy it again from its source, or take it out"
# What to do where the memory does not hold a film.
FEWER = "lower data.workers, each of which reads a film, end other programs on this machine, or scale the film down"


def inside(root: Path, path: Path) -> Path:
    """`path` itself, where it and all its links stay inside `root`; else DataError naming where it leads."""
    try:
        target = path.resolve()
        base = root.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be followed ({error})", hint="replace the link with the file itself"
        ) from error
    if not target.is_relative_to(base):
        raise DataError(
            f"{path}: leads out of the data folder {root}, to {target}",
            hint="copy the file into the data folder; links out of it are not followed",
        )
    return path


def listing(root: Path, folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The files in `folder` that end in one of `suffixes` (lower case), by stem, sorted by stem.

    Hidden files (a Mac leaves `._001.jpg`) and anything that is no regular file are passed over; a folder that is
    missing is empty. Raises DataError where two files share a stem or a link leads out of `root`.
    """
    found: dict[str, Path] = {}
    try:
        if not folder.is_dir():
            return {}
        inside(root, folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                path = folder / entry.name
                stem = path.stem
                if stem.startswith(".") or path.suffix.lower() not in suffixes:
                    continue
                if entry.is_symlink():
                    inside(root, path)
                if not entry.is_file():
                    continue
                if stem in found:
                    raise DataError(
                        f"{path}: {found[stem].name} beside it has the same name", hint="keep one file for each film"
                    )
                found[stem] = path
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error
    return dict(sorted(found.items()))


def regular(path: Path) -> int:
    """Size in bytes of the file at `path`; DataError where it is missing or no regular file (a pipe would hang)."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be opened ({reason})") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: is no regular file")
    return status.st_size


def refuse_size(path: Path, width: int, height: int) -> None:
    """Raise DataError where a picture of this many pixels is no film, or too large to be decoded."""
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: {width} x {height} pixels is more than {MAX_PIXELS // 10**6} megapixels",
            hint="no film is that large; scale it down if it is one",
        )
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{path}: {width} x {height} pixels is no film", hint=COPY_AGAIN)


def encoding_of(beginning: bytes) -> str:
    """How a text is encoded: as UTF-16 where its byte order mark says so, else as UTF-8."""
    return "utf-16" if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def read_text(path: Path, *, limit: int = MAX_TEXT_BYTES) -> str:
    """The text of a file of at most `limit` bytes, UTF-8 or UTF-16, without a byte order mark; else DataError."""
    size = regular(path)
    if size > limit:
        raise DataError(f"{path}: {size / 2**20:.0f} MB is too large for an annotation (limit {limit / 2**20:.0f} MB)")
    try:
        with path.open("rb") as stream:
            raw = stream.read(size)  # of `limit` bytes Python would take the memory first
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return raw.decode(encoding := encoding_of(raw))
    except UnicodeDecodeError as error:
        name = encoding.upper().removesuffix("-SIG")
        raise DataError(f"{path}: is not {name} text (byte {error.start})", hint="save it again as UTF-8") from error
