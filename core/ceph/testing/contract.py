"""The rules that need no training: settings, hooks, answers, inputs, purity, memory, and no wait for the device."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn
from torch.overrides import TorchFunctionMode

from ceph.data.formats.base import Reader
from ceph.errors import CephError, PluginError
from ceph.evaluation.look import Look
from ceph.evaluation.means import View, viewed
from ceph.evaluation.stations import wrong_found
from ceph.hooks.answers import LISTED, STATIONS
from ceph.hooks.base import PluginConfig
from ceph.hooks.misuse import taken_arguments
from ceph.hooks.specs import VERBS
from ceph.hooks.trace import STEP_HOOKS
from ceph.model.network import seen_by_parts
from ceph.testing import stage
from ceph.testing.compare import difference, snapshot
from ceph.testing.rehearsal import EPOCHS, Question, Rehearsal, material, seed_everything
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


# --- answers ---------------------------------------------------------------------------------------------------------


def answers(hook: str) -> Callable[[Subject], None]:
    """The check that a hook answers what specs.py promises, in each epoch of a rehearsed run."""

    def check(subject: Subject) -> None:
        rehearsal = Rehearsal(subject)
        for question in rehearsal.questions():
            if question.hook != hook:
                rehearsal.quietly(question)
                continue
            off = dict(rehearsal.hooks.disabled)  # by a fault of another hook, which has a check of its own
            try:
                with asserted():
                    answer = rehearsal.ask(question)
                wrong = WRONG.get(hook, _nothing)(answer, question)
            except AssertionError:
                raise
            except CephError as error:
                raise AssertionError(str(error)) from error
            except Exception as error:
                wrong = f"what it gave raised {type(error).__name__}: {error}"
                raise subject.failure(wrong, _promise(hook), hook) from error
            if wrong:
                raise subject.failure(wrong, _promise(hook), hook)
            if rehearsal.hooks.disabled != off:
                raise AssertionError(f"{rehearsal.hooks.disabled[subject.name]}\n  hint: {_promise(hook)}")

    return check


def _promise(hook: str) -> str:
    return f"see `{hook}` in ceph/hooks/specs.py for what it is given and what it promises"


def _nothing(_answer: Any, _question: Question) -> str:
    return ""


def _finite(**tensors: Any) -> str:
    for name, value in tensors.items():
        if not bool(torch.isfinite(torch.as_tensor(value)).all()):
            return f"gave {name} that are not finite"
    return ""


def _maps(found: Any, like: torch.Tensor, what: str) -> str:
    if not isinstance(found, torch.Tensor) or found.shape != like.shape or not found.is_floating_point():
        return f"{what} {list(getattr(found, 'shape', []))} where floating {list(like.shape)} is promised"
    return _finite(maps=found)


def _kept(given: Any, before: Any, what: str) -> str:
    return f"what it gave writes into {what}" if difference(snapshot(before), snapshot(given)) else ""


def _build_model(model: nn.Module, _question: Question) -> str:
    if not isinstance(getattr(model, "backbone", None), nn.Module):
        return "gave a module without `backbone`, where first weights are loaded"
    with torch.no_grad():
        return _maps(model.eval()(material().batches[0].image), material().preds[0], "gave a module with maps")


def _build_targets(targets: Any, _question: Question) -> str:
    pred, batch = material().preds[0], copy.deepcopy(material().batches[0])
    wrong = _maps(targets.encode(batch, (pred.shape[-2], pred.shape[-1])), pred, "encode gives")
    return wrong or _kept(batch, material().batches[0], "the batch")


def _station(station: Any, question: Question) -> str:
    """Run the core's decoder, with the station in its place, on maps of known points."""
    m, pred, item = material(), material().preds[0], material().items[0]
    stations = dataclasses.replace(m.stations, **{question.hook.removeprefix("build_"): station})
    look = Look(item, m.prepared.train.film, m.stations.mm_per_px, pred.device)
    to_film = torch.linalg.inv(item.film_to_network).float()
    target = m.targets.encode(m.batches[0], (pred.shape[-2], pred.shape[-1]))
    maps, model = target.clone(), question.arguments["model"]
    with torch.no_grad():
        found = stations.stages(maps, m.prepared.config.data.size, look, model, to_film)[-1]
    if wrong := wrong_found((found.points, found.scores), target):
        return f"its station gave {wrong}"
    return _finite(points=found.points, scores=found.scores) or _kept(maps, target, "maps")


def _modules(parts: Mapping[str, nn.Module], question: Question) -> str:
    """Run the network, which has the parts by now, on a batch."""
    model = question.arguments["model"]
    outputs = seen_by_parts(model, model, material().batches[0].image)[1]
    return _finite(**{f"outputs of '{n}'": outputs[n] for n in parts if isinstance(outputs.get(n), torch.Tensor)})


def _build_criterion(criterion: Any, _question: Question) -> str:
    m = material()
    pred, batch = m.preds[0].clone().requires_grad_(), m.batches[0]
    target = m.targets.encode(batch, (pred.shape[-2], pred.shape[-1]))
    before = target.clone()
    loss = criterion(pred, target, None)
    if loss.shape != batch.valid.shape or loss.dtype != torch.float32:
        return f"gave {loss.dtype} {list(loss.shape)} where float32 {list(batch.valid.shape)} is promised"
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    return _finite(losses=loss, gradients=gradient) or _kept((pred, target), (m.preds[0], before), "maps or targets")


def _build_optimizer(pair: tuple[torch.optim.Optimizer, Callable[[float], float]], question: Question) -> str:
    schedule, epochs = pair[1], question.arguments["run"].epochs
    at = [epochs * part / 8 for part in range(9)]
    factors = [schedule(done) for done in at]
    if not all(math.isfinite(factor) and factor >= 0 for factor in factors):
        return f"gave a schedule with the factors {factors}, not all finite and >= 0"
    return "" if factors[::-1] == [schedule(done) for done in at[::-1]] else "gave a schedule that is no pure function"


def _eval_model(model: nn.Module, _question: Question) -> str:
    with torch.no_grad():
        return _maps(model(material().batches[0].image), material().preds[0], "gave a module with maps")


def _views(found: list[tuple[str, list[Any]]], _question: Question) -> str:
    images = material().batches[0].image
    return _finite(images=torch.stack([viewed(images, view)[0] for _, views in found for view in [View(), *views]]))


def _members(found: list[tuple[str, list[Any]]], _question: Question) -> str:
    m = material()
    for member in (member for _, members in found for member in members):
        height, width = member.size or m.prepared.config.data.size
        with torch.no_grad():
            maps = member.module.eval()(torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0)))
        if maps.ndim != 4 or maps.shape[:2] != (1, m.preds[0].shape[1]):
            return f"gave a member with maps {list(maps.shape)} where [B, {m.preds[0].shape[1]}, h, w] is promised"
    return ""


def _added(found: Mapping[str, Any], question: Question) -> str:
    """What is wrong with the gradients of losses or terms, to the maps and to what modules gave."""
    outputs = question.arguments["outputs"].values()
    live = [part for part in outputs if isinstance(part, torch.Tensor) and part.requires_grad]
    for name, part in found.items():
        total = part[0] if isinstance(part, tuple) else part.sum()
        if total.requires_grad:
            given = [question.arguments["pred"], *live]
            for gradient in torch.autograd.grad(total, given, retain_graph=True, allow_unused=True):
                if gradient is not None and not bool(torch.isfinite(gradient).all()):
                    return (
                        f"gave '{name}', whose gradient is not finite; mind landmarks that are not valid, and sqrt(0)"
                    )
    return ""


def wrong_warps(found: list[tuple[str, list[Any]]]) -> str:
    """What is wrong with the warps of plugins, [(plugin, list)], each drawn once; empty where nothing is."""
    size = (96, 80)
    for warp in (warp for _, warps in found for warp in warps):
        rng = np.random.default_rng(0)
        matrix, field = warp.matrix(rng, size), warp.displacement(rng, size)
        if matrix is not None and (np.shape(matrix) != (3, 3) or not np.linalg.cond(matrix) < 1e9):
            return f"gave {type(warp).__name__}, whose matrix of shape {list(np.shape(matrix))} is no invertible [3, 3]"
        if field is not None and (np.shape(field) != (*size, 2) or not np.isfinite(field).all()):
            return f"gave {type(warp).__name__}, whose field of shape {list(np.shape(field))} is no finite [H, W, 2]"
    return ""


def _warps(found: list[tuple[str, list[Any]]], _question: Question) -> str:
    from ceph.data.augment import Augmentation

    Augmentation(dict(found), {}, dict.fromkeys(dict(found), "")).draw_warp(0, (96, 80))
    return wrong_warps(found)


def _augmentations(found: list[tuple[str, list[Any]]], question: Question) -> str:
    from ceph.data.augment import Augmentation

    transforms = {question.arguments["stage"]: dict(found)}
    Augmentation({}, transforms, dict.fromkeys(dict(found), ""))
    return ""


def _dataset_formats(readers: Mapping[str, Any], _question: Question) -> str:
    odd = [name for name, reader in readers.items() if not isinstance(reader, Reader)]
    return f"gave '{odd[0]}', which is no reader: name, layout, matches, read" if odd else ""


WRONG: dict[str, Callable[[Any, Question], str]] = {
    "dataset_formats": _dataset_formats,
    "build_model": _build_model,
    "modules": _modules,
    "build_targets": _build_targets,
    **dict.fromkeys(STATIONS, _station),
    "build_criterion": _build_criterion,
    "build_optimizer": _build_optimizer,
    "warps": _warps,
    "augmentations": _augmentations,
    "eval_model": _eval_model,
    "views": _views,
    "members": _members,
    "landmark_losses": _added,
    "loss_terms": _added,
}

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


# --- the device ------------------------------------------------------------------------------------------------------


class _Waits(Exception):
    pass


class _ReadingIsRefused(TorchFunctionMode):
    """Refuse what fake tensors let pass and what waits on a device: copies to the CPU, arrays, texts of a tensor."""

    READS = (torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__repr__)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch._subclasses.fake_tensor import FakeTensor

        del types
        given = (*args[1:], *(kwargs or {}).values())
        home = func is torch.Tensor.to and any(_is_cpu(part) for part in given)
        if (home or func in self.READS) and isinstance(args[0], FakeTensor):
            raise _Waits(f".{func.__name__}()")
        if func is torch.Tensor.copy_ and not isinstance(args[0], FakeTensor) and isinstance(args[1], FakeTensor):
            raise _Waits(".copy_() to a tensor of the plugin on the CPU")
        return func(*args, **(kwargs or {}))


def _is_cpu(part: Any) -> bool:
    return isinstance(part, (str, torch.device)) and torch.device(part).type == "cpu"


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Within, reading a value of a fake tensor raises _Waits."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise _Waits(str(error.func)) from error
    except TypeError as error:
        if "FakeTensor.__format__" in str(error):
            raise _Waits("a tensor formatted as text") from error
        raise


def _fake(value: Any, mode: Any) -> Any:
    """The value with fake tensors in place of real ones."""
    from torch._subclasses.fake_tensor import FakeCopyMode

    if isinstance(value, torch.Tensor):
        return mode.from_tensor(value.detach()).requires_grad_(value.requires_grad)
    if isinstance(value, nn.Module):
        with FakeCopyMode(mode):
            return copy.deepcopy(value)
    if isinstance(value, Mapping):
        return {name: _fake(part, mode) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_fake(part, mode) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _fake(getattr(value, field.name), mode) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **parts)
    return value


def steps_do_not_wait(subject: Subject) -> None:
    """What fires at each step reads no value of a tensor: that would stop the device until it has caught up."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    rehearsal = Rehearsal(subject)
    plugin, inconclusive = rehearsal.hooks.plugins[subject.name], ""
    for question in rehearsal.questions(EPOCHS):
        rehearsal.quietly(question)
    for question in rehearsal.of_epoch(EPOCHS):
        if question.hook not in STEP_HOOKS or question.hook not in subject.implemented:
            rehearsal.quietly(question)
            continue
        function = getattr(plugin, question.hook)
        taken = taken_arguments(function)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # making a module fake warns of itself
                mode = FakeTensorMode(allow_non_fake_inputs=True)
                given = {name: _fake(question.arguments[name], mode) for name in taken}
                # The mode is not entered: what a plugin computes of its own tensors alone is not the device's business.
                with _no_waiting(), _ReadingIsRefused():
                    function(**given)
        except _Waits as wait:
            raise subject.failure(
                f"it reads a value of a tensor ({wait}), so the device is waited for at each step",
                "keep sums on the device and read them in epoch_end; choose by torch.where, not by `if` or a mask",
                question.hook,
            ) from wait
        except Exception as error:  # noqa: BLE001 - the plugin may do what fake tensors cannot
            inconclusive = f"cannot be told: {question.hook} raised {type(error).__name__} on fake tensors"
    if inconclusive:
        raise LeftOut(inconclusive)
