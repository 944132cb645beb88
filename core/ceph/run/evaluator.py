"""From a model to figures, the same way while training and after it, and the figure that picks the best epoch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from ceph.config.models import Config
from ceph.data.dataset import Films, Item
from ceph.data.loader import Loader, in_order
from ceph.data.types import Sample, absent_in
from ceph.errors import ConfigError, nearest
from ceph.evaluation.look import OpenFilm
from ceph.evaluation.means import Ensemble, Member, View
from ceph.evaluation.metrics import add_figures, flatten, higher_is_better, summarise
from ceph.evaluation.predict import Prediction, joined, predict
from ceph.evaluation.presence import presence_figures
from ceph.evaluation.stations import Stations
from ceph.hooks.blame import Blame
from ceph.hooks.verbs import Hooks
from ceph.model.folding import folded
from ceph.run.assembly import placed
from ceph.training.engine import LAST
from ceph.training.runtime import Runtime

log = logging.getLogger("ceph")


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Turns a model into figures, the same way while training and after it."""

    config: Config
    hooks: Hooks
    runtime: Runtime
    landmarks: tuple[str, ...]
    stations: Stations
    others: tuple[Member, ...] = ()  # further networks of a folder of several runs, ready to predict

    def ready(self, model: nn.Module) -> nn.Module:
        """The model as it predicts: in evaluation mode, its batch norms folded. `model` keeps its mode."""
        return self._ready(model)[0]

    def _ready(self, model: nn.Module) -> tuple[nn.Module, torch.Tensor]:
        """The model as it predicts, and its maps of a film of noise at `data.size`."""
        size, was_training = self.config.data.size, model.training
        image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
        with self.hooks.blamed():
            made = folded(model.eval(), image.to(self.runtime.device))
        model.train(was_training)
        return made

    def evaluated(self, model: nn.Module) -> Member:
        """The model as the first of those whose maps are averaged. Raises PluginError where its maps are no maps."""
        (height, width), stride = self.config.data.size, self.config.model.stride
        hook = "eval_model" if self.hooks.answers("eval_model") else "build_model"
        ready, maps = self._ready(model)
        shape = (1, len(self.landmarks), -(-height // stride), -(-width // stride))
        self.hooks.promised(hook, maps, shape, self.runtime.device)
        return Member(ready, kind=self.config.target_kind)

    @cached_property
    def views(self) -> list[tuple[View, Blame]]:
        """The views that plugins give, and whose each is."""
        owners = self.hooks.blames("views")
        return [(view, owners[plugin]) for plugin, listed in self.hooks.each("views") for view in listed]

    def ensemble(self, model: nn.Module, scales: Sequence[float] = (1.0,)) -> Ensemble:
        """The model as it predicts, with the members and the views of plugins, each seeing a film at all `scales`."""
        own = self.hooks.blames("members")
        members: list[tuple[Member, Blame | None]] = [
            (member, None) for member in (self.evaluated(model), *self.others)
        ]
        for plugin, listed in self.hooks.each("members", model=model):
            placed_ones = (self.ready(placed(member.module, self.runtime.device)) for member in listed)
            members += [(replace(m, module=module), own[plugin]) for m, module in zip(listed, placed_ones, strict=True)]
        return Ensemble(members, self.views, self.config.data.size, sorted(scales, key=lambda scale: abs(scale - 1)))

    def predict(
        self, ensemble: Ensemble, items: Iterable[Item], open_film: OpenFilm, *, warn: bool = True
    ) -> Prediction:
        """The landmarks of loaded films, each batch of which comes at all of the ensemble's sizes in turn.

        Whoever has more films to come warns of those without spacing himself.
        """
        with self.hooks.blamed():
            found = predict(
                ensemble,
                zip(*[iter(items)] * len(ensemble.sizes), strict=True),
                self.stations,
                open_film,
                self.runtime.device,
                self.runtime.autocast,
            )
        if not np.isfinite(found.points_px).all():
            hook = next((h for h in ("eval_model", "views", "members") if self.hooks.answers(h)), "build_model")
            raise self.hooks.fault(hook, "led to maps that are not finite")
        if found.assumed_mm_per_px is not None and warn:
            self.warn_of_assumed(int(np.isfinite(found.assumed_mm_per_px).sum()))
        return found

    def warn_of_assumed(self, films: int) -> None:
        """Say of how many films without spacing a look assumed one."""
        log.warning(
            "%d films have no spacing: the second look took a network pixel to be %.3g mm, the median of training",
            *(films, self.stations.mm_per_px),
        )

    def split(self, model: nn.Module, loader: Loader, films: Films) -> Prediction:
        """The landmarks of a split's `films` at `data.size`; of several processes each predicts some of the batches.

        Batches are the same however many processes there are, so the points are too; all processes get all of them.
        """
        ranks, ensemble = self.runtime.ranks, self.ensemble(model)
        batches = in_order(len(films), self.config.evaluate.batch_size, ensemble.sizes)
        sizes = len(ensemble.sizes)
        first, end = (len(batches) // sizes * r // ranks.count * sizes for r in (ranks.rank, ranks.rank + 1))
        own = None
        if first < end:
            own = self.predict(ensemble, loader.load(batches[first:end]), films.film)
        return joined([part for part in ranks.collected(own) if part is not None])

    def figures(self, split: str, prediction: Prediction, samples: Sequence[Sample]) -> dict[str, Any]:
        """The figures of a split, with those that plugins add."""
        figures = summarise(prediction.errors_mm, self.landmarks, self.config.data.truth)
        absent = absent_in(samples, len(self.landmarks))
        figures |= presence_figures(prediction.presence, prediction.scores, prediction.valid, absent, self.landmarks)
        added = self.hooks.merge(
            "metrics",
            split=split,
            errors_mm=prediction.errors_mm,
            points_px=prediction.points_px,
            valid=prediction.valid,
            samples=samples,
            landmarks=self.landmarks,
            outputs=prediction.outputs,
        )
        add_figures(figures, added)
        return figures


def make_monitor(
    name: str, landmarks: tuple[str, ...], *, also: Iterable[str] = (), evaluated: bool = False
) -> Callable[[Mapping[str, Any]], float]:
    """The figure `train.monitor` of a split, smaller is better; one that is missing or NaN counts as the worst.

    Raises ConfigError for one that cannot be; what it gives raises ConfigError for a plugin's that is not among the
    first figures (of a run that has not been `evaluated` yet).
    """
    if name == LAST:
        return lambda _figures: 0.0
    own = flatten(summarise(np.zeros((1, len(landmarks))), landmarks, ""))
    known = {**own, **{f"also.{each}.{figure}": value for each in also for figure, value in own.items()}}
    if name not in known and not name.startswith(("plugins.", *(f"also.{each}.plugins." for each in also))):
        raise ConfigError(f"there is no figure {name!r}", key="train.monitor", hint=nearest(name, known))

    def monitor(figures: Mapping[str, Any]) -> float:
        nonlocal evaluated
        flat = flatten(figures)
        if not evaluated and name not in flat and name not in known:
            there = [figure for figure in {**known, **flat} if not figure.startswith("per_landmark.")]
            raise ConfigError(f"no plugin gives the figure {name!r}", key="train.monitor", hint=nearest(name, there))
        evaluated = True
        value = flat.get(name, math.nan)
        if math.isnan(value):
            return math.inf
        return -value if higher_is_better(name, figures) else value

    return monitor
