"""From a config to the parts of a run: each `make_*` asks the plugins and falls back on the core's own."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ceph.config.load import Resolved
from ceph.config.models import Config
from ceph.data import synthetic
from ceph.data.augment import STAGES, Augmentation, default_augmentation
from ceph.data.cache import FilmCache, default_root, digests
from ceph.data.dataset import Films, Item, Loader, Truth, in_order
from ceph.data.formats.base import DataSet
from ceph.data.formats.find import READERS, read
from ceph.data.truth import combine
from ceph.data.types import Flags, Points, Sample
from ceph.errors import ConfigError, DataError, nearest
from ceph.evaluation.metrics import flatten, higher_is_better, summarise
from ceph.evaluation.predict import Prediction, joined, predict
from ceph.hooks.base import Run
from ceph.hooks.verbs import Hooks
from ceph.model.codec import Codec, GaussianCodec, activate
from ceph.model.folding import folded
from ceph.model.network import LandmarkNetwork
from ceph.training.loss import CRITERIA, Criterion
from ceph.training.optim import Schedule, adamw, warmup_cosine
from ceph.training.runtime import Runtime

log = logging.getLogger("ceph")

HEATMAP_PRIOR = 0.01  # activation of an untrained heatmap


def make_hooks(resolved: Resolved) -> Hooks:
    """The plugins that are on, each made with its settings."""
    return Hooks(resolved.create_plugins(), {name: found.version for name, found in resolved.plugins.items()})


# --- data ------------------------------------------------------------------------------------------------------------


def read_data(config: Config, hooks: Hooks, path: Path | None = None) -> DataSet:
    """Read the set at `path` (default: the config's; none: the embedded one) with the landmarks that are wanted."""
    added = hooks.merge("dataset_formats")
    return read(
        path or config.data.path or embedded_set(config.data.synthetic_films),
        format=config.data.format,
        landmarks=config.data.landmarks,
        mm_per_px=config.data.mm_per_px,
        readers=(*READERS, *added.values()),
    )


def embedded_set(films: int) -> Path:
    """The folder of the synthetic set in the user's cache; drawn the first time."""
    where = default_root() / f"synthetic-{films}-{synthetic.VERSION}"
    if not where.is_dir():
        log.info("drawing %d synthetic films into %s", films, where)
        try:
            synthetic.write(where, films=films)
        except FileExistsError:
            log.info("another process has just drawn them")
    return where


def film_cache(config: Config) -> FilmCache:
    """Where decoded films are kept."""
    words = {"auto": default_root() / "films", "none": None}
    return FilmCache(words[config.data.cache] if config.data.cache in words else Path(config.data.cache))


def make_films(
    data: DataSet, split: str, config: Config, *, truth: Truth | None = None, augmentation: Augmentation | None = None
) -> Films:
    """The films of one split. Raises DataError where there is none."""
    chosen = tuple(sample for sample in data.samples if sample.split == split)
    if not chosen:
        there = sorted({sample.split for sample in data.samples})
        raise DataError(
            f"{config.data.path or 'the embedded set'} has no films of the split {split!r}",
            key="data.path",
            hint=nearest(split, there),
        )
    names = digests([sample.path for sample in chosen])
    return Films(chosen, names, truth or plain_truth(config, data), film_cache(config), augmentation)


def plain_truth(config: Config, data: DataSet) -> Truth:
    """The truth of `data.truth`, the same at every draw."""
    return partial(_combined, truth=config.data.truth, readers=data.readers)


def make_truth(config: Config, data: DataSet, hooks: Hooks) -> Truth:
    """The truth of training films: the plugin's that answers `truth`, else the plain one."""
    plain = plain_truth(config, data)
    return partial(_asked, hooks, plain) if hooks.answers("truth") else plain


def _combined(sample: Sample, _rng: np.random.Generator, *, truth: str, readers: Sequence[str]) -> tuple[Points, Flags]:
    return combine(sample.points, sample.valid, truth, readers)


def _asked(hooks: Hooks, plain: Truth, sample: Sample, rng: np.random.Generator) -> tuple[Points, Flags]:
    answer: tuple[Points, Flags] = hooks.one("truth", partial(plain, sample, rng), sample=sample, rng=rng)
    return answer


def make_augmentation(config: Config, hooks: Hooks) -> Augmentation:
    """The core's default changes of training films and those of the plugins."""
    warps: dict[str, Any] = dict(hooks.each("warps"))
    transforms: dict[str, dict[str, Any]] = {s: dict(hooks.each("augmentations", stage=s)) for s in STAGES}
    if config.data.augmentation == "default":
        own_warps, own_photometric = default_augmentation()
        warps["core"], transforms["photometric"]["core"] = own_warps, own_photometric
    return Augmentation(warps, transforms, hooks.versions)


def loader_workers(config: Config, runtime: Runtime) -> int:
    """`auto`: none beside a CPU that trains, since its cores are taken; else up to eight."""
    if config.data.workers != "auto":
        return config.data.workers
    return 0 if runtime.device.type == "cpu" else min(8, (os.cpu_count() or 1) // runtime.ranks.here)


# --- model and loss --------------------------------------------------------------------------------------------------


def make_model(config: Config, hooks: Hooks, run: Run) -> nn.Module:
    """The network, with random weights."""

    def default() -> nn.Module:
        return LandmarkNetwork(
            config.model.backbone,
            len(run.landmarks),
            stride=config.model.stride,
            width=config.model.width,
            prior=HEATMAP_PRIOR if config.target_kind == "heatmap" else None,
        )

    model: nn.Module = hooks.one("build_model", default, run=run)
    return model


def make_codec(config: Config, hooks: Hooks, run: Run) -> Codec:
    """The codec, with the decoder of evaluation."""

    def default() -> Codec:
        return GaussianCodec(config.target_kind, config.sigma_px, config.model.stride, config.decoder)

    codec: Codec = hooks.one("build_codec", default, run=run)
    return codec


def make_criterion(config: Config, hooks: Hooks, run: Run) -> Criterion:
    """The unreduced loss."""
    criterion: Criterion = hooks.one("build_criterion", lambda: CRITERIA[config.loss.name], run=run)
    return criterion


def make_optimizer(config: Config, hooks: Hooks, model: nn.Module, run: Run) -> tuple[torch.optim.Optimizer, Schedule]:
    """The optimiser and the schedule of its rate."""
    settings = config.train

    def default() -> tuple[torch.optim.Optimizer, Schedule]:
        if settings.warmup_epochs > settings.epochs:
            log.warning("the warm-up of %g epochs is cut to the run's %d", settings.warmup_epochs, settings.epochs)
        optimizer = adamw(model, settings.lr, settings.weight_decay)
        return optimizer, warmup_cosine(settings.epochs, settings.warmup_epochs)

    pair: tuple[torch.optim.Optimizer, Schedule] = hooks.one("build_optimizer", default, model=model, run=run)
    return pair


# --- evaluation ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Turns a model into figures, the same way while training and after it."""

    config: Config
    hooks: Hooks
    runtime: Runtime
    landmarks: tuple[str, ...]
    codec: Codec

    def ready(self, model: nn.Module) -> nn.Module:
        """The model as it predicts: in evaluation mode, its batch norms folded. `model` keeps its mode."""
        size, was_training = self.config.data.size, model.training
        image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
        with self.hooks.blamed():
            made = folded(model.eval(), image.to(self.runtime.device))
        model.train(was_training)
        return made

    def activations(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Activations [B, K, h, w]: of the plugin that answers `predict`, else of one forward pass."""
        activated = partial(activate, kind=self.config.target_kind)
        maps: torch.Tensor = self.hooks.one(
            "predict", lambda: activated(model(images)), model=model, images=images, activate=activated
        )
        return maps

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """`data.size` at each of `evaluate.scales`, the one nearest to 1 first: there the points are decoded."""
        height, width = self.config.data.size
        scales = sorted(self.config.evaluate.scales, key=lambda scale: abs(scale - 1))
        return [(round(height * scale), round(width * scale)) for scale in scales]

    def predict(self, model: nn.Module, items: Iterable[Item], scales: int) -> Prediction:
        """The landmarks of loaded films, each batch of which comes at `scales` sizes in turn."""
        with self.hooks.blamed():
            return predict(
                model,
                zip(*[iter(items)] * scales, strict=True),
                self.codec,
                self.activations,
                self.runtime.device,
                self.runtime.autocast,
                sums_to_one=self.config.target_kind == "distribution",
            )

    def split(self, model: nn.Module, loader: Loader, films: int) -> Prediction:
        """The landmarks of a split's `films` at `data.size`; of several processes each predicts some of the batches.

        Batches are the same however many processes there are, so the points are too; all processes get all of them.
        """
        ranks = self.runtime.ranks
        batches = in_order(films, self.config.evaluate.batch_size, [self.config.data.size])
        first, end = (len(batches) * r // ranks.count for r in (ranks.rank, ranks.rank + 1))
        own = self.predict(self.ready(model), loader.load(batches[first:end]), 1) if first < end else None
        return joined([part for part in ranks.collected(own) if part is not None])

    def figures(self, prediction: Prediction, samples: Sequence[Sample]) -> dict[str, Any]:
        """The figures of a split, with those that plugins add."""
        figures = summarise(prediction.errors_mm, self.landmarks, self.config.data.truth)
        added = self.hooks.merge(
            "metrics",
            errors_mm=prediction.errors_mm,
            points_px=prediction.points_px,
            valid=prediction.valid,
            samples=samples,
            landmarks=self.landmarks,
        )
        if added:
            figures["plugins"] = {name: float(value) for name, value in added.items()}
        return figures


def make_monitor(name: str, landmarks: tuple[str, ...]) -> Callable[[Mapping[str, Any]], float]:
    """The figure `train.monitor` of a split, smaller is better; one that is missing or NaN counts as the worst."""
    known = flatten(summarise(np.zeros((1, len(landmarks))), landmarks, ""))
    if name not in known and not name.startswith("plugins."):
        raise ConfigError(f"there is no figure {name!r}", key="train.monitor", hint=nearest(name, known))
    sign = -1.0 if higher_is_better(name) else 1.0

    def monitor(figures: Mapping[str, Any]) -> float:
        flat = flatten(figures)
        value = flat.get(name, math.nan)
        return math.inf if math.isnan(value) else sign * value

    return monitor
