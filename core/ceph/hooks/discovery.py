"""Which plugins are installed, listed without importing them; and the import of those that are selected.

A plugin is code that runs with the user's rights, so only what is named is imported, and where the environment
variable CEPH_ALLOW_PLUGINS is set, only what it lists: names of installed plugins and paths of files, joined by commas.
A file is allowed by what it holds, so that a run goes on with its own copy of it. This guards against mistakes, not
against the user, who can unset it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ceph.errors import ConfigError, PluginError, nearest
from ceph.files import read_bytes
from ceph.hooks import trust
from ceph.hooks.file_modules import import_file

if TYPE_CHECKING:
    from ceph.hooks.base import Plugin, PluginConfig

log = logging.getLogger("ceph")

GROUP = "ceph.plugins"
ALLOWED = "CEPH_ALLOW_PLUGINS"
MAX_BYTES = 2**24  # of a plugin's file
_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<cls>[A-Za-z_]\w*))?", re.DOTALL)


@dataclass(frozen=True)
class InstalledPlugin:
    """An entry point of the group `ceph.plugins`; nothing of it has been imported."""

    name: str
    value: str
    distribution: str
    version: str

    @property
    def source(self) -> Path | None:
        """The file that holds the plugin's class, found without importing its package."""
        return _module_file(self.value.partition(":")[0].strip())

    @property
    def description(self) -> str:
        """The first line of the class's docstring, read without importing it; empty where there is none."""
        source = self.source
        return _docstring(source, self.value.partition(":")[2].strip()) if source is not None else ""

    @property
    def fault(self) -> str:
        """What keeps it from being imported, as far as can be told without doing so; empty where nothing does."""
        module, _, attribute = (part.strip() for part in self.value.partition(":"))
        source = self.source
        if source is None:
            return f"the module {module} is not there"
        try:
            names = _names_in(source)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return f"{source} cannot be read: {type(error).__name__}: {error}"
        return "" if {attribute.partition(".")[0], "*"} & names else f"{source} has no class {attribute}"


@dataclass(frozen=True, eq=False)
class LoadedPlugin:
    """A plugin that was selected and imported: its class, and where exactly it came from.

    `version` is its distribution's, or the first 12 digits of the file's hash; `file` is the absolute
    `path.py` or `path.py:Class` of a plugin in a file, and empty for an installed one.
    """

    name: str
    plugin_class: type[Plugin[Any]]
    version: str
    distribution: str
    source: Path
    sha256: str
    file: str = ""

    def validate(self, settings: Mapping[str, Any]) -> PluginConfig:
        """The settings (less our own `from`) as the plugin's own model; raises pydantic's ValidationError."""
        own = {key: value for key, value in settings.items() if key != "from"}
        return self.plugin_class.config_model().model_validate_json(json.dumps(own), strict=True)

    def create(self, settings: Mapping[str, Any]) -> Plugin[Any]:
        """The plugin with these settings, which were validated before."""
        config = self.validate(settings)
        try:
            made = self.plugin_class(config)
        except (Exception, SystemExit) as error:
            raise _failed(self.name, self.version, self.source, "cannot be created", error) from error
        if not hasattr(made, "config"):
            what = f"plugin '{self.name}' {self.version} ({self.source}): its __init__ leaves it without `config`"
            raise PluginError(what, hint="write def __init__(self, config=None) and, first, super().__init__(config)")
        return made

    @property
    def label(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} {self.version}"


def installed() -> tuple[InstalledPlugin, ...]:
    """Every installed plugin, by name; two distributions that give one name stand side by side."""
    known: dict[int, tuple[str, str]] = {id(None): ("?", "?")}  # a distribution is read anew each time it is asked
    found = set()
    for point in metadata.entry_points(group=GROUP):
        if point.dist and id(point.dist) not in known:
            known[id(point.dist)] = (point.dist.name, point.dist.version)
        found.add(InstalledPlugin(point.name, point.value, *known[id(point.dist)]))
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def is_file(value: str) -> bool:
    """Whether a value of `--plugin` names a file: it ends in `.py` or `.py:Class`."""
    return _FILE.fullmatch(value) is not None


def file_plugin_name(value: str) -> str:
    """The name of a plugin in a file: the class after the colon, else the file's stem (a package's), in kebab-case."""
    match = _FILE.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} names no .py file")
    path = Path(match["path"])
    return kebab_case(match["cls"] or (path.absolute().parent.name if path.stem == "__init__" else path.stem))


def kebab_case(name: str) -> str:
    """`OhkmLoss2`, `ohkm_loss2` -> `ohkm-loss2`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def load(value: str, *, name: str = "", unasked: bool = False, then: Mapping[str, Any] | None = None) -> LoadedPlugin:
    """Import one plugin: by the name of an installed one, or from a file (`path.py`, `path.py:Class`).

    `name` overrides the name of a plugin in a file; `unasked` is a file that the user has not named, which must be
    trusted; `then` is what environment.json of a run says of the plugin. Raises ConfigError where the name or the file
    is wrong, not allowed or not trusted, PluginError where the plugin cannot be imported or is no plugin.
    """
    if is_file(value):
        return _load_file(value, name or file_plugin_name(value), unasked=unasked, then=then or {})
    return _load_installed(value, then or {})


def _load_installed(name: str, then: Mapping[str, Any]) -> LoadedPlugin:
    known = installed()
    found = [plugin for plugin in known if plugin.name == name]
    key = f"plugins.{name}"
    if not found:
        hint = (
            f"install {then['source']} {then['version']}, which gave it to this run, or do without: --without {name}"
            if {"source", "version"} <= then.keys()
            else nearest(name, {plugin.name for plugin in known})
            or "no plugins are installed; a file works too: ./my_plugin.py"
        )
        raise ConfigError(f"there is no plugin {name!r}", key=key, hint=hint)
    if len(found) > 1:
        givers = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in found)
        hint = f"uninstall one of them, or do without: --without {name}"
        raise ConfigError(f"the plugin {name!r} is given by {givers}", key=key, hint=hint)
    plugin = found[0]
    _require_allowed(name)
    source = plugin.source or Path(plugin.value)
    module_name, _, attribute = plugin.value.partition(":")
    try:
        with redirect_stdout(sys.stderr):  # what a module prints is no answer of a command
            target: Any = importlib.import_module(module_name.strip())
        for part in filter(None, attribute.strip().split(".")):
            target = getattr(target, part)
    except (Exception, SystemExit) as error:
        raise _failed(name, plugin.version, source, "cannot be imported", error) from error
    _check_class(target, name, plugin.version, source, plugin.value)
    digest = hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else ""
    return LoadedPlugin(name, target, plugin.version, plugin.distribution, source, digest)


def _load_file(value: str, name: str, *, unasked: bool, then: Mapping[str, Any]) -> LoadedPlugin:
    from ceph.hooks.base import Plugin

    match, key = _FILE.fullmatch(value), f"plugins.{name}"
    assert match is not None  # noqa: S101 - the caller has asked is_file
    path = Path(match["path"])
    try:
        path = path.expanduser().absolute()
        data = read_bytes(path, MAX_BYTES)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: `~nobody` has no home
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot read the plugin's file {path}: {reason}", key=key) from None
    digest = hashlib.sha256(data).hexdigest()
    _require_allowed(name, digest)
    changed = then.get("sha256", digest) != digest
    if unasked:
        trust.require(name, path, digest, "it has changed since the run began" if changed else "")
    if changed:
        _warn_of_changed(name, path, digest, str(then["sha256"])[:12])
    _warn_of_shadowed(name, path, digest)
    try:
        with redirect_stdout(sys.stderr):
            module = import_file(path, digest)
    except (Exception, SystemExit) as error:
        raise _failed(name, digest[:12], path, "cannot be imported", error) from error
    own = {
        attribute: found
        for attribute, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, Plugin) and found.__module__ == module.__name__
    }
    if match["cls"]:
        target = getattr(module, match["cls"], None)
        if target is None:
            what = f"plugin '{name}' {digest[:12]}: {path} has no class {match['cls']!r}"
            raise ConfigError(what, key=key, hint=nearest(match["cls"], own))
        _check_class(target, name, digest[:12], path, match["cls"])
    elif len(own) != 1:
        hint = "write class Name(Plugin[NameConfig])" if not own else f"name one: {path.name}:{min(own)}"
        what = "no Plugin subclass" if not own else f"several Plugin subclasses ({', '.join(sorted(own))})"
        raise ConfigError(f"plugin '{name}' {digest[:12]}: {path} has {what}", key=key, hint=hint)
    else:
        target = next(iter(own.values()))
    return LoadedPlugin(
        name, target, digest[:12], "", path, digest, f"{path}:{match['cls']}" if match["cls"] else str(path)
    )


@cache
def _warn_of_changed(name: str, path: Path, digest: str, then: str) -> None:
    """Say so where the file of a run's plugin is not the one that the run began with."""
    log.warning("plugin '%s' %s (%s) is not the one that the run began with, %s", name, digest[:12], path, then)


@cache  # once for each file, however often it is loaded
def _warn_of_shadowed(name: str, path: Path, digest: str) -> None:
    """Say so where an installed plugin has the name of one in a file, whose settings and code then count."""
    for plugin in installed():
        if plugin.name == name and (plugin.source is None or _sha256(plugin.source) != digest):
            log.warning(
                "plugin '%s' %s is that of %s, not that of %s %s\n  hint: rename the file to have both",
                *(name, digest[:12], path, plugin.distribution, plugin.version),
            )


def _require_allowed(name: str, digest: str = "") -> None:
    """Raise ConfigError unless CEPH_ALLOW_PLUGINS is unset or lists the plugin: by name, or a file of this sha256."""
    listed = os.environ.get(ALLOWED)
    entries = [entry.strip() for entry in (listed or "").split(",") if entry.strip()]
    files = {_sha256(Path(entry)) for entry in entries if entry.endswith(".py")} if digest else set()
    if listed is None or (digest in files if digest else name in entries):
        return
    raise ConfigError(
        f"the plugin {name!r} is not on the list of allowed plugins"
        + (" (a file counts by what it holds)" if digest else ""),
        key=f"plugins.{name}",
        hint=f"{ALLOWED} allows {', '.join(entries) or 'none'}; ask who set it, or do without: --without {name}",
    )


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _check_class(target: Any, name: str, version: str, source: Path, value: str) -> None:
    from ceph.hooks.base import Plugin

    if not (isinstance(target, type) and issubclass(target, Plugin) and target is not Plugin):
        raise PluginError(
            f"plugin '{name}' {version} ({source}): {value} is no subclass of ceph.plugin.Plugin",
            hint=f"write class Name(Plugin[NameConfig]), or do without it: --without {name}",
        )


def _failed(name: str, version: str, source: Path, what: str, error: BaseException) -> PluginError:
    """The error of a plugin whose own code failed, with the line where it did."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == source]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f"{source}:{line}" if line else str(source)
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    hint = f"mend it or do without it: --without {name}"
    if isinstance(error, ImportError) and error.name == "ceph.plugin":
        hint = f"upgrade ceph-trainer, whose ceph.plugin lacks that name, or do without the plugin: --without {name}"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"install what provides the module {error.name!r}, or do without the plugin: --without {name}"
    return PluginError(f"plugin '{name}' {version} ({where}) {what}: {reason}", hint=hint)


def _module_file(module: str) -> Path | None:
    """The file of a module; only finders run, no package is imported."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top) if top else None
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    if not rest and spec.origin and spec.origin.endswith(".py"):
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        base = Path(folder, *rest)
        for candidate in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _names_in(source: Path) -> set[str]:
    """The names that a module may give: of its classes, what it assigns and what it imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def _docstring(source: Path, class_name: str) -> str:
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    found = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    text = next((ast.get_docstring(node) or "" for node in found), "")
    return text.strip().partition("\n")[0].strip()
