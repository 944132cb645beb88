"""What can be wrong with a plugin before it runs: unmarked, unknown or misspelt hooks, and plugins that do not fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pluggy

from ceph.errors import Problem, nearest
from ceph.hooks.base import API, Plugin
from ceph.hooks.specs import VERBS, Specs

# Hooks of API 1 that are gone, and those that ask the same now.
GONE = {
    "build_codec": "build_targets for encode, build_decoder or build_constraint for decode",
    "predict": "views for further views of a film, members for further networks",
}
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def manager() -> pluggy.PluginManager:
    """A pluggy manager that knows every hook and no plugin."""
    found = pluggy.PluginManager("ceph")
    found.add_hookspecs(Specs)
    return found


@cache
def hook_arguments(hook: str) -> tuple[str, ...]:
    """The names of a hook's arguments, without self."""
    return tuple(inspect.signature(getattr(Specs, hook)).parameters)[1:]


def taken_arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the arguments that an implementation (bound) takes by name."""
    return tuple(name for name, p in inspect.signature(function).parameters.items() if p.kind in _BY_NAME)


def hooks_of(plugin: type[Plugin[Any]]) -> tuple[str, ...]:
    """The hooks that a plugin's class implements, in the order in which they are declared."""
    marked = _marked(plugin)
    return tuple(hook for hook in VERBS if hook in marked)


def label(name: str, version: str = "", hook: str = "") -> str:
    """How a message names a plugin: `plugin 'ema' 1.2, hook step_end`."""
    return f"plugin '{name}'" + (f" {version}" if version else "") + (f", hook {hook}" if hook else "")


def find_misuse(plugins: Mapping[str, Plugin[Any]], versions: Mapping[str, str]) -> list[Problem]:
    """Everything wrong with these plugins, alone and together; each problem names plugin, version, hook and remedy."""
    problems: list[Problem] = []
    for name, plugin in plugins.items():
        problems += _alone(name, versions.get(name, ""), type(plugin))
    return problems + list(_together(plugins, versions))


def _alone(name: str, version: str, plugin: type[Any]) -> list[Problem]:
    def problem(what: str, hint: str, hook: str = "") -> Problem:
        return Problem(f"{label(name, version, hook)}: {what}", f"plugins.{name}", hint=hint)

    if not issubclass(plugin, Plugin):
        return [problem(f"{plugin.__name__} is no plugin", f"write `class {plugin.__name__}(Plugin)`")]
    if type(plugin.api) is not int:
        return [problem(f"its api is {plugin.api!r}, no whole number", f"write api = {API}")]
    if plugin.api not in range(1, API + 1):  # its hooks may be unknown here: nothing else is worth telling
        hint = f"upgrade ceph-trainer, or install a version of the plugin for api {API}; without it: --without {name}"
        return [problem(f"it is written for api {plugin.api!r} of the hooks, and this ceph has api {API}", hint)]
    problems: list[Problem] = []
    marked = _marked(plugin)
    for hook in VERBS:
        if hook in marked or inspect.getattr_static(plugin, hook, None) is None:
            continue
        if _routine(plugin, hook) is None:
            what, hint = "the attribute is named like a hook but is no method", "write a plain method with @hookimpl"
        else:
            what = "the method is named like a hook but lacks @hookimpl"
            hint = "put @hookimpl above the method, or rename it"
        problems.append(problem(what, hint, hook))
    for hook, options in marked.items():
        if hook not in VERBS:
            now = f"answer {GONE[hook]}; see docs/hooks.md" if hook in GONE else nearest(hook, VERBS)
            problems.append(problem("there is no such hook" + " any more" * (hook in GONE), now, hook))
            continue
        problems += [problem(what, hint, hook) for what, hint in _implementation(plugin, hook, options)]
    if not marked and not problems:
        hint = f"mark a method named like a hook with @hookimpl; {nearest('', VERBS)}"
        problems.append(problem("it implements no hook", hint))
    saves = plugin.state_dict is not Plugin.state_dict
    if saves != (plugin.load_state_dict is not Plugin.load_state_dict):
        have, lack = ("state_dict", "load_state_dict") if saves else ("load_state_dict", "state_dict")
        problems.append(problem(f"it has {have} but no {lack}", f"write {lack} too: a memory is saved and taken back"))
    return problems


def _implementation(plugin: type[Plugin[Any]], hook: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    odd = sorted(key for key, value in options.items() if value)
    if odd:
        hint = "write plain @hookimpl: answers are combined by the plugins' names, and a method bears its hook's name"
        yield f"@hookimpl takes no {', '.join(odd)} here", hint
    function = _routine(plugin, hook)
    if function is None:  # pragma: no cover - a marker sits on functions only
        return
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        yield "it is a generator or a coroutine, so calling it runs nothing", "write a plain `def` without `yield`"
    valid = hook_arguments(hook)
    parameters = list(inspect.signature(function).parameters.values())
    if not isinstance(inspect.getattr_static(plugin, hook), staticmethod):
        first = parameters[0].name if parameters else ""
        if first in (*valid, ""):
            others = ", ".join(["self", *(parameter.name for parameter in parameters)])
            yield "the method has no `self`", f"write def {hook}({others})"
        parameters = parameters[1:]
    for parameter in parameters:
        if parameter.kind not in _BY_NAME:
            yield f"'{parameter}' takes no argument by name", f"name the arguments you need: {', '.join(valid)}"
        elif parameter.name not in valid:
            hint = nearest(parameter.name, valid) if valid else "this hook has no arguments"
            yield f"it has no argument '{parameter.name}'", hint


def _together(plugins: Mapping[str, Plugin[Any]], versions: Mapping[str, str]) -> Iterator[Problem]:
    known = {name: plugin for name, plugin in plugins.items() if isinstance(plugin, Plugin)}
    hooks = {name: hooks_of(type(plugin)) for name, plugin in sorted(known.items())}
    for hook, verb in VERBS.items():
        takers = [name for name, implemented in hooks.items() if hook in implemented]
        if verb == "one" and len(takers) > 1:
            all_of_them = " and ".join(label(name, versions.get(name, "")) for name in takers)
            what = f"{all_of_them} answer the hook {hook}, which takes one answer"
            hint = "leave one out: " + " or ".join(f"--without {name}" for name in takers)
            yield Problem(what, f"plugins.{takers[-1]}", hint=hint)
    for name, plugin in sorted(known.items()):
        who = label(name, versions.get(name, ""))
        for needed in plugin.requires:
            if needed not in plugins:
                hint = f"add it: --plugin {needed}, or leave this one out: --without {name}"
                yield Problem(f"{who} requires the plugin '{needed}', which is not on", f"plugins.{name}", hint=hint)
        for other in plugin.conflicts:
            if other in plugins:
                hint = f"leave one out: --without {name} or --without {other}"
                yield Problem(f"{who} does not go together with the plugin '{other}'", f"plugins.{name}", hint=hint)


def _routine(plugin: type[Any], attribute: str) -> Callable[..., Any] | None:
    """The plain function behind a method, found without running descriptors; None if there is none."""
    found = inspect.getattr_static(plugin, attribute, None)
    if isinstance(found, (staticmethod, classmethod)):
        found = found.__func__
    return found if inspect.isroutine(found) else None


def _marked(plugin: type[Any]) -> dict[str, dict[str, Any]]:
    """The methods that carry @hookimpl, with its options."""
    pm = pluggy.PluginManager("ceph")  # the specs change nothing of what is marked
    found = {}
    for attribute in dir(plugin):
        if _routine(plugin, attribute) is not None:
            options = pm.parse_hookimpl_opts(plugin, attribute)
            if options is not None:
                found[attribute] = dict(options)
    return found
