"""Modules of plugins in files: the module's name tells path and hash, so that its objects unpickle in any process."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

# Being a package lets `import ceph.hooks.file_modules.NAME` bring a worker process here first, and so to the finder.
__path__: list[str] = []


def import_file(path: Path, digest: str) -> ModuleType:
    """The module of the file at this absolute path, whose sha256 is `digest`; imported once a process."""
    return importlib.import_module(module_name(path, digest))


def module_name(path: Path, digest: str) -> str:
    """The full name of a file's module."""
    stem = re.sub(r"\W", "_", path.stem)
    return f"{__name__}.{stem}_{digest}_{str(path).encode('utf-8', 'surrogateescape').hex()}"


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs exactly the bytes that have the hash, and leaves no __pycache__ beside the user's file."""

    def __init__(self, fullname: str, path: str, digest: str) -> None:
        super().__init__(fullname, path)
        self.digest = digest

    def get_code(self, fullname: str) -> CodeType:
        data = Path(self.path).read_bytes()
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise ImportError(f"{self.path} has changed since the run began", name=fullname, path=self.path)
        return compile(data, self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds the modules that `module_name` names."""

    @classmethod
    def find_spec(
        cls,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG003 - the import system's signature
        target: ModuleType | None = None,  # noqa: ARG003
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a file's module; None for any other name."""
        match = re.fullmatch(re.escape(__name__) + r"\.\w+_([0-9a-f]{64})_((?:[0-9a-f]{2})+)", fullname)
        if match is None:
            return None
        file = bytes.fromhex(match[2]).decode("utf-8", "surrogateescape")
        return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(fullname, file, match[1]))


sys.meta_path.append(_Finder)
