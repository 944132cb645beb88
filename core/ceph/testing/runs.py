"""The rules that take training: neutral settings change nothing, plugins go together, a stopped run goes on exactly."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ceph.config.load import Resolved
from ceph.data.plan import derive
from ceph.errors import CephError, Interrupted
from ceph.hooks import discovery
from ceph.hooks.base import Plugin
from ceph.hooks.misuse import hooks_of
from ceph.hooks.specs import VERBS
from ceph.hooks.verbs import Hooks
from ceph.report.progress import Silent
from ceph.run.assembly import make_model
from ceph.run.prepare import Prepared, prepare
from ceph.run.train import Result, build
from ceph.stop import StopRequest
from ceph.testing import stage
from ceph.testing.subject import LeftOut, Subject, asserted
from ceph.training import checkpoint
from ceph.training.engine import fit, restore
from ceph.training.progress import Progress
from ceph.training.runtime import flushed_denormals

Weights = Mapping[str, torch.Tensor]
TWO_STEPS = {"epochs": 1, "batch_size": 5}  # of twelve films
THREE_EPOCHS = {"epochs": 3, "batch_size": 4}
STOP_AT = 5  # of nine steps: in the middle of the second epoch


@dataclass
class _StopAt(Silent):
    """Asks a run to stop after a number of steps."""

    stop: StopRequest
    left: int

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        """Count one step."""
        del epoch, done, total, loss
        self.left -= 1
        if self.left == 0:
            self.stop.signal = 2


def trained(resolved: Resolved, *, stop_at: int = 0) -> tuple[Weights, Hooks]:
    """The last weights of a run, and its plugins; with `stop_at` one that was stopped after so many steps and resumed.

    As `ceph.train` and `ceph.resume` do it, but without the need to find the plugin's class by a name.
    """
    with tempfile.TemporaryDirectory(dir=stage.folder()) as folder, flushed_denormals():
        where = Path(folder)
        stop = StopRequest()
        watcher = _StopAt(stop, stop_at) if stop_at else Silent()
        try:
            prepared, progress = _train(resolved, where, watcher, stop)
        except Interrupted:
            prepared, progress = _train(resolved, where, Silent(), StopRequest(), resumed=True)
        result = Result(where, progress.records[-1]["validation"], progress.best_epoch)
        prepared.hooks.tell("run_end", run=prepared.run, result=result)
        return checkpoint.load(where / "checkpoints", checkpoint.LAST)["model"], prepared.hooks


def _train(
    resolved: Resolved, where: Path, watcher: Silent, stop: StopRequest, *, resumed: bool = False
) -> tuple[Prepared, Progress]:
    prepared = prepare(resolved)
    torch.manual_seed(derive(resolved.config.train.seed, "weights"))
    job = build(prepared, make_model(prepared.config, prepared.hooks, prepared.run), where)
    prepared.hooks.tell("run_start", run=job.run, model=job.model)
    progress = restore(job, checkpoint.load_last(where / "checkpoints")[0]) if resumed else Progress()
    fit(job, progress, watcher, stop)
    return prepared, progress


@cache
def plain_weights(companions: tuple[str, ...]) -> Weights:
    """The weights of a run without the plugin."""
    return trained(stage.resolved(None, beside=companions, train=THREE_EPOCHS))[0]


@cache
def fault_alone(name: str) -> str:
    """Why a built-in plugin does not train two steps without the one under test; empty where it does."""
    try:
        trained(stage.resolved(None, beside=[name], train=TWO_STEPS))
    except CephError as error:
        return str(error)
    return ""


def same_weights(one: Weights, other: Weights) -> bool:
    """Whether two runs ended in the same weights, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _require_on(subject: Subject, hooks: Hooks, weights: Weights) -> None:
    if subject.name in hooks.disabled:
        raise AssertionError(f"{hooks.disabled[subject.name]}\n  hint: mend it: in a run it would be switched off")
    if not all(bool(torch.isfinite(part).all()) for part in weights.values() if part.is_floating_point()):
        raise subject.failure("the weights are not finite after two steps", "look at the size of what it answers")


def trains_alone(subject: Subject) -> None:
    """Two steps of training, the evaluation and the end of the run, with the plugin alone."""
    subject.require_sound()
    with asserted():
        weights, hooks = trained(stage.resolved(subject, train=TWO_STEPS))
    _require_on(subject, hooks, weights)


def trains_beside(other: str) -> Callable[[Subject], None]:
    """The check that the plugin trains two steps together with a built-in one."""

    def check(subject: Subject) -> None:
        subject.require_sound()
        try:
            with asserted():
                weights, hooks = trained(stage.resolved(subject, beside=[other], train=TWO_STEPS))
        except AssertionError:
            fault = fault_alone(other)
            if fault:
                raise LeftOut(f"{other} cannot be trained here: {fault.splitlines()[0]}") from None
            raise
        _require_on(subject, hooks, weights)

    return check


def resumes_exactly(subject: Subject) -> None:
    """A run that is stopped in the middle of an epoch and resumed ends in the same weights, bit for bit."""
    subject.require_sound()
    with asserted():
        whole, _ = trained(stage.resolved(subject, train=THREE_EPOCHS))
        resumed, _ = trained(stage.resolved(subject, train=THREE_EPOCHS), stop_at=STOP_AT)
    if not same_weights(whole, resumed):
        raise subject.failure(
            f"stopped after step {STOP_AT} and resumed, the run ends in other weights",
            "put all that it remembers into state_dict; draw random numbers from ceph.plugin.generator(seed, ...)",
        )


def neutral_changes_nothing(subject: Subject) -> None:
    """With the settings that the author calls neutral, training is the same as without the plugin, bit for bit."""
    subject.require_sound()
    with asserted():
        resolved = stage.resolved(subject, settings=subject.neutral, train=THREE_EPOCHS)
        weights, hooks = trained(resolved)
        plain = plain_weights(subject.companions())
    _require_on(subject, hooks, weights)
    if not same_weights(weights, plain):
        raise subject.failure(
            f"with its neutral settings {dict(subject.neutral or {})} a run ends in other weights than without it",
            "answer None (weights), default() or {} there, or name other settings: checks(neutral=...)",
        )


def built_in() -> tuple[str, ...]:
    """The plugins of our own distribution that are installed."""
    return tuple(plugin.name for plugin in discovery.installed() if plugin.distribution == "ceph-trainer")


@cache
def class_of(name: str) -> type[Plugin[Any]] | str:
    """The class of an installed plugin, or why it cannot be had."""
    try:
        return discovery.load(name).plugin_class
    except CephError as error:
        return str(error)


def apart(subject: Subject, other: str) -> str:
    """Why the plugin and a built-in one cannot be in one run; empty where they can."""
    try:
        companions = subject.companions()
    except CephError as error:
        return str(error)
    if other in (subject.name, *companions):
        return "that is itself, or one that it requires"
    theirs = class_of(other)
    if isinstance(theirs, str):
        return theirs
    if all(VERBS[hook] == "tell" for hook in hooks_of(theirs)):
        return "it only observes, so nothing of it reaches another plugin"
    for name, ours in ((subject.name, subject.plugin), *((name, class_of(name)) for name in companions)):
        if isinstance(ours, str):
            return ours
        if other in ours.conflicts or name in theirs.conflicts:
            return f"{name} and {other} are declared a conflict"
        both = [hook for hook in hooks_of(theirs) if VERBS[hook] == "one" and hook in hooks_of(ours)]
        if both:
            return f"{name} and {other} answer {both[0]}, which takes one answer"
    return ""
