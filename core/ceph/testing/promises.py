"""The rule that each hook answers what it promises: what is wrong with an answer, by hook."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ceph.data.formats.base import Reader
from ceph.errors import CephError
from ceph.evaluation.look import Look
from ceph.evaluation.means import View, viewed
from ceph.evaluation.stations import wrong_found
from ceph.hooks.answers import STATIONS
from ceph.model.network import seen_by_parts
from ceph.testing.compare import difference, snapshot
from ceph.testing.rehearsal import Question, Rehearsal, material
from ceph.testing.subject import Subject, asserted


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
