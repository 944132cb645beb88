"""Packages that are found but not opened: what takes seconds to import waits until something of it is asked for."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


class Unopened(ModuleType):
    """A package whose `__init__` runs when it is asked for a name that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        """Open the package, unless only its nature is asked for."""
        if name.startswith("__") and name != "__path__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__path__ = self.__spec__.submodule_search_locations  # type: ignore[assignment, union-attr]
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


def leave_compiler_unopened() -> None:
    """Keep torch's optimisers from importing torch's compiler, a third of the time that a short run takes.

    They tell it which of their functions it should not compile. `torch.compile` opens it as ever.
    """
    if not (compiler := leave_unopened(COMPILER)):
        return
    del compiler.__path__  # asked for by the import of a file of it, which takes the whole

    def disable(fn: Any = None, *args: Any, **how: Any) -> Any:
        if getattr(fn, "__module__", "").startswith("torch.") and "reason" not in how:  # torch's call for its own
            return fn
        compiler.eval_frame  # noqa: B018 - opens it
        return compiler.disable(fn, *args, **how)

    def graph_break(msg: str = "") -> None:
        del msg

    vars(compiler).update(disable=disable, graph_break=graph_break)
