"""All rules in one table, bound to one plugin: what `pytest.mark.parametrize` and `ceph plugins check` run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ceph.errors import nearest
from ceph.hooks.base import Plugin
from ceph.hooks.specs import VERBS
from ceph.hooks.trace import STEP_HOOKS
from ceph.testing import contract, films, promises, runs, waiting
from ceph.testing.subject import LeftOut, Subject

FOREIGN = "it does not answer "


@dataclass(frozen=True, eq=False)
class Check:
    """One rule for one plugin; calling it raises AssertionError where the rule is broken.

    `id` names it, `description` says the rule in a sentence, `trains` tells whether it takes training (a second or
    more), `left_out` why it does not apply (empty where it does), `expected` why it is known to fail: then it passes
    while it fails, and fails once it passes.
    """

    id: str
    function: Callable[[Subject], None]
    subject: Subject
    description: str
    trains: bool = False
    left_out: str = ""
    expected: str = ""

    @property
    def foreign(self) -> bool:
        """Whether it is about hooks that the plugin does not answer."""
        return self.left_out.startswith(FOREIGN)

    def __str__(self) -> str:
        return self.id

    def __call__(self) -> None:
        """Raise AssertionError naming the plugin, the hook, what is wrong and what to do."""
        self.run()

    def run(self) -> str:
        """Check, and say why it turned out not to apply, or failed as expected; empty where it passed.

        Raises as a call does.
        """
        if self.left_out:
            return self.left_out
        if not self.expected:
            return self._run()
        try:
            reason = self._run()
        except AssertionError:
            return f"fails, as is known: {self.expected}"
        if reason:
            return reason
        raise self.subject.failure(f"the check {self.id} passes now", f"take it out of `expected`: {self.expected}")

    def _run(self) -> str:
        with torch.random.fork_rng(devices=[]):
            try:
                self.function(self.subject)
            except LeftOut as reason:
                return str(reason)
            except AssertionError:
                raise
            except Exception as error:
                what = f"the check {self.id} raised {type(error).__name__}: {error}"
                raise self.subject.failure(what, "the traceback above names the line") from error
        return ""


def checks(
    plugin: type[Plugin[Any]],
    *,
    neutral: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    name: str = "",
    expected: Mapping[str, str] | None = None,
) -> list[Check]:
    """Give the checks that apply to a plugin's class, as parameters for `pytest.mark.parametrize`.

    `settings` are what it is tested with (default: its defaults). `neutral` are settings with which training must be
    the same as without it, bit for bit; without them that check is left out. `name` is the plugin's name, by default
    that of its entry point, else its class in kebab-case. `expected` names checks that are known to fail, with the
    reason: {"steps-do-not-wait": "it reads the loss each hundredth step"}. Raises ValueError for a check that is none.
    """
    found = suite(plugin, neutral=neutral, settings=settings, name=name, expected=expected)
    return [check for check in found if not check.left_out]


def suite(
    plugin: type[Plugin[Any]],
    *,
    neutral: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    name: str = "",
    expected: Mapping[str, str] | None = None,
) -> list[Check]:
    """All checks, with those that do not apply; arguments as of `checks`."""
    known = {check.id: check for check in _bound(Subject.of(plugin, settings=settings, neutral=neutral, name=name))}
    for check, reason in (expected or {}).items():
        if check not in known:
            raise ValueError(f"there is no check {check!r}; {nearest(check, known)}")
        known[check] = replace(known[check], expected=reason)
    return list(known.values())


def _bound(subject: Subject) -> Iterator[Check]:
    has = subject.implemented

    def check(name: str, function: Callable[[Subject], None], text: str = "", **more: Any) -> Check:
        return Check(name, function, subject, text or (function.__doc__ or "").split("\n")[0], **more)

    def unless(*hooks: str) -> str:
        named = " or ".join(hooks) if len(hooks) < len(VERBS) else "any hook"
        return "" if set(hooks) & set(has) else FOREIGN + named

    yield check("settings-refuse-unknown-keys", contract.unknown_keys_are_refused)
    yield check("settings-construct", contract.settings_construct)
    yield check("settings-are-described", contract.settings_are_described)
    yield check("hooks-are-real", contract.hooks_are_real)
    for hook, verb in VERBS.items():
        rule = "takes what it is told and answers nothing" if verb == "tell" else "answers as specs.py promises"
        yield check(f"answers-{hook}", promises.answers(hook), f"The hook {hook} {rule}.", left_out=unless(hook))
    yield check("inputs-are-left-alone", contract.inputs_are_left_alone, left_out=unless(*VERBS))
    yield check("answers-repeat", contract.answers_repeat, left_out=unless(*contract.COMPARED))
    yield check("draws-are-its-own", contract.draws_are_its_own, left_out=unless(*VERBS))
    yield check("batch-shape-is-pure", contract.batch_shape_is_pure, left_out=unless("batch_shape"))
    yield check("memory-is-saved", contract.memory_is_saved, left_out=unless(*VERBS))
    yield check("steps-do-not-wait", waiting.steps_do_not_wait, left_out=unless(*STEP_HOOKS))
    changing = unless("warps", "augmentations")
    yield check("transforms-keep-films", films.transforms_keep_films, left_out=unless("augmentations"))
    yield check("changes-pickle", films.changes_pickle, left_out=unless("warps", "augmentations", "truth", "extras"))
    yield check("changes-are-seeded", films.changes_are_seeded, left_out=changing)
    yield check("points-follow", films.points_follow, left_out=changing)
    yield check("trains-alone", runs.trains_alone, trains=True, left_out=unless(*VERBS))
    for other in runs.built_in():
        text = f"Two steps of training together with {other}."
        reason = unless(*VERBS) or runs.apart(subject, other)
        yield check(f"trains-beside-{other}", runs.trains_beside(other), text, trains=True, left_out=reason)
    yield check("resumes-exactly", runs.resumes_exactly, trains=True, left_out=unless(*VERBS))
    unnamed = "no neutral settings are named: checks(neutral=...)" if subject.neutral is None else unless(*VERBS)
    yield check("neutral-changes-nothing", runs.neutral_changes_nothing, trains=True, left_out=unnamed)
