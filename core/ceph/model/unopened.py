"""Packages that are found but not opened: what takes seconds to import waits until something of it is asked for."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


class Unopened(ModuleType):
    """A package whose `__init__` runs when it is asked for a name that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        """Open the package, unless only its nature is asked for."""
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
        return getattr(self, name)


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
