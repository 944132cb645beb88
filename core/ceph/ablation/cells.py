"""From the call of `ceph ablate` to the `ceph run` of each cell; and the record that keeps a folder to one config."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ceph.ablation.design import cell_name
from ceph.config.layers import Layers
from ceph.config.load import DEFAULT_FILE, Resolved, resolve
from ceph.errors import ConfigError
from ceph.hooks import discovery
from ceph.runfolder import read_object, write_json

RECORD = "ablation.json"
FREE = (("train", "seed"), ("data", "workers"), ("data", "cache"))  # keys that change no cell


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


def describe(base: Resolved, found: Mapping[str, Resolved], plugins: Collection[str]) -> dict[str, Any]:
    """What a folder is kept to: the config that all cells share, and each plugin's settings."""
    config = base.config.model_dump(mode="json")
    for section, key in FREE:
        del config[section][key]
    settings: dict[str, Any] = {}
    for resolved in found.values():
        for name in set(plugins) & set(resolved.plugins):
            file = {"sha256": resolved.plugins[name].sha256} if resolved.plugins[name].file else {}
            settings[name] = {**resolved.config.model_dump(mode="json")["plugins"][name], **file}
    return {"config": config, "plugins": dict(sorted(settings.items()))}


def open_folder(out: Path, described: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the folder `out`, joined with `described` and written.

    Raises ConfigError where the folder holds an ablation of another config.
    """
    record = read_record(out)
    then, now = record.get("config", described["config"]), described["config"]
    _require_same(out, then, now, ())
    known = record.get("plugins", {})
    for name in known.keys() & described["plugins"].keys():
        _require_same(out, known[name], described["plugins"][name], ("plugins", name))
    record = {
        "config": now,
        "plugins": {**known, **described["plugins"]},
        "minutes": record.get("minutes", {}),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RECORD, record)
    return record


def read_record(out: Path) -> dict[str, Any]:
    """The record of a folder; empty where there is none."""
    path = out / RECORD
    return read_object(path) if path.exists() else {}


def _require_same(out: Path, then: Any, now: Any, path: tuple[str, ...]) -> None:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in [*then, *(k for k in now if k not in then)]:
            _require_same(out, then.get(key), now.get(key), (*path, key))
    elif then != now:
        raise ConfigError(
            f"{out} holds another config: {'.'.join(path)} is {json.dumps(then)} there and {json.dumps(now)} here",
            key="--out",
            hint="give this ablation another folder, or set the config back",
        )
