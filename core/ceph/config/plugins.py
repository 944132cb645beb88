"""The config's `plugins` section: each plugin imported, its settings checked by its own model, relations kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from ceph.config.explain import problems_of
from ceph.config.source import Node
from ceph.config.words import show
from ceph.errors import ConfigError, Place, PluginError, Problem
from ceph.hooks import discovery
from ceph.hooks.discovery import LoadedPlugin
from ceph.hooks.misuse import hooks_of
from ceph.hooks.specs import VERBS
from ceph.hooks.trust import Untrusted

# Which plugins are imported: all that are on, those of files that the user has not agreed to left out, or none. The
# settings of others stand as they are written.
Imports = Literal["all", "trusted", "none"]
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass
class Checked:
    """The plugins that are on, and their settings with defaults; or what is wrong with them."""

    loaded: dict[str, LoadedPlugin]
    settings: dict[str, dict[str, Any]]
    problems: list[Problem]
    faults: list[PluginError]
    untrusted: list[Untrusted]


def check_plugins(tree: Node, imports: Imports = "all", then: Mapping[str, Mapping[str, Any]] | None = None) -> Checked:
    """Import the plugins that are on, and validate each one's section with its own model.

    `then` is what environment.json of a run says of its plugins, by name.
    """
    checked, then = Checked({}, {}, [], [], []), then or {}
    section = tree.at("plugins")
    if section is None:
        return checked
    if not isinstance(section.value, Mapping):
        what = f"must be a mapping of names to settings, not {show(section.plain())}"
        hint = "write each name as a key: `hard-mining: {}`"
        checked.problems.append(Problem(what, "plugins", section.place, hint))
        return checked
    for name, node in sorted(section.value.items()):
        place = node.key_place or node.place
        if not isinstance(node.value, Mapping):
            what, hint = (
                f"must be a mapping of settings, not {show(node.plain())}",
                f"to switch it on, write `{name}: {{}}`",
            )
            checked.problems.append(Problem(what, f"plugins.{name}", node.place, hint))
            continue
        if imports == "none":
            checked.settings[name] = node.plain()
            continue
        try:
            loaded = _load(name, node, place, then.get(name, {}))
        except Untrusted as error:
            if imports == "trusted":
                checked.settings[name] = node.plain()
            else:
                problems = [replace(p, place=p.place or place) for p in error.problems]
                checked.untrusted.append(Untrusted(problems, error.files))
        except ConfigError as error:
            checked.problems += [replace(p, place=p.place or place) for p in error.problems]
        except PluginError as error:
            checked.faults.append(PluginError([replace(p, place=p.place or place) for p in error.problems]))
        else:
            _check_settings(checked, name, loaded, node, tree)
    checked.problems += _relations(checked.loaded, section)
    return checked


def _load(name: str, node: Node, place: Place | None, then: Mapping[str, Any]) -> LoadedPlugin:
    file = node.at("from")
    if file is None:
        return discovery.load(name, then=then) if not discovery.is_file(name) else _refuse_file(name, place)
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "the name of a plugin is lower-case letters and digits, joined by dashes",
            key=f"plugins.{name}",
            place=place,
            hint=f"for example '{discovery.kebab_case(name) or 'my-plugin'}'",
        )
    if not isinstance(file.value, str) or not discovery.is_file(file.value):
        what = f"must be a file (./plugin.py or ./plugin.py:Class), not {show(file.plain())}"
        raise ConfigError(what, key=f"plugins.{name}.from", place=file.place)
    return discovery.load(file.value, name=name, unasked=file.unasked, then=then)


def _refuse_file(name: str, place: Place | None) -> LoadedPlugin:
    example = discovery.file_plugin_name(name) or "my-plugin"
    hint = f"write `{example}: {{from: {name}}}`"
    raise ConfigError("a file is no name", key=f"plugins.{name}", place=place, hint=hint)


def _check_settings(checked: Checked, name: str, loaded: LoadedPlugin, node: Node, tree: Node) -> None:
    settings = {key: value for key, value in node.plain().items() if key != "from"}
    try:
        model = loaded.plugin_class.config_model()
        resolved = loaded.validate(settings).model_dump(mode="json", by_alias=True)
    except ValidationError as error:
        checked.problems += problems_of(error, tree, model, ("plugins", name))
        checked.loaded[name] = loaded
        return
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's validator may raise anything
        whose = f"plugin '{name}' {loaded.version} ({loaded.source})"
        what = f"{whose} cannot check its settings: {type(error).__name__}: {error}"
        hint = f"mend it, or do without: --without {name}"
        checked.faults.append(PluginError(what, place=node.key_place or node.place, hint=hint))
        return
    checked.settings[name] = {"from": loaded.file, **resolved} if loaded.file else resolved
    checked.loaded[name] = loaded


def _relations(loaded: Mapping[str, LoadedPlugin], section: Node) -> Iterator[Problem]:
    """What plugins require and conflict with, by name, and hooks of one answer that several of them would give."""
    on = section.value if isinstance(section.value, Mapping) else {}
    for name, plugin in loaded.items():
        for other in sorted(set(plugin.plugin_class.requires) - set(on)):
            there = any(found.name == other for found in discovery.installed())
            what = f"needs the plugin {other}, which is {'off' if there else 'not installed'}"
            hint = f"--plugin {other}" if there else f"install what provides it, or --without {name}"
            yield Problem(what, f"plugins.{name}", _place(section, name), hint)
        for other in sorted(set(plugin.plugin_class.conflicts) & set(on)):
            hint = f"--without {other}, or --without {name}"
            what = f"cannot be combined with the plugin {other}"
            yield Problem(what, f"plugins.{name}", _place(section, name), hint)
    answered = {name: hooks_of(plugin.plugin_class) for name, plugin in loaded.items()} if len(loaded) > 1 else {}
    for hook in (hook for hook, verb in VERBS.items() if verb == "one"):
        first, *others = [name for name, hooks in answered.items() if hook in hooks] or [""]
        for name in others:
            what = f"answers the hook {hook}, which takes one answer, as the plugin {first} does"
            hint = f"--without {first}, or --without {name}"
            yield Problem(what, f"plugins.{name}", _place(section, name), hint)


def _place(section: Node, name: str) -> Place | None:
    node = section.at(name)
    return (node.key_place or node.place) if node is not None else None
