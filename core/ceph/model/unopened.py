"""Packages that are found but not opened: what takes seconds to import waits until something of it is asked for."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

FUNCTION = re.compile(r"^def (\w+)\(", re.MULTILINE)


class Unopened(ModuleType):
    """A package or a file that runs when it is asked for a name that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        """Open it, unless only its nature is asked for."""
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
        return getattr(self, name)


def leave_functions_unopened(name: str) -> None:
    """Put a file into `sys.modules`, unopened, whose functions can be imported from it: it opens when one is called."""
    if module := leave_unopened(name):
        for function in FUNCTION.findall(Path(str(module.__file__)).read_text(encoding="utf-8")):
            vars(module)[function] = _later(module, function)


def _later(module: Unopened, name: str) -> Callable[..., Any]:
    def call(*given: Any, **named: Any) -> Any:
        if vars(module).get(name) is call:  # not opened yet
            del vars(module)[name]
        return getattr(module, name)(*given, **named)

    return call


def leave_unopened(name: str) -> Unopened | None:
    """Put a package into `sys.modules`, unopened, and return it; None where it is imported already or missing."""
    if name in sys.modules or not (spec := importlib.util.find_spec(name)):
        return None
    module = sys.modules[name] = Unopened(name)
    vars(module).update(vars(importlib.util.module_from_spec(spec)))
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module
