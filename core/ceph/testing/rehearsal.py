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
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ceph.data.augment import STAGES
from ceph.data.dataset import Films, Item, collate, to_batch
from ceph.data.formats.base import DataSet
from ceph.data.plan import Entry, derive, plan_epoch
from ceph.data.truth import MEAN, combine
from ceph.data.types import Batch, Sample
from ceph.errors import CephError
from ceph.evaluation.metrics import summarise
from ceph.evaluation.stations import Stations
from ceph.hooks.answers import LISTED, STATIONS
from ceph.hooks.base import Run
from ceph.hooks.sampling import begun_state
from ceph.hooks.specs import VERBS
from ceph.model.codec import Targets, soft_points
from ceph.model.network import add_parts, seen_by_parts
from ceph.run.assembly import make_criterion, make_model, make_optimizer, make_stations, make_targets
from ceph.run.films import read_data, training_films
from ceph.run.prepare import Prepared, prepare
from ceph.run.train import Result
from ceph.testing import stage
from ceph.testing.subject import Subject
from ceph.training.loss import Criterion
from ceph.training.seen import image_size, masked

ADDED = ("landmark_losses", "loss_terms")
IN_A_STEP = ("pixel_weights", "landmark_weights", *ADDED, "step_end")
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
    data: DataSet
    plan: tuple[tuple[Entry, ...], ...]  # of each batch
    validation: Item
    model: nn.Module
    targets: Targets
    stations: Stations
    criterion: Criterion
    items: tuple[Item, ...]
    batches: tuple[Batch, ...]
    preds: tuple[torch.Tensor, ...]

    @property
    def kind(self) -> str:
        """The kind of target."""
        return self.prepared.config.target_kind


@cache
def material() -> Material:
    """Films, a network and two batches, made once a process."""
    from ceph.run.prepare import as_resolved

    prepared = prepare(as_resolved(stage.values()))
    hooks, config, run = prepared.hooks, prepared.config, prepared.run
    torch.manual_seed(0)
    model = make_model(config, hooks, run)
    plan = tuple(map(tuple, plan_epoch(len(run.samples), 4, seed=0, epoch=0, size=run.size).batches[:2]))
    items = loaded(prepared.train, plan)
    batches = tuple(with_gaps(to_batch(item, run.device)) for item in items)
    with torch.no_grad():
        preds = tuple(model(batch.image).float() for batch in batches)
    films = prepared.validation
    (validation,) = loaded(films, [[Entry(film, run.size, 0) for film in range(len(films))]])
    built = make_targets(config, hooks, run), make_stations(config, hooks, run), make_criterion(config, hooks, run)
    return Material(prepared, read_data(config, hooks), plan, validation, model, *built, items, batches, preds)


def loaded(films: Films, plan: Sequence[Sequence[Entry]]) -> tuple[Item, ...]:
    """The collated films of each batch of the plan."""
    return tuple(collate([films[entry] for entry in entries]) for entries in plan)


def with_gaps(batch: Batch) -> Batch:
    """The batch, and its further draws, without one landmark of its first film and without all of its last film."""

    def gaps(one: Any) -> Any:
        valid = one.valid.clone()
        valid[0, 3] = False
        valid[-1] = False
        return replace(one, valid=valid, points=torch.where(valid[..., None], one.points, 0.0))

    found: Batch = replace(gaps(batch), draws={name: gaps(draw) for name, draw in batch.draws.items()})
    return found


class Rehearsal:
    """One new instance of the plugin, and the questions that a run would put to it."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.hooks, self.material = subject, subject.hooks(), material()
        self.asked = frozenset(filter(self.hooks.answers, VERBS))  # of all others nothing need be made
        self.model = copy.deepcopy(self.material.model).train()
        self.mask: torch.Tensor | None = None  # of the step's batch

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
        """All questions of a run that anybody answers; each must be asked before the next is drawn."""
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
        finished = replace(run, samples=())  # a finished run is loaded without samples
        for known in (finished, run):
            yield Question("build_model", 0, {"run": known}, lambda: make_model(config, hooks, run))
            if "modules" in self.asked:
                model = self.model if known is run else copy.deepcopy(m.model)
                yield Question("modules", 0, {"run": known, "model": model})
        yield Question("build_targets", 0, {"run": run}, lambda: m.targets)
        for known in (finished, run):
            for hook in STATIONS:
                yield Question(hook, 0, {"run": known, "model": self.model}, lambda: m.stations.decoder)
        yield Question("build_criterion", 0, {"run": run}, lambda: m.criterion)
        default = lambda: make_optimizer(config, hooks, self.model, run)  # noqa: E731
        yield Question("build_optimizer", 0, {"model": self.model, "run": run}, default)
        yield Question("warps", 0, {})
        for name in STAGES:
            yield Question("augmentations", 0, {"stage": name})
        yield Question("second_draws", 0, {})
        yield Question("views", 0, {})
        folder = Path(tempfile.mkdtemp(dir=stage.folder()))
        yield Question("run_start", 0, {"run": replace(run, folder=folder), "model": self.model})

    def of_epoch(self, epoch: int) -> Iterator[Question]:
        """The questions of one epoch."""
        run = self.run
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
        for asked in self.of_films(epoch):
            yield Question("extras", epoch, {**asked, "rng": np.random.default_rng(derive(epoch, "extras"))})
        for number, batch in enumerate(self.batches()):
            yield from self.of_step(epoch, number, batch)
        self.model.eval()
        yield Question("eval_model", epoch, {"epoch": epoch, "model": self.model}, lambda: self.model)
        yield Question("members", epoch, {"model": self.model})
        errors_mm = self.errors_mm("validation", epoch, len(self.validation))
        if "metrics" in self.asked:
            points_px = np.stack([np.nan_to_num(sample.points[0]) for sample in self.validation])
            arrays = {"errors_mm": errors_mm, "points_px": points_px, "valid": ~np.isnan(errors_mm)}
            of_split = {"split": "validation", "samples": self.validation, "landmarks": run.landmarks}
            yield Question("metrics", epoch, {**arrays, **of_split, "outputs": self.seen_in_validation()})
        if "epoch_end" not in self.asked:
            return
        table_mm = self.errors_mm("train", epoch, len(run.samples))
        table_mm[epoch % len(table_mm)] = np.nan  # a film that was not drawn
        along = np.random.default_rng(derive("moves", epoch)).uniform(0, 2 * np.pi, table_mm.shape)
        moves_mm = table_mm[..., None] * np.stack([np.cos(along), np.sin(along)], axis=-1)
        named = {"loss": table_mm + 1, "errors_mm": table_mm, "moves_mm": moves_mm}
        tables = {name: torch.from_numpy(table).float() for name, table in named.items()}
        figures = summarise(errors_mm, run.landmarks, MEAN)
        about: dict[str, Any] = {"epoch": epoch, "model": self.model, "samples": self.samples, "metrics": figures}
        yield Question("epoch_end", epoch, {**about, **tables})

    def of_films(self, epoch: int) -> list[Mapping[str, Any]]:
        """What is given to `extras` for the first films of an epoch; none where nobody asks."""
        asked: list[Mapping[str, Any]] = []

        def noted(sample: Sample, truth: Any, look: Any, _seed: int) -> dict[str, torch.Tensor]:
            asked.append({"sample": copies([sample])[0], "truth": truth, "look": look})
            return {}

        if self.hooks.answers("extras"):
            films = replace(self.material.prepared.train, extras=noted)
            for film in range(2):
                films[Entry(film, self.run.size, derive(epoch, film))]
        return asked

    def batches(self) -> tuple[Batch, ...]:
        """The batches of an epoch, with what the plugin sends along, where that can be had."""
        m = self.material
        if not any(map(self.hooks.answers, ("extras", "second_draws"))):
            return m.batches
        with suppress(Exception):  # a stranger's code may raise anything; each hook has a check of its own
            seed_everything(0)
            films = training_films(m.data, m.prepared.config, self.hooks)
            if films.begin is not None:
                films = replace(films, augmentation=films.begin(begun_state(self.hooks)))
            return tuple(with_gaps(to_batch(item, self.run.device)) for item in loaded(films, m.plan))
        return m.batches

    def seen(self, batch: Batch, number: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Raw maps of a batch, detached, and the outputs of the plugin's modules."""
        m = self.material
        wanted = self.hooks.answers("modules") or self.hooks.wants("outputs", *ADDED)
        with suppress(Exception):  # a module that raises has a check of its own
            if wanted or batch is not m.batches[number]:
                pred, outputs = seen_by_parts(self.model, self.model, batch.image)
                return pred.detach().float(), outputs
        return m.preds[number], {}

    def seen_in_validation(self) -> dict[str, torch.Tensor]:
        """The outputs of the plugin's modules for the validation films."""
        if self.hooks.answers("modules"):
            with suppress(Exception), torch.no_grad():  # as in `seen`
                images = to_batch(self.material.validation, self.run.device).image
                outputs = seen_by_parts(self.model, self.model, images)[1]
                return {name: part for name, part in outputs.items() if isinstance(part, torch.Tensor)}
        return {}

    def of_step(self, epoch: int, number: int, given: Batch) -> Iterator[Question]:
        """The questions of one step, on one of the batches; a resumed step has the same random numbers."""
        m, step = self.material, epoch * len(self.material.batches) + number
        self.mask, done = None, epoch + number / len(m.batches)

        def batch() -> Batch:
            return replace(copy.deepcopy(masked(given, self.mask)), epoch=epoch, step=step, epochs_done=done)

        if "landmark_mask" in self.asked:
            yield Question("landmark_mask", epoch, {"batch": batch()})
        if self.asked.isdisjoint(IN_A_STEP):
            return
        pred, outputs = self.seen(given, number)
        target = m.targets.encode(batch(), (pred.shape[-2], pred.shape[-1]))
        loss = m.criterion(pred, target, None).masked_fill(~batch().valid, 0.0)
        if "pixel_weights" in self.asked:
            yield Question("pixel_weights", epoch, {"batch": batch(), "pred": pred.clone(), "target": target})
        if "landmark_weights" in self.asked:
            yield Question("landmark_weights", epoch, {"batch": batch(), "loss": loss.clone()})
        for hook in filter(self.asked.__contains__, ADDED):
            live = pred.clone().requires_grad_()
            points = soft_points(live, m.kind, image_size(given))
            added = {"pred": live, "points": points, "model": self.model, "outputs": outputs}
            yield Question(hook, epoch, {"batch": batch(), **added})
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
        elif verb == "all":
            answer = self.mask = hooks.all(hook, tuple(arguments["batch"].valid.shape), **arguments)
        elif verb == "product":
            answer = hooks.product(hook, self.shape(question), **arguments)
        elif hook in LISTED:
            answer = hooks.each(hook, **arguments)
        else:
            answer = hooks.merge(hook, **arguments)
            if hook == "modules":
                add_parts(arguments["model"], answer)
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
