"""Whose fault an error is: the plugin's name, version and hook, and the line of its file."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ceph.data.formats.base import DataSet, Reader, broken_promise
from ceph.errors import CephError, PluginError
from ceph.hooks.answers import given
from ceph.hooks.misuse import label


class Blame(NamedTuple):
    """Whose fault it is."""

    plugin: str
    version: str
    hook: str

    def error(self, what: str, hint: str = "") -> PluginError:
        """The error that names plugin, version and hook, and says what to do."""
        remedy = hint or f"mend the plugin, or run without it: --without {self.plugin}"
        return PluginError(f"{label(*self)}: {what}", hint=remedy)

    @contextmanager
    def named(self, function: Callable[..., Any]) -> Iterator[None]:
        """Around a call of what the plugin made: what is raised there, but for our own errors, is told as its fault."""
        try:
            yield
        except CephError:
            raise
        except (Exception, SystemExit) as error:
            raise self.raised(error, function) from error

    def raised(self, error: BaseException, function: Callable[..., Any]) -> PluginError:
        """The error for what the plugin's `function` raised, with the line."""
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return self.error(said + _where(error, function))


@dataclass(frozen=True)
class BlamedReader:
    """A plugin's reader of data sets, whose answers are held against what a reader promises."""

    inner: Reader
    blame: Blame

    @property
    def name(self) -> str:
        """As the reader's."""
        return self.inner.name

    @property
    def layout(self) -> str:
        """As the reader's."""
        return self.inner.layout

    def matches(self, folder: Path) -> bool:
        """As the reader's. Raises PluginError where it fails, or gives neither True nor False."""
        with self.blame.named(self.inner.matches):
            found = self.inner.matches(folder)
        if not isinstance(found, bool):
            raise self.blame.error(f"its matches gave {given(found)} where True or False is promised")
        return found

    def read(self, folder: Path, *, mm_per_px: float | None = None) -> DataSet:
        """As the reader's. Raises PluginError where it fails, or the films are not as promised."""
        with self.blame.named(self.inner.read):
            found = self.inner.read(folder, mm_per_px=mm_per_px)
            right = isinstance(found, DataSet)
            wrong = broken_promise(found) if right else f"{given(found)} where a DataSet is promised"
        if wrong:
            raise self.blame.error(f"its read gave {wrong}")
        return found


def file_of(plugin: type[Any]) -> str:
    """The file that defines a class; empty where none does, as in a notebook."""
    return getattr(sys.modules.get(plugin.__module__), "__file__", None) or ""


def frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """The lines that an error went through, the deepest last, without the one that caught it."""
    return list(traceback.extract_tb(error.__traceback__)[1:])


def _where(error: BaseException, function: Callable[..., Any]) -> str:
    """` (ohkm.py, line 14)`: the deepest line of the plugin's own file, or of any, where the error was raised."""
    frames = frames_of(error)
    function = getattr(function, "func", function)
    file = file_of(function) if isinstance(function, type) else None
    file = file or getattr(getattr(function, "__code__", None), "co_filename", None)
    own = [frame for frame in frames if frame.filename == file] or frames
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
