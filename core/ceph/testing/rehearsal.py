"""A run in small, hook by hook: what the engine would ask, with real films, in the order of the printed loop.

Nothing is trained, so each question can be put alone and each answer looked at. Legend: B films of a batch, K
landmarks, N training samples. One landmark of the first film and all of the last film are not valid.
"""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ceph.assembly import make_codec, make_criterion, make_model, make_optimizer
from ceph.data.augment import STAGES
from ceph.data.dataset import collate, to_batch
from ceph.data.plan import derive, plan_epoch
from ceph.data.truth import MEAN, combine
from ceph.data.types import Batch, Sample
from ceph.errors import CephError
from ceph.evaluation.metrics import summarise
from ceph.hooks.base import Run
from ceph.hooks.specs import VERBS
from ceph.model.codec import Codec, activate, soft_points
from ceph.run import Prepared, Result, prepare
from ceph.testing import stage
from ceph.testing.subject import Subject
from ceph.training.loss import Criterion

EPOCHS = 3  # rehearsed before a plugin is asked once more: long enough for warm-ups of two epochs


@dataclass(frozen=True, eq=False)
class Question:
    """One call of a hook; `default` is the core's own answer to a hook of the verb `one`."""

    hook: str
    epoch: int
    arguments: Mapping[str, Any]
    default: Callable[[], Any] = lambda: None


@dataclass(frozen=True, eq=False)
class Material:
    """What all rehearsals share; nothing of it is ever given to a plugin but as a copy."""

    prepared: Prepared
    model: nn.Module
    codec: Codec
    criterion: Criterion
    batches: tuple[Batch, ...]
    preds: tuple[torch.Tensor, ...]

    @property
    def kind(self) -> str:
        """The kind of target."""
        return self.prepared.config.target_kind


@cache
def material() -> Material:
    """Films, a network and two batches, made once a process."""
    from ceph.run import as_resolved

    prepared = prepare(as_resolved(stage.values()))
    hooks, config, run = prepared.hooks, prepared.config, prepared.run
    torch.manual_seed(0)
    model = make_model(config, hooks, run)
    plan = plan_epoch(len(run.samples), 4, seed=0, epoch=0, size=run.size)
    batches = tuple(
        with_gaps(to_batch(collate([prepared.train[entry] for entry in batch]), run.device))
        for batch in plan.batches[:2]
    )
    with torch.no_grad():
        preds = tuple(model(batch.image).float() for batch in batches)
    return Material(prepared, model, make_codec(config, hooks, run), make_criterion(config, hooks, run), batches, preds)


def with_gaps(batch: Batch) -> Batch:
    """The batch without one landmark of its first film and without all of its last film."""
    valid = batch.valid.clone()
    valid[0, 3] = False
    valid[-1] = False
    return replace(batch, valid=valid, points=torch.where(valid[..., None], batch.points, 0.0))


class Rehearsal:
    """One new instance of the plugin, and the questions that a run would put to it."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.hooks, self.material = subject, subject.hooks(), material()
        self.hooks.shared_in = frozenset()  # a check of its own looks at what is written into
        self.model = copy.deepcopy(self.material.model).train()
        self.epoch = 0

    @cached_property
    def run(self) -> Run:
        """The run as plugins see it."""
        config = stage.resolved(self.subject).config
        return replace(self.material.prepared.run, samples=self.samples, config=config)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Copies of the training samples."""
        return copies(self.material.prepared.run.samples)

    def questions(self, epochs: int = EPOCHS + 1) -> Iterator[Question]:
        """All questions of a run; each must be asked before the next is drawn."""
        yield from self.setup()
        for epoch in range(epochs):
            yield from self.of_epoch(epoch)
        figures = summarise(self.errors_mm("validation", epochs, len(self.validation)), self.run.landmarks, MEAN)
        result = Result(stage.folder(), figures, epochs - 1)
        yield Question("run_end", epochs, {"run": self.run, "result": result})

    def setup(self) -> Iterator[Question]:
        """The questions before the first epoch."""
        m, run = self.material, self.run
        hooks, config = m.prepared.hooks, m.prepared.config
        yield Question("check_run", 0, {"run": run})
        yield Question("dataset_formats", 0, {})
        for known in (run, replace(run, samples=())):  # a finished run is loaded without samples
            yield Question("build_model", 0, {"run": known}, lambda: make_model(config, hooks, run))
            yield Question("build_codec", 0, {"run": known}, lambda: m.codec)
        yield Question("build_criterion", 0, {"run": run}, lambda: m.criterion)
        default = lambda: make_optimizer(config, hooks, self.model, run)  # noqa: E731
        yield Question("build_optimizer", 0, {"model": self.model, "run": run}, default)
        yield Question("warps", 0, {})
        for name in STAGES:
            yield Question("augmentations", 0, {"stage": name})
        folder = Path(tempfile.mkdtemp(dir=stage.folder()))
        yield Question("run_start", 0, {"run": replace(run, folder=folder)})

    def of_epoch(self, epoch: int) -> Iterator[Question]:
        """The questions of one epoch."""
        m, run = self.material, self.run
        self.model.train()
        yield Question("epoch_start", epoch, {"epoch": epoch, "model": self.model})
        yield Question("sample_weights", epoch, {"epoch": epoch, "samples": self.samples})
        for index in range(2):
            shape = {"epoch": epoch, "index": index, "size": run.size, "seed": run.seed}
            yield Question("batch_shape", epoch, shape, lambda: run.size)
        sample = self.samples[epoch]
        rng = np.random.default_rng(derive(epoch, "truth"))
        readers = ("",) * len(sample.points)
        plain = lambda: combine(sample.points, sample.valid, MEAN, readers)  # noqa: E731
        yield Question("truth", epoch, {"sample": sample, "rng": rng}, plain)
        for number in range(len(m.batches)):
            yield from self.of_step(epoch, number)
        self.model.eval()
        images = m.batches[0].image.clone()
        activated = partial(activate, kind=m.kind)
        own = lambda: activated(self.model(images))  # noqa: E731
        yield Question("eval_model", epoch, {"model": self.model}, lambda: self.model)
        yield Question("predict", epoch, {"model": self.model, "images": images, "activate": activated}, own)
        errors_mm = self.errors_mm("validation", epoch, len(self.validation))
        points_px = np.stack([np.nan_to_num(sample.points[0]) for sample in self.validation])
        arrays = {"errors_mm": errors_mm, "points_px": points_px, "valid": ~np.isnan(errors_mm)}
        yield Question("metrics", epoch, {**arrays, "samples": self.validation, "landmarks": run.landmarks})
        table_mm = self.errors_mm("train", epoch, len(run.samples))
        table_mm[epoch % len(table_mm)] = np.nan  # a film that was not drawn
        tables = {"loss": torch.from_numpy(table_mm + 1).float(), "errors_mm": torch.from_numpy(table_mm).float()}
        figures = summarise(errors_mm, run.landmarks, MEAN)
        yield Question("epoch_end", epoch, {"epoch": epoch, "samples": self.samples, **tables, "metrics": figures})

    def of_step(self, epoch: int, number: int) -> Iterator[Question]:
        """The questions of one step, on one of the batches; a resumed step has the same random numbers."""
        m, step = self.material, epoch * len(self.material.batches) + number
        pred = m.preds[number]
        given = m.batches[number]
        size, map_size = (given.image.shape[-2], given.image.shape[-1]), (pred.shape[-2], pred.shape[-1])

        def batch() -> Batch:
            names = ("image", "points", "valid", "index", "mm_per_px")
            own = {name: getattr(given, name).clone() for name in names}
            return replace(given, **own, epoch=epoch, step=step)

        target = m.codec.encode(given.points, size, map_size)
        loss = m.criterion(pred, target, None).masked_fill(~given.valid, 0.0)
        yield Question("pixel_weights", epoch, {"batch": batch(), "pred": pred.clone(), "target": target})
        yield Question("landmark_weights", epoch, {"batch": batch(), "loss": loss.clone()})
        live = pred.clone().requires_grad_()
        points = soft_points(live, m.kind, size)
        yield Question("loss_terms", epoch, {"batch": batch(), "pred": live, "points": points})
        yield Question("step_end", epoch, {"step": step, "model": self.model, "loss": loss.mean()})

    @cached_property
    def validation(self) -> tuple[Sample, ...]:
        """Copies of the validation samples."""
        return copies(self.material.prepared.validation.samples)

    def errors_mm(self, what: str, epoch: int, films: int) -> Any:
        """Made-up errors [N, K] in mm, log-normal about 2, one of them NaN."""
        rng = np.random.default_rng(derive("errors", what, epoch))
        errors = 2 * np.exp(0.5 * rng.standard_normal((films, len(self.material.prepared.run.landmarks))))
        errors[0, 1] = np.nan
        return errors

    def seed(self, question: Question) -> None:
        """Seed the global generators as they are when a question is put."""
        seed_everything(derive("step", question.hook, question.epoch) % 2**32)

    def ask(self, question: Question) -> Any:
        """Put one question as the engine does; raises PluginError where the answer breaks its promise."""
        hook, hooks = question.hook, self.hooks
        self.seed(question)
        verb, arguments = VERBS[hook], question.arguments
        answer: Any = None
        if verb == "tell":
            hooks.tell(hook, **arguments)
        elif verb == "one":
            answer = hooks.one(hook, question.default, **arguments)
        elif verb == "product":
            answer = hooks.product(hook, self.shape(question), **arguments)
        elif hook in ("warps", "augmentations"):
            answer = hooks.each(hook, **arguments)
        else:
            answer = hooks.merge(hook, **arguments)
        hooks.check()
        return answer

    def quietly(self, question: Question) -> Any:
        """Put a question whose answer another check looks at; None where no one answers."""
        if not self.hooks.answers(question.hook):
            return None
        with suppress(CephError):
            return self.ask(question)
        with suppress(CephError):
            self.hooks.check()
        return None

    def shape(self, question: Question) -> tuple[int, ...]:
        """The shape to which weights must broadcast."""
        shapes = {"pixel_weights": "pred", "landmark_weights": "loss"}
        if question.hook in shapes:
            return tuple(question.arguments[shapes[question.hook]].shape)
        return (len(question.arguments["samples"]),)


def copies(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples with arrays of their own."""
    return tuple(replace(sample, points=sample.points.copy(), valid=sample.valid.copy()) for sample in samples)


def seed_everything(seed: int) -> None:
    """Seed every global generator, so that a check which is about something else does not see their draws."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes milliseconds where CUDA is not initialised
