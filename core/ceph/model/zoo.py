"""timm's networks, of which only the file that holds the wanted one is imported.

`import timm` reads all its networks, torchvision and with them PyTorch's compiler: more seconds than a film takes to
predict. Here the packages are found but not opened: a file of theirs can be imported, and whatever else is asked of a
package opens it in the usual way.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

UNOPENED = ("timm", "timm.data", "timm.models", "timm.utils", "torchvision", "torchvision.models", "torchvision.ops")
LIGHT = ("timm.version", "timm.data.constants")  # what their packages are asked for all the time


class Unopened(ModuleType):
    """A package whose `__init__` runs when it is asked for a name that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        """Open the package, unless only its nature is asked for."""
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
        return getattr(self, name)


def leave_unopened() -> None:
    """Put the packages that were not imported yet into `sys.modules`, unopened."""
    for name in UNOPENED:
        if name in sys.modules or not (spec := importlib.util.find_spec(name)):
            continue
        parent, _, child = name.rpartition(".")
        module = sys.modules[name] = Unopened(name)
        for key, value in vars(importlib.util.module_from_spec(spec)).items():
            setattr(module, key, value)
        if parent:
            setattr(sys.modules[parent], child, module)
    for name in LIGHT:
        package = sys.modules[name.rpartition(".")[0]]
        if isinstance(package, Unopened):
            found = vars(import_module(name))
            vars(package).update({k: v for k, v in found.items() if k.isupper() or k == "__version__"})


def is_model(name: str) -> bool:
    """Whether timm has a network of that name, with or without a tag of its weights; imports the file that has it."""
    import timm.models._registry as registry  # `from timm.models` would open it

    marker = f"\ndef {name.partition('.')[0]}(".encode()
    for file in sorted(Path(registry.__file__).parent.glob("[!_]*.py")):
        if marker in file.read_bytes():
            import_module(f"timm.models.{file.stem}")
    return registry.is_model(name) or name in list_models()


def list_models() -> list[str]:
    """The names of all networks of timm, which imports all."""
    import timm

    return list(timm.list_models())


def create_model(name: str, **settings: Any) -> nn.Module:
    """The network `name`; `settings` are those of timm's own `create_model`, and so are its errors."""
    from timm.models._factory import create_model

    is_model(name)
    made: nn.Module = create_model(name, **settings)
    return made


leave_unopened()
