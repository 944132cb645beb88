"""The plugin under test: its class, name and settings, what it goes with, and how its failures are told."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ceph.errors import CephError, ConfigError
from ceph.hooks import discovery
from ceph.hooks.base import Plugin
from ceph.hooks.blame import file_of
from ceph.hooks.discovery import InstalledPlugin, LoadedPlugin
from ceph.hooks.misuse import find_misuse, hooks_of, label
from ceph.hooks.verbs import Hooks


class LeftOut(Exception):
    """A check that turned out not to apply; says why."""


def _gives(point: InstalledPlugin, plugin: type[Plugin[Any]]) -> bool:
    """Whether an entry point names this class, be it where the class is defined or where it is imported to."""
    module, _, attribute = (part.strip() for part in point.value.partition(":"))
    return getattr(sys.modules.get(module), attribute, None) is plugin


def _digest(plugin: type[Plugin[Any]]) -> str:
    """The version of a plugin in a file, as a run has it; empty where there is no file."""
    file = Path(file_of(plugin) or "?")
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else ""


@contextmanager
def asserted() -> Iterator[None]:
    """Turn an error meant for a person into a failed check with the same text."""
    try:
        yield
    except CephError as error:
        raise AssertionError(str(error)) from error


@dataclass(frozen=True, eq=False)
class Subject:
    """A plugin's class under the name and with the settings that it is tested with."""

    plugin: type[Plugin[Any]]
    name: str
    version: str
    settings: Mapping[str, Any]
    neutral: Mapping[str, Any] | None

    @classmethod
    def of(
        cls,
        plugin: type[Plugin[Any]],
        *,
        settings: Mapping[str, Any] | None = None,
        neutral: Mapping[str, Any] | None = None,
        name: str = "",
    ) -> Subject:
        """Name an installed plugin as its entry point does, another as its class."""
        found = [point for point in discovery.installed() if _gives(point, plugin) and name in ("", point.name)]
        known = found[0] if found else None
        own = name or (known.name if known else discovery.kebab_case(plugin.__name__))
        version = known.version if known else _digest(plugin)
        return cls(plugin, own, version, dict(settings or {}), neutral)

    def failure(self, what: str, remedy: str, hook: str = "") -> AssertionError:
        """The error of a failed check: which plugin and hook, what is wrong, what to do."""
        return AssertionError(f"{label(self.name, self.version, hook)}: {what}\n  hint: {remedy}")

    @cached_property
    def implemented(self) -> tuple[str, ...]:
        """The hooks that the class marks, in the order of specs.py."""
        return hooks_of(self.plugin)

    @property
    def loaded(self) -> LoadedPlugin:
        """The class as if it had been found by its name."""
        return LoadedPlugin(self.name, self.plugin, self.version, "", Path(file_of(self.plugin) or "?"), "")

    def values(self, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """All settings as plain values, as config.yaml has them. Raises pydantic's ValidationError."""
        config = self.loaded.validate(self.settings if settings is None else settings)
        return config.model_dump(mode="json", by_alias=True)

    def companions(self) -> tuple[str, ...]:
        """The plugins that this one cannot be without, and theirs. Raises ConfigError where one cannot be had."""
        found: dict[str, None] = {}
        waiting = list(self.plugin.requires)
        while waiting:
            name = waiting.pop()
            if name not in found and name != self.name:
                found[name] = None
                try:
                    waiting += discovery.load(name).plugin_class.requires
                except CephError as error:
                    what = f"{label(self.name, self.version)} requires the plugin {name}: {error.problems[0].what}"
                    raise ConfigError(what, hint=error.problems[0].hint) from error
        return tuple(found)

    def misuse(self) -> str:
        """What is wrong with the hooks and the relations of the class, as a text; empty where nothing is."""
        plugin = self.loaded.create(self.settings)
        others = {name: discovery.load(name).create({}) for name in self.companions()}
        problems = find_misuse({self.name: plugin, **others}, {self.name: self.version})
        return "\n".join(map(str, problems))

    def require_sound(self) -> None:
        """Leave a check out where a plainer one has failed: settings that do not construct, hooks that are misused."""
        try:
            wrong = self.misuse()
        except (CephError, ValidationError):
            wrong = "it cannot be created"
        if wrong:
            raise LeftOut("the plugin cannot be switched on; see the failed checks")

    def hooks(self) -> Hooks:
        """A new instance, alone but for the plugins that it requires."""
        self.require_sound()
        others = {name: discovery.load(name).create({}) for name in self.companions()}
        return Hooks({self.name: self.loaded.create(self.settings), **others}, {self.name: self.version})
