"""timm's networks, of which only the file that holds the wanted one is imported.

`import timm` reads all its networks, torchvision and with them PyTorch's compiler: more seconds than a film takes to
predict. Here the packages are found but not opened: a file of theirs can be imported, and whatever else is asked of a
package opens it in the usual way.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ceph.model.unopened import leave_unopened

if TYPE_CHECKING:
    from torch import nn

UNOPENED = ("timm", "timm.data", "timm.models", "timm.utils", "torchvision", "torchvision.models", "torchvision.ops")
LIGHT = ("timm.version", "timm.data.constants")  # what their packages are asked for all the time


def leave_packages_unopened() -> None:
    """Leave timm's and torchvision's packages unopened, but for the names that are asked for all the time."""
    unopened = {name: package for name in UNOPENED if (package := leave_unopened(name))}
    for name in LIGHT:
        if package := unopened.get(name.rpartition(".")[0]):
            found = vars(import_module(name))
            vars(package).update({k: v for k, v in found.items() if k.isupper() or k == "__version__"})


def is_model(name: str) -> bool:
    """Whether timm has a network of that name, with or without a tag of its weights; imports the file that has it."""
    import timm.models._registry as registry  # `from timm.models` would open it

    _import_file_of(name.partition(".")[0], Path(registry.__file__).parent)
    return registry.is_model(name) or name in list_models()


@cache
def _import_file_of(network: str, folder: Path) -> None:
    for file in sorted(folder.glob("[!_]*.py")):
        if f"\ndef {network}(".encode() in file.read_bytes():
            import_module(f"timm.models.{file.stem}")


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


leave_packages_unopened()
