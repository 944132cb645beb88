"""`ceph bench`: where a training step's time goes, and how many films a second a config trains, predicts and decodes.

The engine's own loop runs, on a job whose loader, network, targets, criterion and scaler tell a clock when they begin;
nothing in the loop knows of it. What is timed stage by stage waits for the device at each stage; throughput is timed
apart, without the clock. The three ways (staged, loading, preloaded) take turns, and medians of the rounds are given.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ceph.config.load import Resolved
from ceph.data.augment import STAGES as CHANGES
from ceph.data.augment import Augmentation
from ceph.data.cache import Film, FilmCache
from ceph.data.dataset import Films, Item, State, collate, to_batch
from ceph.data.loader import Loader, in_order
from ceph.data.plan import Entry, derive
from ceph.data.types import Batch
from ceph.hooks import trace
from ceph.model.codec import Targets
from ceph.model.weights import describe_size
from ceph.report.progress import Silent
from ceph.run.evaluator import Evaluator
from ceph.run.films import loader_workers
from ceph.run.prepare import Prepared, prepare
from ceph.run.train import build, describe, new_network
from ceph.stop import StopRequest
from ceph.training.engine import train_epoch
from ceph.training.job import Job
from ceph.training.memory import explained, predicting
from ceph.training.progress import Progress
from ceph.training.runtime import flushed_denormals

# In the order of a step. `decode` is the film from the cache; `loss` holds the errors in mm of training films, too.
LOADING = ("decode", "warp", "photometric", "collate")
STAGES = (*LOADING, "transfer", "forward", "target", "loss", "backward", "optimiser", "hooks", "logging")
HOOKS_OF = {"loss": ("pixel_weights", "landmark_weights", "loss_terms"), "logging": ("step_end",), "warp": ("truth",)}
EVALUATED = 2  # batches of the validation films
HELD = ("lower --steps, then train.batch_size", "then data.size")


@dataclass
class Clock:
    """The time since the last stage began belongs to that stage."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _began: float = 0.0

    def enter(self, stage: str) -> str:
        """Begin a stage (empty: none), which ends the one before it; returns that one's name."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = perf_counter()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._began
        before, self._stage, self._began = self._stage, stage, now
        return before


class _Cache(FilmCache):
    """A film cache whose work is the stage `decode`."""

    def __init__(self, inner: FilmCache, clock: Clock) -> None:
        self.__dict__.update(inner.__dict__)
        self._clock = clock

    def level(self, path: Path, digest: str, scale: float) -> Film:
        """As the cache's."""
        before = self._clock.enter("decode")
        film = super().level(path, digest, scale)
        self._clock.enter(before)
        return film


class _Augmentation(Augmentation):
    """Random changes whose pixel part is the stage `photometric`."""

    def __init__(self, inner: Augmentation, clock: Clock) -> None:
        self.__dict__.update(inner.__dict__)
        self._clock = clock

    def change_pixels(self, image: NDArray[np.uint8], seed: int, stages: Sequence[str] = CHANGES) -> NDArray[np.uint8]:
        """As the augmentation's."""
        before = self._clock.enter("photometric")
        changed = super().change_pixels(image, seed, stages)
        self._clock.enter(before)
        return changed


class _Staged(Loader):
    """Loads in this process; reading a film and its points is `warp` but for its inner stages, stacking `collate`."""

    def __init__(self, films: Films, clock: Clock) -> None:
        own = films.augmentation and _Augmentation(films.augmentation, clock)
        self._films, self._clock = replace(films, cache=_Cache(films.cache, clock), augmentation=own), clock

    def load(self, batches: Sequence[list[Entry]], _state: State | None = None) -> Iterator[Item]:
        """The collated items of `batches`."""
        for batch in batches:
            self._clock.enter("warp")
            items = [self._films[entry] for entry in batch]
            self._clock.enter("collate")
            item = collate(items)
            self._clock.enter("transfer")
            yield item


class Preloaded(Loader):
    """Loads all batches of an epoch before its first step."""

    def __init__(self, films: Films) -> None:
        self._films = films

    def load(self, batches: Sequence[list[Entry]], _state: State | None = None) -> Iterator[Item]:
        """The collated items of `batches`, all in memory."""
        films, (height, width) = sum(map(len, batches)), batches[0][0].size
        with explained(f"holding {films} films at {height}x{width} px", HELD):
            return iter([collate([self._films[entry] for entry in batch]) for batch in batches])


class _Targets:
    """Targets whose encoding is the stage `target`; what follows is `loss`."""

    def __init__(self, inner: Targets, clock: Clock) -> None:
        self._inner, self._clock = inner, clock

    def encode(self, batch: Batch, map_size: tuple[int, int]) -> torch.Tensor:
        """As the targets'."""
        self._clock.enter("target")
        target = self._inner.encode(batch, map_size)
        self._clock.enter("loss")
        return target


class _Scaler(torch.amp.GradScaler):
    """The engine scales the loss just before the backward pass, unscales just after it, and updates after the step."""

    def __init__(self, inner: torch.amp.GradScaler, device: str, clock: Clock) -> None:
        super().__init__(device, enabled=inner.is_enabled())
        self._clock = clock

    def scale(self, outputs: Any) -> Any:
        """Begin `backward`."""
        scaled = super().scale(outputs)
        self._clock.enter("backward")
        return scaled

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        """Begin `optimiser`: unscaling, clipping, the step."""
        self._clock.enter("optimiser")
        super().unscale_(optimizer)

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Begin `logging`, the rest of the step."""
        super().update(new_scale)
        self._clock.enter("logging")


def staged(job: Job, films: Films, clock: Clock) -> Job:
    """The same job, whose parts tell `clock` when they begin."""

    def forward(image: torch.Tensor) -> torch.Tensor:
        clock.enter("forward")
        maps = job.forward(image)
        clock.enter("loss")
        return maps

    return replace(
        job,
        loader=_Staged(films, clock),
        forward=forward,
        targets=_Targets(job.targets, clock),
        scaler=_Scaler(job.scaler, job.runtime.device.type, clock),
    )


def bench(resolved: Resolved, *, steps: int = 5, rounds: int = 3) -> dict[str, Any]:
    """Measure a config: `rounds` times `steps` optimiser steps each way, after a first round that counts for nothing.

    Weights are random and nothing is kept. Returns plain values: `films_per_second` {loading, preloaded}, `step_ms`
    and `stages_ms` of a step that loads in this process, `plugins_percent` of a step with loading,
    `first_films_per_second` (the first round, in which films may be decoded), `peak_memory_mb`, `evaluation`.
    """
    films, (height, width) = resolved.config.train.batch_size, resolved.config.data.size
    with (
        tempfile.TemporaryDirectory(prefix="ceph-bench-") as folder,
        flushed_denormals(),
        explained(f"measuring batches of {films} films at {height}x{width} px"),
    ):
        prepared = few(prepare(resolved), steps)
        torch.manual_seed(derive(resolved.config.train.seed, "weights"))
        model = new_network(prepared)
        job = build(prepared, model, Path(folder))
        prepared.hooks.tell("run_start", run=job.run)
        clock, first, preloaded = Clock(job.runtime.device), timed(job), replace(job, loader=Preloaded(prepared.train))
        seconds: dict[str, list[float]] = {"loading": [], "preloaded": []}
        stages: list[dict[str, float]] = []
        shares: list[dict[str, float]] = []
        for _ in range(rounds):
            before = by_plugin(job)
            epoch = timed(job)
            seconds["loading"].append(epoch.per_film)
            shares.append({n: 100 * (s - before[n]) / epoch.seconds for n, s in by_plugin(job).items()})
            seconds["preloaded"].append(timed(preloaded).per_film)
            stages.append(stage_times(staged(job, prepared.train, clock), clock))
        films = min(prepared.config.evaluate.batch_size, len(prepared.validation))
        with explained(f"predicting a batch of {films} films at {height}x{width} px", predicting(films)):
            evaluation = evaluate(job, prepared, rounds)
    stages_ms = {stage: 1000 * statistics.median(found.get(stage, 0.0) for found in stages) for stage in STAGES}
    return {
        "network": f"{resolved.config.model.backbone}, {describe_size(model)}",
        "size": list(prepared.run.size),
        "batch_size": resolved.config.train.batch_size,
        "workers": loader_workers(prepared.config, job.runtime),
        "device": describe(job.runtime),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        "first_films_per_second": 1 / first.per_film,
        "films_per_second": {way: 1 / statistics.median(found) for way, found in seconds.items()},
        "step_ms": sum(stages_ms.values()),
        "stages_ms": stages_ms,
        "plugins_percent": {name: statistics.median(share[name] for share in shares) for name in job.hooks.names},
        "peak_memory_mb": peak_memory_mb(job.runtime.device),
        "evaluation": evaluation,
    }


def few(prepared: Prepared, steps: int) -> Prepared:
    """The same, with no more training films than `steps` optimiser steps need."""
    train = prepared.config.train
    count = steps * train.batch_size * train.accumulate
    films = replace(prepared.train, samples=prepared.train.samples[:count], digests=prepared.train.digests[:count])
    return replace(prepared, train=films, run=replace(prepared.run, samples=tuple(films.samples)))


@dataclass(frozen=True)
class Epoch:
    """An epoch's films, optimiser steps and seconds; what loads before its first step is not in them."""

    films: int
    steps: int
    seconds: float

    @property
    def per_film(self) -> float:
        """Seconds of a film."""
        return self.seconds / self.films


def timed(job: Job) -> Epoch:
    """Train the first epoch, again and again the same films at the same sizes; the weights go on."""
    progress = Progress()
    train_epoch(job, progress, Silent(), StopRequest())
    return Epoch(progress.drawn, *progress.timed)


def stage_times(job: Job, clock: Clock) -> dict[str, float]:
    """Seconds of each stage of a step, the mean of an epoch; what plugins took in a stage is under `hooks` instead."""
    before = by_hook(job)
    clock.seconds.clear()
    steps = timed(job).steps
    clock.enter("")
    taken = {hook: seconds - before[hook] for hook, seconds in by_hook(job).items()}
    found = dict(clock.seconds)
    for stage, hooks in HOOKS_OF.items():
        found[stage] = max(0.0, found.get(stage, 0.0) - sum(taken[hook] for hook in hooks))
    found["hooks"] = sum(taken.values())
    return {stage: seconds / steps for stage, seconds in found.items()}


def by_hook(job: Job) -> dict[str, float]:
    """Seconds that all plugins took so far in each hook of a step."""
    return {h: sum(s[h].seconds for s in job.hooks.spent.values() if h in s) for h in trace.IN_STEP}


def by_plugin(job: Job) -> dict[str, float]:
    """Seconds that each plugin took so far in the hooks of a step."""
    return {n: sum(s.seconds for h, s in hooks.items() if h in trace.IN_STEP) for n, hooks in job.hooks.spent.items()}


def evaluate(job: Job, prepared: Prepared, rounds: int) -> dict[str, float]:
    """Films a second of an evaluation with loading, of the network's forward pass alone, and of decoding alone."""
    config, device = prepared.config, job.runtime.device
    evaluator = Evaluator(config, job.hooks, job.runtime, job.run.landmarks, job.stations)
    count = min(EVALUATED * config.evaluate.batch_size, len(prepared.validation))
    loader = Loader(prepared.validation, loader_workers(config, job.runtime), pin=device.type == "cuda")
    batches = in_order(count, config.evaluate.batch_size, [config.data.size])
    items = list(loader.load(batches))  # the cache is warm from here on

    @torch.inference_mode()
    def forward() -> list[torch.Tensor]:
        seen = zip(items, images, strict=True)
        return [ensemble.maps([item], [image], job.runtime.autocast)[0] for item, image in seen]

    def decode() -> None:
        for maps in activations:
            job.stations.decoder.decode(maps, config.data.size)

    images = [to_batch(item, device).image for item in items]
    ensemble = evaluator.ensemble(job.model)
    activations = forward()
    ways: dict[str, Callable[[], object]] = {
        "films_per_second": lambda: evaluator.predict(ensemble, loader.load(batches), prepared.validation.film),
        "forward_films_per_second": forward,
        "decoded_films_per_second": decode,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, run in ways.items():
            seconds[way].append(wall(run, device))
    rates = {way: count / statistics.median(found[1:]) for way, found in seconds.items()}
    return {**rates, "share_percent": 100 * rates["films_per_second"] / rates["forward_films_per_second"]}


def wall(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that `run` takes, with the device's work done before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - began


def peak_memory_mb(device: torch.device) -> float:
    """The most that tensors took on a CUDA device, or that this process took so far elsewhere, in MB (10^6 bytes)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
