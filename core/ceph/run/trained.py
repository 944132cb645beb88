"""A trained network: the best checkpoint of a run, which predicts films and evaluates splits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ceph import runfolder
from ceph.config.load import Resolved, resolve_run
from ceph.data.bare import bare_film, in_batches, load_bare, readable
from ceph.data.check.quick import trained_on
from ceph.data.dataset import Films
from ceph.data.formats.base import DataSet
from ceph.data.formats.splits import OUT_OF_FOLD
from ceph.data.loader import Loader, in_order
from ceph.data.plausible import impossible
from ceph.data.several import on_landmarks
from ceph.data.types import Points, absent_in
from ceph.errors import ConfigError, nearest
from ceph.evaluation.floor import floor_figures
from ceph.evaluation.means import Ensemble, Member
from ceph.evaluation.metrics import intervals
from ceph.evaluation.predict import Prediction
from ceph.evaluation.stations import Stations
from ceph.evaluation.statistics import units_of
from ceph.hooks.base import Run
from ceph.measuring.agreement import measurement_figures
from ceph.model.weights import put
from ceph.run.assembly import make_hooks, make_model, make_stations
from ceph.run.evaluator import Evaluator
from ceph.run.films import also_films, loader_workers, make_films, read_data
from ceph.run.held_out import ADAPT, Known, are_held_out, keep
from ceph.training import checkpoint
from ceph.training.memory import LOADED, explained, predicting
from ceph.training.runtime import flushed_denormals, start

log = logging.getLogger("ceph")

T = TypeVar("T")
# Hooks whose answers a trained run goes on with.
STATIONS = ("decoder", "constraint", "refiner", "offsets")
PREDICTING = {"build_model", "modules", "views", "members", *(f"build_{station}" for station in STATIONS)}

TRAINING_SPLITS = ("train", "validation", OUT_OF_FOLD)
HELD_OUT = ("validation", OUT_OF_FOLD)  # from which a run learns its radii
UNFIT = (
    "install the versions of ceph-trainer and of its plugins that {folder}/environment.json names, or start a new run "
    "from these weights: ceph run --init-from {folder}"
)


def timed(find: Callable[[], T], films: Films) -> tuple[T, float]:
    """What is found on films, and the seconds that it took for each."""
    began = perf_counter()
    found = find()
    return found, (perf_counter() - began) / len(films)


def load(folder: Path | str, *, settings: Sequence[str] = (), without: Sequence[str] = ()) -> Trained:
    """The best checkpoint of a run, ready to predict; `settings` are `KEY=VALUE` texts as for `--set`.

    Of a folder of several runs all, whose maps are averaged. `without` names plugins to leave out, which must be such
    as change training only. Raises ConfigError, and CheckpointError where a file is damaged.
    """
    where = runfolder.located(folder)
    runfolder.require_run(where)
    require_unneeded(where, without)
    resolved = resolve_run(where, settings=settings, without=without)
    if members := runfolder.read_members(where):
        from ceph.run.averaged import Averaged, require_trained

        require_trained(where, members)
        runs = tuple(load(member, settings=settings, without=without) for member in members)
        trained: Trained = Averaged(where, resolved, runs)
    else:
        trained = Trained(where, resolved)
    trained.asked = tuple(settings)
    return trained


def require_unneeded(folder: Path, without: Sequence[str]) -> None:
    """Raise ConfigError where a plugin of the run has part in its predictions; warn where that is not recorded."""
    recorded = runfolder.mapping(runfolder.read_environment(folder), "plugins") if without else {}
    for name in without:
        plugin = runfolder.mapping(recorded, name)
        hooks = plugin.get("hooks")
        if not isinstance(hooks, list):
            log.warning("it is not recorded what plugin '%s' did: without it this run may predict otherwise", name)
        elif needed := PREDICTING.intersection(map(str, hooks)):
            what = f"this run's predictions need it: it answers {', '.join(sorted(needed))}"
            hint = f"install {plugin.get('source')} {plugin.get('version')}, which gave it to this run"
            raise ConfigError(what, key=f"plugins.{name}", hint=hint)


class Trained:
    """The best checkpoint of a run; `members` are the runs of a folder of several (`averaged.py`), else none."""

    members: tuple[Trained, ...] = ()
    asked: tuple[str, ...] = ()  # the settings that it was loaded with

    def __init__(self, folder: Path, resolved: Resolved) -> None:
        self.folder, self.resolved, self.config = folder, resolved, resolved.config
        with explained(f"reading the best checkpoint of {folder}", LOADED):
            content = checkpoint.load(folder / runfolder.CHECKPOINTS, checkpoint.BEST)
        self.landmarks = tuple(content["landmarks"])
        self.stations_state = content["stations"]
        if untrained := runfolder.untrained(folder):
            log.warning(runfolder.NOT_LEARNED, ", ".join(map(str, untrained)))
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
            with torch.random.fork_rng(devices=[]):  # its random weights are no draw of whoever loads it
                self.model = make_model(self.config, self.hooks, self.run)
            put(self.model, content["model"], hint=UNFIT.format(folder=folder))
            self.runtime.place(self.model).eval()

    @cached_property
    def evaluator(self) -> Evaluator:
        """What turns this model into figures."""
        return Evaluator(self.config, self.hooks, self.runtime, self.landmarks, self.stations(), self.others())

    def stations(self) -> Stations:
        """What turns the mean of maps into points."""
        stations = make_stations(self.config, self.hooks, self.run)
        stations.load_state_dict(self.stations_state)
        return stations

    def others(self) -> tuple[Member, ...]:
        """Further networks whose maps are averaged with those of `model`."""
        return ()

    @cached_property
    def known(self) -> Known:
        """What films that did not train the run say of it: radii, and what films usually look like."""
        return Known(self.folder, [member.folder for member in self.members], self.landmarks)

    @cached_property
    def ensemble(self) -> Ensemble:
        """The model as it predicts, with the members, the views and `evaluate.scales`."""
        return self.evaluator.ensemble(self.model, self.config.evaluate.scales)

    @contextmanager
    def predicting(self, films: int) -> Iterator[None]:
        """Around all that is computed of `films`: denormal numbers are zero, and an exhausted machine is explained."""
        (height, width), batch = self.config.data.size, min(films, self.config.evaluate.batch_size)
        scales = sorted(self.config.evaluate.scales, key=lambda scale: abs(scale - 1))
        at = " and ".join(f"{round(height * scale)}x{round(width * scale)}" for scale in scales)
        what = f"predicting a batch of {batch} films at {at} px"
        with flushed_denormals(), explained(what, predicting(batch, len(scales))):
            yield

    def predict(
        self, images: Sequence[Path | str | NDArray[np.uint8]], mm_per_px: Sequence[float | None] | None = None
    ) -> tuple[Points, NDArray[np.float64]]:
        """Points [N, K, 2] in pixels of each film and scores [N, K], in the order of `landmarks`.

        `images` are files, or grey arrays [H, W] uint8; `mm_per_px` of their pixels (None: unknown) are for plugins
        that look at the film again. Raises DataError for one that cannot be read.
        """
        if not len(images):
            return np.zeros((0, len(self.landmarks), 2)), np.zeros((0, len(self.landmarks)))
        found = self.found_on(images, mm_per_px)
        return found.points_px, found.scores

    def found_on(
        self, images: Sequence[Path | str | NDArray[np.uint8]], mm_per_px: Sequence[float | None] | None = None
    ) -> Prediction:
        """All that is found on `images`, one at least, as for `predict`; there is no truth beside it."""
        with self.predicting(len(images)):
            films = readable(load_bare(images, self.ensemble.sizes, len(self.landmarks), mm_per_px))
            items = in_batches(films, self.config.evaluate.batch_size)
            return self.evaluator.predict(self.ensemble, items, partial(bare_film, images))

    def evaluate(
        self, split: str | None = None, data: Path | None = None, *, own: DataSet | None = None
    ) -> tuple[dict[str, Any], str]:
        """Figures of a split, and its name (default: validation, or the only split that `data` has).

        Without `data` the run's own set is read, and figures and predictions are written into the run folder;
        with it nothing is, and what the run's config says of its own set alone (spacing, format) is forgotten, unless
        the run was loaded with such a setting. `own` is the run's own set, where it is read already.
        """
        other = data and resolve_run(self.folder, data=data, settings=self.asked, imports="none")
        config = other.config if other else self.config
        fixed = data is None and not runfolder.is_adapted(self.folder)  # else the set may lack some landmarks
        found = own or read_data(config, self.hooks, data, shared=None if fixed else self.landmarks)
        found = found if found.landmarks == self.landmarks else on_landmarks(found, self.landmarks)
        there = sorted({sample.split for sample in found.samples})
        usual = OUT_OF_FOLD if OUT_OF_FOLD in there else "validation"
        name = split or (usual if usual in there or len(there) != 1 else there[0])
        if name not in there:
            raise ConfigError(f"the set has no split {name!r}", key="--split", hint=nearest(name, there))
        films = make_films(found, name, config)
        known = runfolder.read_fingerprint(self.folder)
        seen = {split: runfolder.labels(known, "films", split) for split in (*TRAINING_SPLITS, ADAPT)}
        for problem in impossible(films.samples, found.landmarks):
            log.warning(problem.what)
        for line in trained_on(films.samples, films.digests, seen):
            log.warning(line)
        (figures, prediction), seconds = timed(lambda: self._scored(name, films), films)
        labels = [{("group", s.group), ("pixels", d)} for s, d in zip(films.samples, films.digests, strict=True)]
        figures |= self.beside(name, films, seconds)
        figures["interval_95"] = intervals(prediction.errors_mm, units := units_of(labels))
        true = np.where(prediction.valid[..., None], prediction.truth_px, np.nan)
        of = prediction.points_px, true, films.samples, self.landmarks
        figures |= floor_figures(*of, found.readers, config.data.truth, units)
        held_out = (
            data is None
            and name in HELD_OUT
            and all(are_held_out(films.digests, seen[part]) for part in ("train", ADAPT))
        )
        radii_mm = self.known.radii_mm(prediction, units if held_out else None)
        figures |= self.known.figures(prediction.errors_mm, radii_mm, films.samples)
        figures |= measurement_figures(*of, found.readers)
        if held_out:
            keep(self.folder, name, self.landmarks, prediction, units)
            self.__dict__.pop("known", None)  # is read anew
        if data is None and name == "validation" and config.evaluate.also:
            others = also_films(config, self.hooks, self.landmarks).items()
            figures["also"] = {each: self._scored(each, further)[0] for each, further in others}
        if data is None:
            self._write(name, figures, prediction, films, radii_mm)
            if (self.folder / runfolder.REPORT).exists():  # not before the run has ended
                from ceph.run.report import report_if_possible  # templates and charts, which nothing else here needs

                report_if_possible(self.folder)
        return figures, name

    def beside(self, split: str, films: Films, seconds: float) -> dict[str, Any]:
        """What stands beside the figures of a split, whose films took so many `seconds` each."""
        del split, films, seconds
        return {}

    def found(self, split: str, films: Films) -> Prediction:
        """The landmarks of the films of a split, beside their truth."""
        del split
        loader = Loader(films, loader_workers(self.config, self.runtime))
        with self.predicting(len(films)):
            items = loader.load(in_order(len(films), self.config.evaluate.batch_size, self.ensemble.sizes))
            return self.evaluator.predict(self.ensemble, items, films.film)

    def _scored(self, name: str, films: Films) -> tuple[dict[str, Any], Prediction]:
        prediction = self.found(name, films)
        return self.evaluator.figures(name, prediction, films.samples), prediction

    def _write(
        self, split: str, figures: dict[str, Any], prediction: Prediction, films: Films, radii_mm: Points | None
    ) -> None:
        ids, errors_mm = tuple(sample.id for sample in films.samples), prediction.errors_mm
        absent = absent_in(films.samples, len(self.landmarks))
        found = prediction.points_px, prediction.scores, prediction.truth_px, errors_mm, radii_mm, prediction.presence
        runfolder.add_figures(self.folder, split, figures)
        runfolder.write_predictions(self.folder, split, runfolder.Predictions(ids, self.landmarks, *found, absent))
        runfolder.write_stages(self.folder, split, ids, self.landmarks, prediction.stages)
        if split not in TRAINING_SPLITS:
            scored = runfolder.fingerprint(films.samples, films.digests, self.landmarks)
            runfolder.add_fingerprint(self.folder, scored)
            runfolder.note_opened(self.folder, split)
