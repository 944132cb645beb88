"""Decode each film once: keep it, shrunk to the levels of a pyramid, in files that every process maps into memory."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.files import regular
from ceph.data.images import read_film
from ceph.errors import DataError
from ceph.files import FRESH, is_own, opened, replacing
from ceph.threads import in_threads

logger = logging.getLogger("ceph")

Film = NDArray[np.uint8]

# Part of the path: to be raised when reading or shrinking changes a pixel, so that no old file is taken for a new one.
VERSION = "levels-4"
# Each user's own, since nobody reads what another wrote.
OWN = f"{VERSION}-{os.geteuid()}" if hasattr(os, "geteuid") else VERSION
OPEN_FILES = 128  # each open map holds a file descriptor, of which a process commonly has 1024
CHECKSUM_BYTES = 4
MAX_LEVEL = 16


def default_root() -> Path:
    """The user's folder for what can be made again: $CEPH_CACHE, else $XDG_CACHE_HOME/ceph, else ~/.cache/ceph."""
    if own := os.environ.get("CEPH_CACHE"):
        return Path(own)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "ceph"
    except RuntimeError:  # a container's user may have no home
        return Path(tempfile.gettempdir()) / "ceph"


def digest(path: Path) -> str:
    """Hash of a file's content, 32 hexadecimal digits; DataError where it cannot be read."""
    regular(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


digest_of = digest  # methods have an argument of that name


def digests(paths: Iterable[Path]) -> list[str]:
    """`digest` of each of `paths`, in their order, several at a time."""
    return in_threads(digest, paths)


def level_for(scale: float) -> int:
    """The smallest level that is not below `scale`: level i has the scale 2 ** (-i / 2), level 0 is the film itself."""
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a number above 0, not {scale}")
    # A scale that is a level's own up to rounding means that level.
    return max(0, min(math.floor(-2 * math.log2(scale) + 1e-6), MAX_LEVEL))


def pyramid_level(film: Film, scale: float) -> Film:
    """`film` [H, W] at the smallest level not below `scale`, by area averages: no aliasing.

    It is halved first, as often as that leaves more pixels than the level has: OpenCV halves several times faster than
    it shrinks by another factor.
    """
    level, small = level_for(scale), film
    for i in [*range(2, level, 2), level] if level else []:
        W, H = (max(1, round(side * 2.0 ** (-i / 2))) for side in (film.shape[1], film.shape[0]))
        small = cv2.resize(small, (W, H), interpolation=cv2.INTER_AREA)
    return small


class FilmCache:
    """Films by content, shrunk to pyramid levels; `root` None keeps nothing and decodes each time.

    A file is written under another name and then renamed, so that processes may build the same level at once, and ends
    in a checksum that is compared when a process first opens it; one that is not this user's alone to write is none. A
    cache that cannot be used is no reason to stop: it is reported once, and films are decoded instead.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = root / OWN if root is not None else None
        self._writable = True
        self._open: OrderedDict[Path, Film] = OrderedDict()
        self._checked: set[Path] = set()

    def __getstate__(self) -> dict[str, Any]:
        # Maps would be pickled as whole films; the other process opens its own.
        return {**self.__dict__, "_open": OrderedDict(), "_checked": set()}

    def level(self, path: Path, digest: str, scale: float) -> Film:
        """The film in `path`, read-only, at the smallest level whose scale is not below `scale` (1: as stored).

        `digest` is the file's. The result [h, w] is a level of the film [H, W]: w / W and h / H are its exact scale in
        x and y. Raises DataError where the film cannot be read.
        """
        if self.root is None:
            return _read_only(pyramid_level(read_film(path), scale))
        place = self.root / digest[:2] / f"{digest}-L{level_for(scale)}.npy"
        if (held := self._open.get(place)) is not None:
            if _whole(held):
                self._open.move_to_end(place)
                return held
            del self._open[place]  # to touch what was cut off is a bus error
        found = self._load(place)
        if found is None:
            film = pyramid_level(read_film(path), scale)
            if self._writable:
                self._store(place, film, path, digest)
            found = self._load(place) if self._writable else None
            if found is None:
                return _read_only(film)
        self._open[place] = found
        while len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)
        return found

    def _load(self, place: Path) -> Film | None:
        """The file at `place` mapped into memory; None where it is missing or not what was written."""
        try:
            with opened(place) as stream:
                if not is_own(stream.fileno()):
                    return None
                film = _mapped(stream)
                if film is None or not _whole(film):
                    return None
                if place not in self._checked:
                    stream.seek(film.offset + film.nbytes)
                    if stream.read(CHECKSUM_BYTES) != _checksum(place, film):
                        return None
                    self._checked.add(place)
        except (OSError, ValueError, TypeError, OverflowError, EOFError):
            return None
        return film

    def _store(self, place: Path, film: Film, path: Path, digest: str) -> None:
        """Write `film` to `place`, as a whole or not at all; DataError where `path` is not the file of `digest`."""
        # What is kept under a wrong name would be wrong in every later run.
        if digest_of(path) != digest:
            raise DataError(f"{path}: has changed since the run began", hint="start again when the data set is at rest")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place, durable=False, mode=0o600) as stream:  # what is cut short is made anew
                np.lib.format.write_array(stream, np.ascontiguousarray(film), allow_pickle=False)
                stream.write(_checksum(place, film))
            reason = "" if is_own(place) else "what is written there is another user's, or anybody's to change"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            self._writable = False
            logger.warning(
                "films are not cached and will be decoded each time: %s: %s (CEPH_CACHE names another folder)",
                *(place.parent, reason),
            )
        else:
            self._checked.add(place)


class Kept(NamedTuple):
    """What a cache holds: the films and their levels, and the bytes of all files, those of older versions included."""

    films: int
    levels: int
    size: int


def default_films() -> Path:
    """Where decoded films are kept unless a config says otherwise."""
    return default_root() / "films"


def kept(root: Path) -> Kept:
    """What the film cache in `root` holds; nothing where there is none."""
    own = [path.name for path in _files(root) if path.parent.parent.name == OWN and path.suffix == ".npy"]
    return Kept(len({name[:32] for name in own}), len(own), sum(_size(path) for path in _files(root)))


def clear(root: Path) -> Kept:
    """Delete what the film cache in `root` holds, nothing else; returns what that was.

    A run that goes on keeps the films it has open and decodes the others anew. Raises DataError where a file cannot be
    deleted.
    """
    held = kept(root)
    for path in _files(root):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{path}: cannot be deleted ({error.strerror or error})") from error
    return held


def _files(root: Path) -> list[Path]:
    """The files of a film cache, by the names that only it gives; folders stay, since a run may be writing to one."""
    return [path for path in root.glob("levels-*/??/*-L*") if path.suffix in (".npy", ".tmp", FRESH) and path.is_file()]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # deleted meanwhile
        return 0


def _mapped(stream: BinaryIO) -> np.memmap[Any, Any] | None:
    """The pixels [h, w] of an open file mapped into memory; None where it holds no film."""
    if np.lib.format.read_magic(stream) != (1, 0):
        return None
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype != np.uint8 or len(shape) != 2 or fortran or not math.prod(shape):
        return None
    return np.memmap(stream, dtype=np.uint8, mode="r", offset=stream.tell(), shape=shape)


def _whole(film: Film) -> bool:
    """Whether the file of a film that is mapped is as long as it was written."""
    kept = film._mmap  # type: ignore[attr-defined]  # noqa: SLF001 - the one that knows its file
    return bool(kept.size() == film.offset + film.nbytes + CHECKSUM_BYTES)  # type: ignore[attr-defined]


def _checksum(place: Path, film: Film) -> bytes:
    """Of the pixels, their shape and the file's name: one that stands under another's name is none."""
    known = zlib.crc32(repr((place.name, film.shape)).encode())
    return zlib.crc32(np.ascontiguousarray(film).data, known).to_bytes(CHECKSUM_BYTES, "little")


def _read_only(film: Film) -> Film:
    film.flags.writeable = False
    return film
