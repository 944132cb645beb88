"""From files, presets and flags to one resolved config: merged, validated, every value's origin known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from ceph.config.dump import dump_yaml
from ceph.config.explain import problems_of
from ceph.config.layers import Layers, flag_place, from_python
from ceph.config.models import Config
from ceph.config.plugins import Imports, check_plugins
from ceph.config.source import Node, dotted
from ceph.errors import CephError, ConfigError, Place, PluginError, Problem, nearest
from ceph.hooks import discovery
from ceph.hooks.discovery import LoadedPlugin
from ceph.hooks.trust import Untrusted

if TYPE_CHECKING:
    from ceph.hooks.base import Plugin

DEFAULT_FILE = "ceph.yaml"


@dataclass(frozen=True, eq=False)
class Resolved:
    """A config as it will run: the values, where each came from, and the plugins that are on and imported (by name)."""

    config: Config
    provenance: Mapping[str, str]
    plugins: Mapping[str, LoadedPlugin]

    def create_plugins(self) -> dict[str, Plugin[Any]]:
        """One new instance of each plugin, with its settings, by name."""
        return {name: loaded.create(self.config.plugins[name]) for name, loaded in self.plugins.items()}

    def own_values(self) -> dict[str, Any]:
        """The values that are not defaults, and every plugin that is on: a config that comes to the same."""
        values: dict[str, Any] = self.config.model_dump(mode="json", exclude_defaults=True, exclude={"plugins"})
        values.get("train", {}).pop("schedule_from", None)
        values = {name: section for name, section in values.items() if section}
        for name, plugin in self.plugins.items():
            settings = plugin.validate(self.config.plugins[name])
            own = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            values.setdefault("plugins", {})[name] = {"from": plugin.file, **own} if plugin.file else own
        return values

    def dump(self, files: Mapping[str, str] | None = None) -> str:
        """The resolved config as YAML, each value with its origin; `resolve` reads it back to the same config.

        `files` maps the name of a plugin in a file to what `from` shall say instead of its absolute path
        (`./ohkm.py` for a copy beside the written config).
        """
        values = self.config.model_dump(mode="json")
        for name, file in (files or {}).items():
            values["plugins"][name]["from"] = file
        return dump_yaml(values, self.provenance)


def resolve(
    config: Path | None = None,
    *,
    preset: str | None = None,
    plugins: Sequence[str] = (),
    without: Sequence[str] = (),
    settings: Sequence[str] = (),
    data: Path | None = None,
    seed: int | None = None,
    reading: bool = False,
    imports: Imports = "all",
) -> Resolved:
    """Resolve a config as the command line does: defaults < extends < file < preset < flags.

    Without `config`, `./ceph.yaml` is read if it is there. With no config, no preset and no data at all,
    the preset `demo` is the lowest layer. `plugins` are names or files (`./ohkm.py`, `./ohkm.py:Ohkm`),
    `settings` are `KEY=VALUE`. Where the caller is only `reading`, plugins in files that `./ceph.yaml` names must be
    trusted, as those of a run folder always. Raises ConfigError with every problem at once (Untrusted, where plugins
    are not trusted), PluginError where only a plugin's own code is at fault.
    """
    layers, flags = Layers(), _flags(plugins, settings, data, seed)
    if config is None and Path(DEFAULT_FILE).is_file():
        config, layers.unasked = Path(DEFAULT_FILE), reading
    if config is not None:
        layers.add_file(config, "", None, name=str(config))
    elif preset is None and flags.root.at("data", "path") is None:
        layers.add_preset("demo", "", None)
    return _resolve(layers, flags, preset, plugins, without, imports)


OF_ONE_SET = (  # back to its default: it says nothing of another set
    "data.films_table=null",
    "data.mm_per_px=null",
    "data.format=auto",
    "data.unmarked=null",
    "data.unmarked_share=0",
)


def resolve_run(
    folder: Path,
    *,
    without: Sequence[str] = (),
    settings: Sequence[str] = (),
    data: Path | None = None,
    imports: Imports = "all",
) -> Resolved:
    """Resolve the config of a run folder, whose plugins in files must be trusted. Raises as `resolve` does.

    With other `data` than its own, what was told of the run's own set is forgotten unless `settings` say it anew.
    """
    from ceph.runfolder import CONFIG, mapping, read_environment

    settings = (*_of_one_set(folder, data, settings), *settings)
    layers = Layers(unasked=True)
    layers.add_file(folder / CONFIG, "", None, name=str(folder / CONFIG))
    flags = _flags((), settings, data, None)
    recorded: Mapping[str, Any] = {}
    with suppress(CephError):  # what is damaged there keeps nobody from the weights
        recorded = mapping(read_environment(folder), "plugins")
    then = {name: mapping(entry) for name, entry in recorded.items()}
    return _resolve(layers, flags, None, (), without, imports, then)


def _of_one_set(folder: Path, data: Path | None, settings: Sequence[str]) -> list[str]:
    """Settings that take back what a run's config says of its own set alone, for films that are others."""
    from ceph.runfolder import read_settings, values_of

    own = ""
    with suppress(CephError):
        own = values_of(read_settings(folder)).get("data.path", "").strip("\"'")
    if data is None or (own and (folder / own).resolve() == data.resolve()):
        return []
    told = {setting.partition("=")[0] for setting in settings}
    return [setting for setting in OF_ONE_SET if setting.partition("=")[0] not in told]


def from_values(
    values: Mapping[str, Any],
    *,
    preset: str | None = None,
    plugins: Sequence[str] = (),
    without: Sequence[str] = (),
    settings: Sequence[str] = (),
    data: Path | None = None,
    seed: int | None = None,
) -> Resolved:
    """Resolve a config given as plain Python values, as from `ceph.train({...})`; relative paths start here.

    The other arguments are those of `resolve`. Raises ConfigError, PluginError.
    """
    layers = Layers()
    try:
        layers.add_tree(from_python(values, "python"), Path.cwd())
    except TypeError as error:
        raise ConfigError(str(error)) from None
    return _resolve(layers, _flags(plugins, settings, data, seed), preset, plugins, without)


def _flags(plugins: Sequence[str], settings: Sequence[str], data: Path | None, seed: int | None) -> Layers:
    """The layer of the command line: --plugin < --data < --seed < --set."""
    flags = Layers()
    given: dict[str, str] = {}
    for value in plugins:
        name = _plugin_name(value)
        if given.setdefault(name, value) != value:
            what = f"both --plugin {given[name]} and --plugin {value} are the plugin '{name}'"
            flags.fault(what, f"plugins.{name}", flag_place("--plugin", value), "name one of them, or rename the file")
        else:
            flags.add_flag("--plugin", ("plugins", name), {"from": value} if discovery.is_file(value) else {}, value)
    if data is not None:
        flags.add_flag("--data", ("data", "path"), str(data), str(data))
    if seed is not None:
        flags.add_flag("--seed", ("train", "seed"), seed, str(seed))
    flags.add_settings(settings)
    return flags


def _resolve(
    layers: Layers,
    flags: Layers,
    preset: str | None,
    plugins: Sequence[str],
    without: Sequence[str],
    imports: Imports = "all",
    then: Mapping[str, Mapping[str, Any]] | None = None,
) -> Resolved:
    if preset is not None:
        layers.add_preset(preset, "", flag_place("--preset", preset))
    layers.add(flags.root)
    problems = layers.problems + flags.problems
    if layers.broken:
        raise _error(problems)  # what follows from half a text is noise
    tree, more = _switch_off(layers.root, plugins, without)
    checked = check_plugins(tree, imports, then)
    if checked.untrusted:
        raise Untrusted.of(checked.untrusted)
    problems += more + checked.problems
    config, more = _check_core(tree, checked.settings)
    problems += more
    if config is None or problems or checked.faults:
        raise _error(problems, checked.faults)
    return Resolved(config, provenance(config.model_dump(mode="json"), tree), checked.loaded)


def _error(problems: Sequence[Problem], faults: Sequence[PluginError] = ()) -> CephError:
    """All problems by place; faults of plugins' own code are told along, and alone where nothing else is wrong."""
    told = [problem for fault in faults for problem in fault.problems]
    lowest = Place("", 0, 0)
    ordered = sorted({*problems, *told}, key=lambda p: (p.place or lowest, p.key, p.what))
    return ConfigError(ordered) if problems else PluginError(ordered)


def _switch_off(tree: Node, plugins: Sequence[str], without: Sequence[str]) -> tuple[Node, list[Problem]]:
    """The tree without the plugins that `--without` names."""
    problems: list[Problem] = []
    section = tree.at("plugins")
    on = dict(section.value) if section is not None and isinstance(section.value, Mapping) else {}
    asked = {_plugin_name(value) for value in plugins}
    for value in dict.fromkeys(without):
        name, place = _plugin_name(value), flag_place("--without", value)
        if name in asked:
            problems.append(Problem("is switched on and off by the same call", f"plugins.{name}", place))
        elif name not in on:
            hint = nearest(name, on) if on else "no plugin is on"
            hint = hint.replace("valid:", "on:", 1)
            problems.append(Problem("is not on", f"plugins.{name}", place, hint))
        on.pop(name, None)
    if section is None or not isinstance(section.value, Mapping) or not isinstance(tree.value, Mapping):
        return tree, problems
    return replace(tree, value={**tree.value, "plugins": replace(section, value=on)}), problems


def _plugin_name(value: str) -> str:
    return discovery.file_plugin_name(value) if discovery.is_file(value) else value


def _check_core(tree: Node, settings: Mapping[str, Any]) -> tuple[Config | None, list[Problem]]:
    """The whole config, with the settings of plugins that were found right."""
    values = {key: value for key, value in tree.plain().items() if key != "plugins"}
    try:
        return _validate({**values, "plugins": settings}), []
    except ValidationError as error:
        problems = problems_of(error, tree, Config, also=_elsewhere(tree))
    wrong = {problem.key.partition(".")[0] for problem in problems}
    if not wrong & {"target", "loss"}:
        # A fault in one section keeps pydantic from checking how others fit together: look again without it.
        try:
            _validate({key: value for key, value in values.items() if key not in wrong})
        except ValidationError as error:
            problems += problems_of(error, tree, Config)
    return None, problems


def _validate(values: Mapping[str, Any]) -> Config:
    # By way of JSON, lists become tuples and texts become paths while "8" is no number and true is no 1.
    return Config.model_validate_json(json.dumps(values), strict=True)


def _elsewhere(tree: Node) -> dict[str, str]:
    """For keys that stand at the wrong level: where the key of that name is (`epochs` -> `train.epochs`)."""
    homes: dict[str, str] = {}
    for section, info in Config.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            for key in info.annotation.model_fields:
                homes[key] = f"{section}.{key}" if key not in homes else ""
    homes |= {plugin.name: f"plugins.{plugin.name}" for plugin in discovery.installed()}
    wrong: dict[str, str] = {}
    for key, node in tree.value.items() if isinstance(tree.value, Mapping) else ():
        if key not in Config.model_fields:
            wrong[key] = homes.get(key, "")
        elif isinstance(node.value, Mapping) and key != "plugins":
            wrong |= {f"{key}.{inner}": homes[inner] for inner in node.value if inner in homes}
    return wrong


def provenance(values: Any, tree: Node, path: tuple[str, ...] = ()) -> dict[str, str]:
    """The origin of every leaf (lists are leaves), and of every plugin, by dotted key."""
    found: dict[str, str] = {}
    if path and (not isinstance(values, Mapping) or not values or path[:-1] == ("plugins",)):
        found[dotted(path)] = _origin(tree, path)
    if isinstance(values, Mapping):
        for key, value in values.items():
            found |= provenance(value, tree, (*path, key))
    return found


def _origin(tree: Node, path: tuple[str, ...]) -> str:
    for length in range(len(path), 0, -1):
        node = tree.at(*path[:length])
        if node is not None:
            # A mapping above a key that is not in it says nothing: the key's value is the model's default.
            return "default" if isinstance(node.value, Mapping) and length < len(path) else node.origin
    return "default"
