"""Whose code runs: files of plugins that the user agreed to, known by their hash; docs/decisions/009 says when it asks.

The list is $XDG_CONFIG_HOME/ceph/trusted-plugins, else ~/.config/ceph/trusted-plugins: a hash and a file a line.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ceph.errors import ConfigError, Problem
from ceph.files import is_own, read_bytes, write_text

log = logging.getLogger("ceph")

MAX_BYTES = 2**24
_agreed: set[str] = set()  # in this process, where the list cannot be written


class Untrusted(ConfigError):
    """Files of plugins that the user has not agreed to run; `files` maps each one's sha256 to its path."""

    def __init__(self, problems: str | Iterable[Problem], files: Mapping[str, Path] | None = None) -> None:
        super().__init__(problems if isinstance(problems, str) else tuple(problems))
        self.files = dict(files or {})

    @classmethod
    def of(cls, errors: Sequence[Untrusted]) -> Untrusted:
        """The one that tells all of these."""
        files = {digest: path for error in errors for digest, path in error.files.items()}
        return cls([problem for error in errors for problem in error.problems], files)


def require(name: str, path: Path, digest: str, doubt: str = "") -> None:
    """Raise Untrusted unless the user agreed to run a file of this sha256."""
    if digest in _agreed or digest in _listed():
        return
    doubt = f"; {doubt}" if doubt else ""
    what = f"you have not agreed to run the file {path} (sha256 {digest}){doubt}"
    hint = "read it; to run it, now and later, add --trust (in Python: ceph.trust), or do without: --without " + name
    raise Untrusted([Problem(what, f"plugins.{name}", hint=hint)], {digest: path})


def trust(path: Path | str) -> None:
    """Agree to run the plugin in the file `path`, or those whose copies a run folder `path` holds, now and later.

    Raises ConfigError where there is none.
    """
    where = Path(path)
    files = sorted((where / "plugins").rglob("*.py")) if where.is_dir() else [where]
    try:
        found = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in files}
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {(error.strerror or str(error)).lower()}") from None
    if not found:
        raise ConfigError(f"{where} holds no plugin", hint="name a plugin's file, or a run folder")
    agree(found)


def agree(files: Mapping[str, Path]) -> None:
    """Note that files of these sha256 may run. Where the list cannot be written, that holds for this process."""
    new = {digest: path for digest, path in files.items() if digest not in _agreed | _listed()}
    _agreed.update(new)
    place = list_file()
    if not new or place is None:
        return
    lines = [f"{digest}  {str(path.absolute())!r}" for digest, path in sorted(new.items())]
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(place, "".join(f"{line}\n" for line in [*_lines(), *lines]))
    except OSError as error:
        log.warning("cannot note in %s which plugins may run (%s): it is asked again", place, error.strerror or error)


def list_file() -> Path | None:
    """Where the list is kept; None for a user without a home."""
    shared = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    try:
        return (shared if shared.is_absolute() else Path.home() / ".config") / "ceph" / "trusted-plugins"
    except RuntimeError:
        return None


def _lines() -> list[str]:
    place = list_file()
    try:
        return read_bytes(place, MAX_BYTES).decode(errors="replace").splitlines() if place and is_own(place) else []
    except OSError:
        return []


def _listed() -> set[str]:
    return {line.split(maxsplit=1)[0] for line in _lines() if line.strip()}
