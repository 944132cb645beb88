"""A trained network: the best checkpoint of a run, which predicts films and evaluates splits."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ceph.assembly import Evaluator, loader_workers, make_codec, make_films, make_hooks, make_model, read_data
from ceph.config.load import Resolved, resolve
from ceph.data.bare import in_batches, load_bare, readable
from ceph.data.check.quick import trained_on
from ceph.data.dataset import Films, Loader, in_order
from ceph.data.types import Points
from ceph.errors import ConfigError, nearest
from ceph.evaluation.metrics import intervals
from ceph.evaluation.predict import Prediction
from ceph.evaluation.statistics import units_of
from ceph.hooks.base import Run
from ceph.report.html import FILE as REPORT
from ceph.run_report import report_if_possible
from ceph.training import checkpoint
from ceph.training import folder as run_folder
from ceph.training.memory import FREE, LOADED, explained, predicting
from ceph.training.runtime import flushed_denormals, start

log = logging.getLogger("ceph")

TRAINING_SPLITS = ("train", "validation")


def load(folder: Path | str, *, settings: Sequence[str] = ()) -> Trained:
    """The best checkpoint of a run, ready to predict; `settings` are `KEY=VALUE` texts as for `--set`."""
    where = Path(folder)
    run_folder.require_run(where)
    return Trained(where, resolve(where / run_folder.CONFIG, settings=settings))


class Trained:
    """The best checkpoint of a run."""

    def __init__(self, folder: Path, resolved: Resolved) -> None:
        self.folder, self.resolved, self.config = folder, resolved, resolved.config
        with explained(f"reading the best checkpoint of {folder}", LOADED):
            content = checkpoint.load(folder / "checkpoints", checkpoint.BEST)
        self.landmarks = tuple(content["landmarks"])
        self._codec_state = content.get("codec", {})
        self.hooks = make_hooks(resolved)
        self.runtime = start(self.config.train.device, self.config.train.precision)
        settings = self.config.train
        self.run = Run(
            self.landmarks,
            self.config.data.size,
            settings.epochs,
            0,
            settings.seed,
            (),
            self.runtime.device,
            self.config,
        )
        network = f"{self.config.model.backbone}, {self.config.model.width} wide, for {len(self.landmarks)} landmarks"
        with flushed_denormals(), explained(f"loading {network}, of {folder}", LOADED):
            self.model = make_model(self.config, self.hooks, self.run)
            self.model.load_state_dict(content["model"])
            self.runtime.place(self.model).eval()

    @cached_property
    def evaluator(self) -> Evaluator:
        """What turns this model into figures."""
        codec = make_codec(self.config, self.hooks, self.run)
        if hasattr(codec, "load_state_dict"):
            codec.load_state_dict(self._codec_state)
        return Evaluator(self.config, self.hooks, self.runtime, self.landmarks, codec)

    @cached_property
    def network(self) -> nn.Module:
        """The model as it predicts."""
        return self.evaluator.ready(self.model)

    @contextmanager
    def predicting(self, films: int) -> Iterator[None]:
        """Around all that is computed of `films`: denormal numbers are zero, and an exhausted machine is explained."""
        sizes, batch = self.evaluator.sizes, min(films, self.config.evaluate.batch_size)
        at = " and ".join(f"{height}x{width}" for height, width in sizes)
        what = f"predicting a batch of {batch} films at {at} px"
        with flushed_denormals(), explained(what, predicting(batch, len(sizes))):
            yield

    def predict(self, images: Sequence[Path | str | NDArray[np.uint8]]) -> tuple[Points, NDArray[np.float64]]:
        """Points [N, K, 2] in pixels of each film and scores [N, K], in the order of `landmarks`.

        `images` are files, or grey arrays [H, W] uint8. Raises DataError for one that cannot be read.
        """
        if not len(images):
            return np.zeros((0, len(self.landmarks), 2)), np.zeros((0, len(self.landmarks)))
        sizes = self.evaluator.sizes
        films = readable(load_bare(images, sizes, len(self.landmarks)))
        with self.predicting(len(images)):
            items = in_batches(films, self.config.evaluate.batch_size)
            found = self.evaluator.predict(self.network, items, len(sizes))
        return found.points_px, found.scores

    @explained("evaluating a split", FREE)
    def evaluate(self, split: str | None = None, data: Path | None = None) -> tuple[dict[str, Any], str]:
        """Figures of a split, and its name (default: validation, or the only split that `data` has).

        Without `data` the run's own set is read, and figures and predictions are written into the run folder;
        with it nothing is.
        """
        config = self.config
        found = read_data(config, self.hooks, data)
        if found.landmarks != self.landmarks:
            raise ConfigError(
                f"the run knows {len(self.landmarks)} landmarks, this set has {len(found.landmarks)}",
                key="data.landmarks",
            )
        there = sorted({sample.split for sample in found.samples})
        name = split or ("validation" if "validation" in there or len(there) != 1 else there[0])
        if name not in there:
            raise ConfigError(f"the set has no split {name!r}", key="--split", hint=nearest(name, there))
        films = make_films(found, name, config)
        seen = run_folder.read_object(self.folder / run_folder.FINGERPRINT)["films"]
        for line in trained_on(films.samples, films.digests, seen):
            log.warning(line)
        loader = Loader(films, loader_workers(config, self.runtime))
        sizes = self.evaluator.sizes
        with self.predicting(len(films)):
            items = loader.load(in_order(len(films), config.evaluate.batch_size, sizes))
            prediction = self.evaluator.predict(self.network, items, len(sizes))
        figures = self.evaluator.figures(prediction, films.samples)
        labels = [{("group", s.group), ("pixels", d)} for s, d in zip(films.samples, films.digests, strict=True)]
        figures["interval_95"] = intervals(prediction.errors_mm, units_of(labels))
        if data is None:
            self._write(name, figures, prediction, films)
            if (self.folder / REPORT).exists():  # not before the run has ended
                report_if_possible(self.folder)
        return figures, name

    def _write(self, split: str, figures: dict[str, Any], prediction: Prediction, films: Films) -> None:
        ids = [sample.id for sample in films.samples]
        run_folder.write_json(self.folder / "metrics.json", {**run_folder.read_metrics(self.folder), split: figures})
        run_folder.write_predictions(self.folder / f"predictions-{split}.csv", prediction, ids, self.landmarks)
        if split not in TRAINING_SPLITS:
            scored = run_folder.fingerprint(films.samples, films.digests, self.landmarks)
            run_folder.add_fingerprint(self.folder, scored)
            run_folder.note_opened(self.folder, split)
