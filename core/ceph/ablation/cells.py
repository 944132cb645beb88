"""From the call of `ceph ablate` to the `ceph run` of each cell."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ceph.ablation.design import cell_name
from ceph.config.layers import Layers
from ceph.config.load import DEFAULT_FILE, Resolved, resolve
from ceph.errors import ConfigError
from ceph.hooks import discovery

RECORD = "ablation.json"


@dataclass(frozen=True)
class RunCall:
    """The arguments of one `ceph run` that say what is trained."""

    config: Path | None = None
    preset: str | None = None
    data: Path | None = None
    plugins: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def resolve(self) -> Resolved:
        """The config that it trains. Raises ConfigError, PluginError."""
        return resolve(
            self.config,
            preset=self.preset,
            data=self.data,
            plugins=self.plugins,
            without=self.without,
            settings=self.settings,
        )

    def words(self) -> list[str]:
        """What stands after `ceph`."""
        words = ["run", *([str(self.config)] if self.config is not None else [])]
        words += ["--preset", self.preset] if self.preset is not None else []
        words += ["--data", str(self.data)] if self.data is not None else []
        for flag, values in (("--plugin", self.plugins), ("--without", self.without), ("--set", self.settings)):
            words += [word for value in values for word in (flag, value)]
        return words


@dataclass(frozen=True)
class Cells:
    """What all cells share (`common`), and the plugins that make the difference: name -> value of `--plugin`."""

    common: RunCall
    plugins: Mapping[str, str]

    @cached_property
    def in_config(self) -> frozenset[str]:
        """Those plugins that the config switches on, so that a cell without them must switch them off."""
        layers, common = Layers(), self.common
        file = common.config or (Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None)
        if file is not None:
            layers.add_file(file, "", None)
        if common.preset is not None:
            layers.add_preset(common.preset, "", None)
        layers.add_settings([s for s in common.settings if not self._owner(s)])
        section = layers.root.at("plugins")
        on = section.value if section is not None and isinstance(section.value, Mapping) else {}
        return frozenset(self.plugins) & set(on)

    def call(self, on: Collection[str]) -> RunCall:
        """The run of the cell with the plugins `on`; settings of plugins that are off are left out."""
        off = set(self.plugins) - set(on)
        return replace(
            self.common,
            plugins=tuple(self.plugins[p] for p in sorted(on)),
            without=tuple(sorted(off & self.in_config)),
            settings=tuple(s for s in self.common.settings if self._owner(s) not in off),
        )

    def _owner(self, setting: str) -> str:
        """The plugin of ours whose setting this is, or ""."""
        path = [part.strip() for part in setting.partition("=")[0].split(".")]
        return path[1] if path[0] == "plugins" and path[1:2] and path[1] in self.plugins else ""


def plan(common: RunCall, plugins: Collection[str]) -> Cells:
    """Name the plugins (`--plugin` values). Raises ConfigError where there are none, or one is named twice."""
    named: dict[str, str] = {}
    for value in plugins:
        name = discovery.file_plugin_name(value) if discovery.is_file(value) else value
        if name in named:
            raise ConfigError(f"{name} is named twice", key="--plugin")
        named[name] = value
    if not named:
        raise ConfigError("name the plugins whose effects are wanted", key="--plugin", hint="--plugin hard-mining")
    return Cells(common, named)


def resolve_all(cells: Cells, sets: Collection[Collection[str]]) -> tuple[Resolved, dict[str, Resolved]]:
    """The config without any of the plugins, and that of each cell, by name. Raises ConfigError, PluginError.

    A fault of one cell is told with the cell's name.
    """
    base = cells.call(()).resolve()
    found: dict[str, Resolved] = {}
    for on in sets:
        try:
            found[cell_name(on)] = cells.call(on).resolve()
        except ConfigError as error:
            where = f"in the cell {cell_name(on)}: "
            raise ConfigError([replace(p, what=where + p.what) for p in error.problems]) from None
    return base, found
