"""What a plugin is: a class with settings, hooks marked with @hookimpl, and perhaps a state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args, get_origin

import pluggy
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch

    from ceph.data.types import Sample

API = 2  # the version of all that a plugin is given and promises; goes up when an old plugin would break

hookimpl = pluggy.HookimplMarker("ceph")


class PluginConfig(BaseModel):
    """The settings of a plugin: frozen, unknown keys are errors; describe each with Field(description=...)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


ConfigT = TypeVar("ConfigT", bound=PluginConfig)


class Plugin(Generic[ConfigT]):
    """Base of every plugin; subclass as `class Ohkm(Plugin[OhkmConfig])` and mark hooks with @hookimpl.

    `requires` and `conflicts` are tuples of names of other plugins; `api` is the version of the hooks that it is
    written for: one that is too new for this ceph is refused. A plugin with memory overrides both `state_dict` and
    `load_state_dict`; the state holds tensors and plain values only.
    """

    api: ClassVar[int] = API
    requires: ClassVar[tuple[str, ...]] = ()
    conflicts: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **given: Any) -> None:
        """Refuse a class whose declarations would be misread in silence. Raises TypeError."""
        super().__init_subclass__(**given)
        for relation in ("requires", "conflicts"):
            names = getattr(cls, relation)
            if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
                raise TypeError(f"{relation} is {names!r}: write a tuple of plugins' names, as in ('ema',)")
        for generic in cls.__dict__.get("__orig_bases__", ()):
            for model in get_args(generic) if get_origin(generic) is Plugin else ():
                if isinstance(model, type) and not issubclass(model, PluginConfig):
                    write = f"write class {model.__name__}(PluginConfig)"
                    raise TypeError(f"its settings {model.__name__} are no PluginConfig: {write}")

    def __init__(self, config: ConfigT | None = None) -> None:
        self.config: ConfigT = config if config is not None else self.config_model()()  # type: ignore[assignment]

    @classmethod
    def config_model(cls) -> type[PluginConfig]:
        """The settings' model, found from `Plugin[Config]`; plain PluginConfig where none is named."""
        for base in cls.__mro__:
            for generic in getattr(base, "__orig_bases__", ()):
                for argument in get_args(generic):
                    if isinstance(argument, type) and issubclass(argument, PluginConfig):
                        return argument
        return PluginConfig

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: tensors, numbers, strings, lists and dicts of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""


@dataclass(frozen=True, eq=False)
class Origin:
    """The run whose weights a run starts from: its `landmarks` (symbols in its order), and what its stations knew.

    `stations` are their states, {"constraint": {plugin: state}, ...}, of its landmarks and not of the new run's, and
    `state(station, plugin)` is one of them. Of a run that goes on it is the run itself, as its last checkpoint has it.
    """

    landmarks: tuple[str, ...]
    stations: Mapping[str, Any]

    def state(self, station: str, plugin: str) -> Mapping[str, Any]:
        """What that station of a plugin gave as its `state_dict()`; empty where there was none."""
        found: Mapping[str, Any] = self.stations.get(station, {}).get(plugin, {})
        return found


@dataclass(frozen=True, eq=False)
class Run:
    """What a plugin may know of the run.

    `size` is (H, W) in network px; `samples` are the training split's, `unmarked` those of `data.unmarked`; `config` is
    the whole resolved config, frozen (`run.config.train.lr`); `folder` is the run folder, from `run_start` on;
    `readers` are the names of the rows of a sample's points; `origin` is the run that it starts from, from the stations
    on (None: it starts from no run, or is finished and has been loaded).
    """

    landmarks: tuple[str, ...]
    size: tuple[int, int]
    epochs: int
    steps_per_epoch: int
    seed: int
    samples: tuple[Sample, ...]
    device: torch.device
    config: Any
    folder: Path | None = None
    unmarked: tuple[Sample, ...] = ()
    readers: tuple[str, ...] = ()
    origin: Origin | None = None
