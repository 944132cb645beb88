"""Find films in a data folder by the names that annotations give them, and annotation files by how they begin."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ceph.data.files import encoding_of, inside
from ceph.data.formats.splits import WORDS
from ceph.data.images import is_film, stem_of
from ceph.data.names import shown
from ceph.errors import DataError

MAX_FILMS = 200_000
MAX_DEPTH = 6
PIECE, OVERLAP = 2**16, 256  # characters looked at at once, and again with the next
ANNOTATIONS = ("annotations", "annotation", "labels", "label")  # folders where annotation files may lie
BESIDE_FILMS = (*ANNOTATIONS, "images", *WORDS)
MAX_SET_BYTES = 256 * 2**20  # of one annotation file for a whole set


class Films:
    """The films in a data folder, by the end of their path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths: list[Path] = []
        for folder, folders, names in os.walk(root):
            depth = len(Path(folder).relative_to(root).parts)
            folders[:] = sorted(n for n in folders if not n.startswith(".") and depth < MAX_DEPTH)
            for name in sorted(names):
                if not name.startswith(".") and is_film(path := Path(folder, name)):
                    self.paths.append(path)
            if len(self.paths) > MAX_FILMS:
                raise DataError(f"{root}: holds more than {MAX_FILMS} films", hint="name the folder of one data set")
        self._by_name: dict[str, list[Path]] = {}
        for path in self.paths:
            self._by_name.setdefault(path.name, []).append(path)
        for path in self.paths:  # as tables call a film whose name is not UTF-8
            if (called := shown(path.name)) != path.name:
                self._by_name.setdefault(called, []).append(path)
        self._by_stem: dict[str, list[Path]] = {}
        for path in self.paths:
            self._by_stem.setdefault(stem_of(path), []).append(path)
        self._loosely: dict[str, list[Path]] | None = None

    def find(self, name: str) -> Path | None:
        """The film that an annotation calls `name`: the one whose path shares most of its end; None where none does.

        Only the films of the folder are compared, so that no name leads out of it. Raises DataError where two fit
        equally well, or a link leads out of the folder.
        """
        parts = parts_of(name)
        return self._best(self._by_name.get(parts[-1], []), parts, name) if parts else None

    def stems(self) -> Collection[str]:
        """What the films' files are called without their endings."""
        return self._by_stem.keys()

    def find_stem(self, stem: str) -> Path | None:
        """The film whose file is called `stem` without its ending; as `find`."""
        return self._best(self._by_stem.get(stem, []), (), stem)

    def named(self, name: str, patient: str = "") -> Path | None:
        """The film that a person's table calls `name`: as `find`, or by less than that where one film alone fits.

        Less is: without its ending, in another case, without the zeros that a spreadsheet takes off a number, or by its
        folder where it lies there alone. `patient` may be the folder it lies in.
        """
        parts = (*parts_of(patient), *parts_of(name))
        for names in (self._by_name, self._by_stem):
            if parts and (path := self._best(names.get(parts[-1], []), parts, name)):
                return path
        if self._loosely is None:
            self._loosely = {}
            for path in self.paths:
                for called in {path.name, stem_of(path)}:
                    self._loosely.setdefault(_loose(called), []).append(path)
            homes = Counter(path.parent for path in self.paths)
            for path in self.paths:
                if homes[path.parent] == 1 and path.parent != self.root:
                    self._loosely.setdefault(_loose(path.parent.name), []).append(path)
        return self._best(self._loosely.get(_loose(parts[-1]), []), parts, name) if parts else None

    def contradicted(self, file: Path, named: Path) -> Path | None:
        """The film that the annotation in `file` is named for, where it names another one, `named`; else None.

        Film and annotation of one name belong together; an annotation that says it is another film's is a doubt.
        """
        own = self._by_stem.get(file.stem, [])
        beside = [path for path in own if path.parent == file.parent]
        return next((path for path in beside or own if named not in (beside or own)), None)

    def _best(self, candidates: Sequence[Path], parts: Sequence[str], name: str) -> Path | None:
        if not candidates:
            return None
        shared = [shared_end(path.relative_to(self.root).parts[:-1], parts[:-1]) for path in candidates]
        best = [path for path, count in zip(candidates, shared, strict=True) if count == max(shared)]
        if len(best) > 1:
            raise DataError(
                f"{best[0]}: and {best[1]} both fit the name {name!r}", hint="name films with their folder, or apart"
            )
        return inside(self.root, best[0])


def _loose(name: str) -> str:
    """A file's name, with or without its ending, in lower case, without the zeros before a number."""
    path = Path(name.lower())
    stem = stem_of(path)
    return (str(int(stem)) if re.fullmatch("[0-9]{1,18}", stem) else stem) + path.name[len(stem) :]


def parts_of(name: str) -> tuple[str, ...]:
    """The folders and file of a path of any system, or of an address."""
    return tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", "."))


def shared_end(a: Sequence[str], b: Sequence[str]) -> int:
    """How many parts at the end of two paths are the same."""
    count = 0
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if one != other:
            break
        count += 1
    return count


def annotation_files(folder: Path, suffix: str, *, beside: Sequence[str] = ANNOTATIONS) -> list[Path]:
    """The files with this ending in `folder` and in those of its folders whose names are in `beside`, sorted."""
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
    for entry in listed:
        try:
            if entry.is_dir() and entry.name.lower() in beside:
                found.extend(_with_suffix(Path(entry.path), suffix))
        except OSError:
            continue
    return [*(path for path in _with_suffix(folder, suffix)), *found]


def _with_suffix(folder: Path, suffix: str) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                e.name
                for e in entries
                if not e.name.startswith(".") and e.name.lower().endswith(suffix) and e.is_file()
            )
    except OSError:
        return
    yield from (folder / name for name in names)


def head(path: Path) -> str:
    """The beginning of a file as text, empty where it cannot be read; only regular files are opened."""
    return next(_pieces(path), "")


def shows(path: Path, beginning: str, *others: str) -> bool:
    """Whether a file's beginning shows one regular expression, and the file, however long, all the others.

    What an expression means must not be longer than OVERLAP characters.
    """
    missing = [re.compile(pattern) for pattern in others]
    before = None
    for piece in _pieces(path):
        if before is None and not re.search(beginning, piece):
            return False
        missing = [pattern for pattern in missing if not pattern.search((before or "") + piece)]
        if not missing:
            return True
        before = piece[-OVERLAP:]
    return False


def _pieces(path: Path) -> Iterator[str]:
    """The text of a regular file, a piece at a time; none of one that cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return
        with path.open("rb") as stream:
            encoding = encoding_of(stream.read(2))
        with path.open(encoding=encoding, errors="replace", newline="") as text:
            for _ in range(MAX_SET_BYTES // PIECE):
                if not (piece := text.read(PIECE)):
                    return
                yield piece
    except (OSError, ValueError):
        return
