"""How the engine asks plugins: one object that calls every hook, combines the answers and names whoever fails."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import torch

from ceph.errors import CephError, CheckpointError, ConfigError, Interrupted, PluginError, Problem
from ceph.hooks import answers as check
from ceph.hooks import trace
from ceph.hooks.base import Plugin
from ceph.hooks.blame import Blame, BlamedReader, file_of, frames_of
from ceph.hooks.misuse import find_misuse, label, manager, taken_arguments
from ceph.hooks.specs import VERBS, Verb
from ceph.hooks.trace import Spent, Tracer

T = TypeVar("T")
log = logging.getLogger("ceph")


class Call(NamedTuple):
    """One plugin's implementation of one hook, the arguments it takes, and the time it took so far."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    spent: Spent


class Hooks:
    """The plugins of a run, asked by verb; answers are always in the order of the plugins' names.

    `plugins` maps names to instances, `versions` names to versions (for messages). Every misuse that can be seen
    before the run is raised here at once, as a ConfigError. It pickles as its plugins do, for loader workers.

    `spent` is the time that each plugin took in each hook (`ceph.hooks.trace` says what is measured). It is no part of
    any state and decides nothing. Where the logger `ceph.trace` is at DEBUG, the calls are traced too.
    """

    def __init__(self, plugins: Mapping[str, Plugin[Any]], versions: Mapping[str, str] | None = None) -> None:
        self.plugins = dict(sorted(plugins.items()))
        self.versions = dict(versions or {})
        self.disabled: dict[str, str] = {}  # observers that failed, with the reason
        problems = find_misuse(self.plugins, self.versions)
        if problems:
            raise ConfigError(problems)
        pm = manager()
        for name, plugin in self.plugins.items():
            pm.register(plugin, name)
        self._calls: dict[str, tuple[Call, ...]] = {}
        for hook in VERBS:
            found = sorted(getattr(pm.hook, hook).get_hookimpls(), key=lambda impl: impl.plugin_name)
            calls = (Call(i.plugin_name, hook, i.function, taken_arguments(i.function), Spent()) for i in found)
            self._calls[hook] = tuple(calls)
        self.spent: dict[str, dict[str, Spent]] = {name: {} for name in self.plugins}
        for call in (call for calls in self._calls.values() for call in calls):
            self.spent[call.plugin][call.hook] = call.spent
        self._tracer = Tracer() if trace.log.isEnabledFor(logging.DEBUG) else None
        deciding = {call.plugin for hook, calls in self._calls.items() if VERBS[hook] != "tell" for call in calls}
        self._observers = {n for n, p in self.plugins.items() if n not in deciding and not _has_memory(p)}
        # Least and greatest number that each plugin gave since the last check, still on the device.
        self._seen: dict[tuple[str, str, str], tuple[torch.Tensor, torch.Tensor]] = {}
        self.shapes: dict[tuple[str, str], str] = {}  # of `extras`, by plugin and name: all films have the first one's

    def __reduce__(self) -> tuple[type[Hooks], tuple[dict[str, Plugin[Any]], dict[str, str]]]:
        return type(self), (self.plugins, self.versions)

    def copied(self, hooks: Collection[str]) -> Hooks:
        """These hooks alone, asked of copies of the plugins that answer them."""
        plugins, calls = {}, {h: self._calls[h] if h in hooks else () for h in self._calls}
        for name in sorted({call.plugin for found in calls.values() for call in found}):
            try:
                plugins[name] = copy.deepcopy(self.plugins[name])
            except Exception as error:
                what = f"it cannot be copied for the loader of films: {type(error).__name__}: {error}"
                hint = "keep what cannot be copied, such as an open file or a lock, out of the plugin"
                raise self._error(name, "", what, hint=hint) from error
        own = {h: tuple(c._replace(function=getattr(plugins[c.plugin], h)) for c in calls[h]) for h in calls}
        found = copy.copy(self)
        vars(found).update(plugins=plugins, _calls=own, _seen={}, shapes={}, _tracer=self._tracer)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The plugins' names, sorted."""
        return tuple(self.plugins)

    def answers(self, hook: str) -> bool:
        """Tell whether any plugin implements the hook."""
        return bool(self._calls[hook])

    def wants(self, argument: str, *hooks: str) -> bool:
        """Tell whether a plugin takes this argument in one of `hooks`, so that it must be computed."""
        return any(argument in call.arguments for hook in hooks for call in self._calls[hook])

    def answerers(self, hook: str) -> tuple[str, ...]:
        """The plugins that implement the hook, in the order of their answers."""
        return tuple(call.plugin for call in self._calls[hook])

    def one(self, hook: str, /, default: Callable[[], T], **arguments: Any) -> T:
        """The answer of the plugin that implements the hook, or `default()`; a hook may see `default` too."""
        calls = self._of(hook, "one", arguments)
        if not calls:
            return default()
        answer = self._ask(calls[0], {**arguments, "default": default})
        self._right(calls[0], check.ONE[hook](answer, arguments))
        found: T = answer
        return found

    def promised(
        self,
        hook: str,
        answer: Any,
        shape: tuple[int | None, ...],
        device: torch.device,
        dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """What a part gave that `hook` built: the floating tensor of this shape that it promises, on the device.

        None in `shape` is any size, `dtype` None any floating one. Nothing is waited for. Raises PluginError naming the
        plugin that built the part.
        """
        if wrong := check.wrong_tensor(answer, shape, device, dtype):
            raise self.fault(hook, wrong)
        found: torch.Tensor = answer
        return found

    def fault(self, hook: str, wrong: str) -> CephError:
        """The error for what the part gave that `hook` built; the core's own parts keep their promises."""
        calls = self._calls[hook]
        return self._error(calls[0].plugin, hook, wrong) if calls else CephError(f"what {hook} built {wrong}")

    def each(self, hook: str, /, **arguments: Any) -> list[tuple[str, list[Any]]]:
        """The lists that plugins answer (warps, augmentations, views, members), apart: [(plugin, list)]."""
        found = []
        for call in self._of(hook, "mean" if VERBS[hook] == "mean" else "merge", arguments):
            answer = self._ask(call, arguments)
            if answer is None:
                continue
            if not isinstance(answer, (list, tuple)):
                raise self._broken(call, f"gave {check.given(answer)} where a list is promised")
            for part in answer:
                self._right(call, check.lacking(part, *check.LISTED[hook]))
            found.append((call.plugin, list(answer)))
        return found

    def merge(self, hook: str, /, **arguments: Any) -> dict[str, Any]:
        """The dicts that plugins answer to a merge hook, joined; a key given twice names both plugins."""
        joined: dict[str, Any] = {}
        owner: dict[str, str] = {}
        for call in self._of(hook, "merge", arguments):
            answer = self._ask(call, arguments)
            if answer is None:
                continue
            if not isinstance(answer, Mapping) or not all(isinstance(key, str) for key in answer):
                raise self._broken(call, f"gave {check.given(answer)} where a dict with names as keys is promised")
            for key, value in answer.items():
                if key in owner:
                    other = label(owner[key], self.versions.get(owner[key], ""))
                    hint = f"rename one, or leave a plugin out: --without {owner[key]} or --without {call.plugin}"
                    raise self._broken(call, f"gave '{key}', which {other} gives too", hint=hint)
                owner[key] = call.plugin
                joined[key] = self._part(call, key, value, arguments)
        return joined

    def all(self, hook: str, /, shape: tuple[int, ...], **arguments: Any) -> torch.Tensor | None:
        """The logical and of the masks that plugins answer, or None where none does; it broadcasts to `shape`."""
        total: torch.Tensor | None = None
        device = _device(arguments)
        for call in self._of(hook, "all", arguments):
            answer = self._ask(call, arguments)
            if answer is not None:
                self._right(call, check.wrong_mask(answer, shape, device))
                total = answer if total is None else total & answer
        return total

    def product(self, hook: str, /, shape: tuple[int, ...], **arguments: Any) -> torch.Tensor | None:
        """The product of the weights that plugins answer, or None where none does.

        The product broadcasts to `shape` and is float32, on the device; do not write into it, it may be a plugin's
        own. That of `sample_weights` is [N], float64, on the CPU. On the device nothing is waited for: `check` tells
        later of NaN, infinite and negative weights.
        """
        total: torch.Tensor | None = None
        device = _device(arguments)
        for call in self._of(hook, "product", arguments):
            answer = self._ask(call, arguments)
            if answer is None:
                continue
            if hook == "sample_weights":
                self._right(call, check.wrong_table(answer, shape))
                weights = torch.tensor(answer.tolist(), dtype=torch.float64)
            else:
                self._right(call, check.wrong_weights(answer, shape, device))
                weights = answer.float()
                self._watch(call, "", weights)
            total = weights if total is None else total * weights
        if total is not None and hook == "sample_weights" and not bool(total.any()):
            names = self.answerers(hook)
            hint = "mend one, or leave it out: " + " or ".join(f"--without {name}" for name in names)
            raise PluginError(
                f"hook {hook}: together the plugins {', '.join(names)} leave no film to train on", hint=hint
            )
        return total

    def tell(self, hook: str, /, **arguments: Any) -> None:
        """Tell all plugins; one that only observes is switched off if it fails, and the run goes on."""
        problems: list[Problem] = []
        for call in self._of(hook, "tell", arguments):
            try:
                answer = self._ask(call, arguments)
                if answer is not None:
                    raise self._broken(call, f"gave {check.given(answer)}, but this hook takes no answer")
            except ConfigError as error:
                problems += error.problems
            except PluginError as error:
                if call.plugin not in self._observers:
                    raise
                self._disable(call.plugin, error)
        if problems:
            raise ConfigError(problems)

    def check(self, *hooks: str) -> None:
        """Read the flags of the weights and terms that `hooks` (none: all) gave since; waits for the device.

        Raises PluginError naming the plugin and the hook that gave NaN, an infinite or a negative weight.
        """
        asked = [key for key in self._seen if not hooks or key[1] in hooks]
        for (name, hook, part), (low, high) in [(key, self._seen.pop(key)) for key in asked]:
            least, greatest = torch.stack((low, high)).tolist()
            wrong = check.wrong_range(least, greatest, negative=hook in ("loss_terms", "landmark_losses"))
            if wrong:
                raise self._error(name, hook, f"{wrong} under '{part}'" if part else wrong)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Around code that runs what plugins made: what is raised in a plugin's own file is told as its fault."""
        try:
            yield
        except CephError:
            raise
        except (Exception, SystemExit) as error:
            files = {name: file_of(type(plugin)) for name, plugin in self.plugins.items()}
            own = next((f.filename for f in frames_of(error)[::-1] if f.filename in files.values()), "")
            names = [name for name, file in files.items() if file == own]
            if len(names) != 1:
                raise
            deciding = [hook for hook in self.spent[names[0]] if VERBS[hook] != "tell"]
            hook = deciding[0] if len(deciding) == 1 else ""
            raise self._blame(names[0], hook).raised(error, type(self.plugins[names[0]])) from error

    def blames(self, hook: str) -> dict[str, Blame]:
        """Whose fault it is when what plugins answered fails later, by plugin."""
        return {call.plugin: self._blame(call.plugin, hook) for call in self._calls[hook]}

    def suspects(self, *hooks: str) -> str:
        """`; it may be plugin 'x' 1.0, hook build_model: --without x` for each plugin that answers one of `hooks`."""
        calls = [call for hook in hooks for call in self._calls[hook]]
        return "".join(f"; it may be {label(*self._blame(c.plugin, c.hook))}: --without {c.plugin}" for c in calls)

    def forget(self) -> None:
        """Leave flags unread: what was given followed from numbers that were wrong already."""
        self._seen = {}

    def leave_out_observers(self) -> None:
        """Tell nothing to plugins that only observe: another process of the job tells them."""
        self._calls = {
            h: tuple(c for c in calls if c.plugin not in self._observers) for h, calls in self._calls.items()
        }

    def state_dict(self, names: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
        """The state of every plugin (or those of these names) under its name, {} for those without memory."""
        states: dict[str, dict[str, Any]] = {}
        for name, plugin in self.plugins.items():
            if names is not None and name not in names:
                continue
            if not _has_memory(plugin):
                states[name] = {}
                continue
            state = self._ask(Call(name, "state_dict", plugin.state_dict, (), Spent()), {})
            wrong = check.wrong_state(state) or ("" if isinstance(state, dict) else "state_dict() gave no dict")
            if wrong:
                hint = "keep tensors and plain values only: torch.as_tensor(array), float(number)"
                raise self._error(name, "state_dict", wrong, hint=hint)
            states[name] = state
        return states

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]], without: tuple[str, ...] = ()) -> None:
        """Give every plugin its state back; a plugin that is on one side only is an error unless in `without`."""
        for name in sorted(set(state) - set(self.plugins) - set(without)):
            hint = f"switch it on: --plugin {name}, or go on without it: --without {name}"
            raise CheckpointError(f"the checkpoint was written with the plugin '{name}', which is not on", hint=hint)
        for name, plugin in self.plugins.items():
            if name in state:
                load = plugin.load_state_dict
                call = Call(name, "load_state_dict", lambda load=load, name=name: load(state[name]), (), Spent())
                self._ask(call, {})
            elif name not in without:
                hint = f"go on without it: --without {name}; to add it, start a new run: --init-from"
                raise CheckpointError(f"the checkpoint was written without the plugin '{name}'", hint=hint)

    def _of(self, hook: str, verb: Verb, arguments: Mapping[str, Any]) -> tuple[Call, ...]:
        if VERBS[hook] != verb:
            raise ValueError(f"{hook} is asked by the verb {VERBS[hook]}, not {verb}")
        if self._tracer is not None:
            self._tracer.asked(hook, arguments)
        return self._calls[hook]

    def _ask(self, call: Call, arguments: Mapping[str, Any]) -> Any:
        chosen = {name: arguments[name] for name in call.arguments}
        if callable(chosen.get("rng")):  # each plugin has its own
            chosen["rng"] = chosen["rng"](call.plugin)
        began = perf_counter()
        try:
            answer = call.function(**chosen)
        except (Interrupted, PluginError):
            raise
        except ConfigError as error:
            keyed = [p if p.key else dataclasses.replace(p, key=f"plugins.{call.plugin}") for p in error.problems]
            raise ConfigError(keyed) from error
        except (Exception, SystemExit) as error:
            raise self._blame(call.plugin, call.hook).raised(error, call.function) from error
        seconds = perf_counter() - began
        call.spent.calls += 1
        call.spent.seconds += seconds
        if self._tracer is not None:
            self._tracer.answered(call.plugin, call.hook, seconds, answer)
        return answer

    def _part(self, call: Call, key: str, value: Any, arguments: Mapping[str, Any]) -> Any:
        """A value of a merge hook's dict, once its type and shape are seen to be right."""
        wrong = check.PART[call.hook](value, arguments) if call.hook in check.PART else ""
        if call.hook == "modules" and (not key.isidentifier() or hasattr(arguments["model"], key)):
            wrong = "gave a module under a name that the network has already, or that is none,"
        if call.hook == "extras":
            shape = check.shape_of(value)
            wrong = check.wrong_extra(shape, self.shapes.setdefault((call.plugin, key), shape))
        self._right(call, wrong and f"{wrong} under '{key}'")
        if call.hook in ("loss_terms", "landmark_losses"):
            for number in value if isinstance(value, tuple) else (value,):
                self._watch(call, key, number.detach())
        return BlamedReader(value, self._blame(call.plugin, call.hook)) if call.hook == "dataset_formats" else value

    def _right(self, call: Call, wrong: str) -> None:
        if wrong:
            raise self._broken(call, wrong)

    def _watch(self, call: Call, part: str, given: torch.Tensor) -> None:
        if given.numel() == 0:
            return
        low, high = torch.aminmax(given)  # one pass, NaN goes through, no wait for the device
        key = (call.plugin, call.hook, part)
        if key in self._seen:
            low, high = torch.minimum(low, self._seen[key][0]), torch.maximum(high, self._seen[key][1])
        self._seen[key] = (low, high)

    def _disable(self, name: str, error: PluginError) -> None:
        self.disabled[name] = error.problems[0].what
        self._calls = {hook: tuple(c for c in calls if c.plugin != name) for hook, calls in self._calls.items()}
        log.warning("%s\n  it only observes: it is switched off and the run goes on", error.problems[0].what)

    def _broken(self, call: Call, what: str, hint: str = "") -> PluginError:
        return self._error(call.plugin, call.hook, what, hint=hint)

    def _error(self, name: str, hook: str, what: str, hint: str = "") -> PluginError:
        return self._blame(name, hook).error(what, hint)

    def _blame(self, name: str, hook: str) -> Blame:
        return Blame(name, self.versions.get(name, ""), hook)


def _has_memory(plugin: Plugin[Any]) -> bool:
    return type(plugin).state_dict is not Plugin.state_dict


def _device(arguments: Mapping[str, Any]) -> torch.device | None:
    """The device of the first tensor among the arguments, on which answers must be."""
    batch = arguments.get("batch")
    tensors = (value for value in arguments.values() if isinstance(value, torch.Tensor))
    return next((value.device for value in tensors), None) if batch is None else batch.valid.device
