"""The rules that need no training: settings, hooks, inputs, purity, memory."""

from __future__ import annotations

import io
import random
import warnings
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from ceph.errors import CephError, PluginError
from ceph.hooks.answers import LISTED
from ceph.hooks.base import PluginConfig
from ceph.hooks.specs import VERBS
from ceph.testing import stage
from ceph.testing.compare import difference, snapshot
from ceph.testing.rehearsal import EPOCHS, Question, Rehearsal, seed_everything
from ceph.testing.subject import LeftOut, Subject, asserted


class ConformanceWarning(UserWarning):
    """Something that breaks no rule but should be mended."""


# --- settings and hooks ----------------------------------------------------------------------------------------------


def unknown_keys_are_refused(subject: Subject) -> None:
    """A misspelt setting is an error, not a setting that is silently at its default."""
    key = "no-such-setting"
    try:
        subject.loaded.validate({**subject.settings, key: 1})
    except ValidationError as error:
        if any(detail["type"] == "extra_forbidden" for detail in error.errors()):
            return
        raise LeftOut("the settings do not construct") from None
    raise subject.failure(
        f"its settings take the unknown key {key!r}", 'derive them from PluginConfig, and leave its extra="forbid"'
    )


def settings_construct(subject: Subject) -> None:
    """The plugin can be switched on by its name alone (or with the settings given), and reads config.yaml back."""
    model = subject.plugin.config_model()
    if not issubclass(model, PluginConfig):
        raise subject.failure(f"its settings are a {model.__name__}", "write class Name(Plugin[NameConfig])")
    try:
        values = subject.values()
        again = subject.values(values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
        raise subject.failure(
            f"its settings do not construct: {wrong}",
            "give every setting a default, or name some: checks(settings=...)",
        ) from None
    if values != again:
        raise subject.failure(
            f"settings read back differ: {values} -> {again}", "let validators leave a valid value as it is"
        )
    with asserted():
        subject.loaded.create(subject.settings)
    try:
        if not subject.settings:
            subject.plugin()
    except Exception as error:
        raise subject.failure(
            f"{subject.plugin.__name__}() raised {type(error).__name__}: {error}",
            "let __init__ take config=None and hand it on: super().__init__(config)",
        ) from error


def settings_are_described(subject: Subject) -> None:
    """`ceph plugins show` has a sentence for each setting; a missing one is a warning."""
    fields = subject.plugin.config_model().model_fields
    bare = [name for name, info in fields.items() if not info.description]
    if bare:
        text = f"plugin '{subject.name}': no description of {', '.join(bare)}; write Field(description=...)"
        warnings.warn(text, ConformanceWarning, stacklevel=2)


def hooks_are_real(subject: Subject) -> None:
    """At least one hook is marked with @hookimpl, and all have known names and arguments."""
    try:
        subject.loaded.create(subject.settings)
    except (PluginError, ValidationError):
        raise LeftOut("it cannot be created; see settings-construct") from None
    with asserted():
        wrong = subject.misuse()
    if wrong:
        raise AssertionError(wrong)


# --- what must not change --------------------------------------------------------------------------------------------

KEEPS_MODEL = {"eval_model", "members"}  # the other hooks may change the model


def inputs_are_left_alone(subject: Subject) -> None:
    """No hook writes into what it is given: all plugins share it."""
    rehearsal = Rehearsal(subject)
    for question in rehearsal.questions():
        watched = {
            name: value
            for name, value in question.arguments.items()
            if not isinstance(value, (nn.Module, np.random.Generator)) or (question.hook in KEEPS_MODEL)
        }
        before = snapshot(watched)
        rehearsal.quietly(question)
        if question.hook in subject.implemented:
            changed = difference(before, snapshot(watched))
            if changed:
                what = f"it writes into what it is given: {changed.lstrip('.')}"
                raise subject.failure(
                    what, "work on a copy: value.clone(), array.copy(), copy.deepcopy(model)", question.hook
                )


COMPARED = [hook for hook, verb in VERBS.items() if verb != "tell" and not hook.startswith("build_")]
COMPARED = [hook for hook in COMPARED if hook not in (*LISTED, "dataset_formats")]


def answers_repeat(subject: Subject) -> None:
    """Two instances of the plugin that see the same run give the same answers."""
    one, other = Rehearsal(subject), Rehearsal(subject)
    for question, same_question in zip(one.questions(), other.questions(), strict=True):
        first, second = snapshot(one.quietly(question)), snapshot(other.quietly(same_question))
        if question.hook in COMPARED and difference(first, second):
            raise subject.failure(
                f"in epoch {question.epoch} two instances that saw the same run answer differently",
                "draw from the rng you are given, or from ceph.plugin.generator(seed, name, epoch, ...)",
                question.hook,
            )


def draws_are_its_own(subject: Subject) -> None:
    """No hook draws from a global generator, or seeds one: the draws of other plugins would hang on it."""
    rehearsal = Rehearsal(subject)
    for question in rehearsal.questions():
        rehearsal.seed(question)
        before = _generators()
        rehearsal.quietly(question)
        moved = [name for name, state in _generators().items() if state != before[name]]
        if moved and not question.hook.startswith(("build_", "modules")):  # those make weights, seeded by the run
            raise subject.failure(
                f"it draws from {moved[0]}'s global generator, or seeds it",
                "draw from the rng you are given, or from ceph.plugin.generator(seed, name, epoch, ...)",
                question.hook,
            )


def _generators() -> dict[str, Any]:
    """The states of the global generators."""
    words = np.random.get_state()
    state = (*words[:1], words[1].tobytes(), *words[2:])  # type: ignore[index]
    return {"random": random.getstate(), "torch": torch.get_rng_state().numpy().tobytes(), "numpy": state}


def batch_shape_is_pure(subject: Subject) -> None:
    """The size of a batch is a function of its arguments and the settings, and one that a film can be trained at."""
    base = stage.SIZE
    asked = [(epoch, index) for epoch in range(6) for index in range(4)]

    def sizes(order: list[tuple[int, int]]) -> dict[tuple[int, int], Any]:
        rehearsal, found = Rehearsal(subject), {}
        for question in rehearsal.setup():
            rehearsal.quietly(question)
        for epoch, index in order:
            arguments = {"epoch": epoch, "index": index, "size": base, "seed": 5}
            found[epoch, index] = rehearsal.ask(Question("batch_shape", epoch, arguments, lambda: base))
        return found

    try:
        forward, backward, again = sizes(asked), sizes(asked[::-1]), sizes(asked)
    except CephError:
        raise LeftOut("it gives no size; see answers-batch_shape") from None
    if not forward == backward == again:
        odd = next(key for key in asked if not forward[key] == backward[key] == again[key])
        what = f"epoch {odd[0]}, index {odd[1]} gives {forward[odd]}, {backward[odd]}, {again[odd]} when asked again"
        remedy = "compute it from epoch, index, size, seed and the settings: generator(seed, name, epoch, index)"
        raise subject.failure(what, remedy, "batch_shape")
    least, most = min(base) // 8, 4 * max(base)
    wild = [size for size in forward.values() if min(size) < least or max(size) > most]
    if wild:
        what = f"gives {wild[0]} for the base size {base}"
        raise subject.failure(what, f"stay between {least} and {most} px there: scale the size given", "batch_shape")


# --- memory ----------------------------------------------------------------------------------------------------------


def memory_is_saved(subject: Subject) -> None:
    """A fresh instance that is given the saved state goes on exactly as the one that saved it."""
    one, other = Rehearsal(subject), Rehearsal(subject)
    seed_everything(0)
    for question in one.questions(EPOCHS):
        if question.hook != "run_end":
            one.quietly(question)
    with asserted():
        state = one.hooks.state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    for question in other.setup():
        other.quietly(question)
    other.model.load_state_dict(one.model.state_dict())
    with asserted():
        other.hooks.load_state_dict(torch.load(buffer, weights_only=True))
        restored = other.hooks.state_dict()
    lost = difference(snapshot(state[subject.name]), snapshot(restored[subject.name]))
    if lost:
        what = f"after torch.save, torch.load and load_state_dict the state differs at {lost.lstrip('.')}"
        raise subject.failure(what, "take back in load_state_dict all that state_dict gives", "load_state_dict")
    for question, same_question in zip(one.of_epoch(EPOCHS), other.of_epoch(EPOCHS), strict=True):
        seed_everything(1)
        first = snapshot(one.quietly(question))
        seed_everything(1)
        if difference(first, snapshot(other.quietly(same_question))):
            what = f"after {EPOCHS} epochs a fresh instance with the saved state answers otherwise"
            remedy = "put all that it remembers into state_dict, and take it back in load_state_dict"
            raise subject.failure(what, remedy, question.hook)
