"""The part `speed` of `benchmarks/gpu.py`: films a second of each way to train and predict, and where the time goes.

Ways of one network take turns; `bare` is a plain loop over tensors on the device, of which all others are a share.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice

import torch
from gpu_table import Given, Table
from parts import BareLoop, epoch, job_of, resolved
from protocol import in_turns
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_map_only

from ceph.data.loader import Loader
from ceph.tools.bench import STAGES, Clock, evaluate, peak_memory_mb, stage_times, staged, timed
from ceph.training.runtime import DTYPES, flushed_denormals

GPU = torch.cuda.is_available()
NETWORKS = {"quick": ("tf_efficientnet_lite0", (480, 384), 8), "base": ("hrnet_w32", (768, 640), 16)}
TINY = {"quick": ("test_efficientnet", (64, 64), 4), "base": ("test_resnet", (96, 64), 4)}
COLUMNS = ["network", "way", "films/s", "ms a step", "share of bare %", "peak MB"]
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


class Held(Loader):
    """The first epoch's batches in pinned memory, loaded once."""

    def __init__(self, loader):
        self._loader, self._items = loader, None

    def load(self, batches, state=None):
        if self._items is None:
            pinned = torch.Tensor.pin_memory if GPU else torch.clone
            self._items = [tree_map_only(torch.Tensor, pinned, item) for item in self._loader.load(batches, state)]
        return iter(self._items)


class Plain(BareLoop):
    """The bare loop with its tensors in torch's usual order of channels."""

    def __init__(self, job, prepared):
        super().__init__(job, prepared)
        self.model.to(memory_format=torch.contiguous_format)
        self.batches = [replace(b, image=b.image.contiguous()) for b in self.batches]


class Undetermined(BareLoop):
    """The bare loop with whatever algorithm is fastest: a run does not repeat itself bit for bit."""

    def __call__(self):
        asked = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(mode=False)
        torch.backends.cudnn.benchmark = True
        try:
            return super().__call__()
        finally:
            torch.use_deterministic_algorithms(asked, warn_only=True)
            torch.backends.cudnn.benchmark = False


class Graphed(BareLoop):
    """The bare loop whose forward and backward pass are CUDA graphs; without a GPU as it is."""

    def __init__(self, job, prepared):
        super().__init__(job, prepared)
        whole = [b for b in self.batches if len(b.index) == len(self.batches[0].index)]
        self.batches, self.films = whole, sum(len(b.index) for b in whole)
        if GPU:
            with torch.autocast("cuda", DTYPES[self.runtime.precision], cache_enabled=False):
                self.model = torch.cuda.make_graphed_callables(self.model.train(), (whole[0].image,))


def repeated(prepared, steps):
    """The same, with as many training films as so many steps need: each as often as it takes."""
    count = steps * prepared.config.train.batch_size
    chosen = list(islice(cycle(zip(prepared.train.samples, prepared.train.digests, strict=True)), count))
    samples, digests = zip(*chosen, strict=True)
    films = replace(prepared.train, samples=samples, digests=digests)
    return replace(prepared, train=films, run=replace(prepared.run, samples=samples))


class Network:
    """One network's rows."""

    def __init__(self, name, given, table):
        self.name, self.table = name, table
        self.backbone, self.size, self.batch = (TINY if given.dry else NETWORKS)[name]
        self.dry = given.dry
        self.rounds, self.steps = (1, 2) if given.dry else (3, 192 // self.batch)
        self.options = Namespace(
            data=given.data,
            mm_per_px=None if given.dry else 0.25,
            backbone=self.backbone,
            size=self.size,
            batch=self.batch,
            precision="auto",
        )
        self.bare_s = None

    def job(self, workers=0, **settings):
        """(job, prepared) in a config of its own."""
        return job_of(resolved(self.options, data__workers=workers, **settings), self.steps, repeated)

    def add(self, name, make):
        """A row of the way that `make` gives; the first ever is the one that others are a share of."""
        if GPU:
            torch.cuda.reset_peak_memory_stats()
        with self.noted(name):
            seconds = statistics.median(in_turns({name: make()}, self.rounds)[name])
            self.bare_s = self.bare_s or seconds
            share, peak = 100 * self.bare_s / seconds, peak_memory_mb(torch.device("cuda" if GPU else "cpu"))
            self.table.add(self.name, name, 1 / seconds, 1000 * seconds * self.batch, share, round(peak))

    @contextmanager
    def noted(self, what):
        """Write what goes wrong inside as a row, and go on; a dry run ends there."""
        try:
            yield
        except Exception as error:
            if self.dry:
                raise
            self.say(what, share=f"{type(error).__name__}: {error}".replace("|", "/").split("\n")[0][:200])

    def say(self, what, films="", ms="", share=""):
        """A row of another kind."""
        self.table.add(self.name, what, films, ms, share, "")

    def train(self, workers):
        """The engine beside the bare step, in memory and with loader workers."""
        job, prepared = self.job(workers)
        held = replace(job, loader=Held(job.loader))
        plain = replace(held, forward=job.model)
        self.add("bare", lambda: BareLoop(job, prepared))
        self.add("engine, kernel by kernel, films in memory", lambda: epoch(plain))
        self.add("bare, CUDA graphs", lambda: Graphed(job, prepared))
        self.add("engine, films in memory", lambda: epoch(held))
        self.add(f"engine, {workers} workers", lambda: epoch(job))
        return held, prepared

    def layouts(self, job, prepared):
        """What other orders and algorithms change in the bare step."""
        ways = {"bare, not channels_last": Plain, "bare, not deterministic": Undetermined}
        for name, way in ways.items():
            self.add(name, lambda way=way: way(job, prepared))

    def predict(self, job, prepared):
        """Prediction with loading, the network alone, decoding alone."""
        for name, rate in evaluate(job, prepared, self.rounds).items():
            if name != "share_percent":
                self.say(f"prediction, {name.replace('_', ' ')}", films=rate)

    def stages(self, job, prepared):
        """Where the time of a step goes that loads in this process; each stage waits for the device."""
        clock = Clock(job.runtime.device)
        times = stage_times(staged(job, prepared.train, clock), clock)
        for stage in STAGES:
            self.say(f"stage {stage}", ms=1000 * times.get(stage, 0.0), share=100 * times[stage] / sum(times.values()))

    def profiled(self, job, where):
        """Rows of the idle GPU and of waits, in an epoch; gives the profile."""
        timed(job)  # workers are there, and what is chosen at the first step is chosen
        with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if GPU else [])]) as found:
            steps = timed(job).steps
        events = found.profiler.kineto_results.events()  # as they are: making objects of them takes minutes
        kernels = sorted((e.start_ns(), e.end_ns()) for e in events if e.device_type() == DeviceType.CUDA)
        self.say(f"GPU idle %, {where}", share=100 * idle(kernels) if kernels else "no GPU")
        self.say(f"waits for the device a step, {where}", share=sum(e.name() in WAITS for e in events) / steps)
        return found

    def compiled(self):
        """What compiling gains, in the engine and with CUDA graphs."""
        compiling = torch.compile
        if self.dry:  # minutes for nothing
            torch.compile = lambda module, **_: compiling(module, backend="eager")
        with self.noted("train.compile"):
            job, prepared = self.job(train__compile="true")
            self.add("engine, train.compile, films in memory", lambda: epoch(replace(job, loader=Held(job.loader))))
            loop = BareLoop(job, prepared)
            loop.model = torch.compile(loop.model, mode="reduce-overhead")
            self.add("bare, compiled with CUDA graphs", lambda: loop)


def idle(kernels):
    """The share of the time from the first kernel to the last in which none runs."""
    busy, until = 0.0, kernels[0][0]
    for start, end in kernels:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return 1 - busy / (until - kernels[0][0])


def main():
    given = Given()
    table = Table(given.out, "speed", COLUMNS)
    networks = [Network(name, given, table) for name in NETWORKS]
    workers = 2 if given.dry else 8
    kept = [(network, *network.train(workers)) for network in networks]
    for network, held, prepared in kept:
        with network.noted("prediction"):
            network.predict(held, prepared)
        with network.noted("profile"):
            network.profiled(held, "films in memory")
        with network.noted("stages"):
            network.stages(held, prepared)
        with network.noted("profile"):
            found = network.profiled(network.job(workers)[0], f"{workers} workers")
            if network is networks[0]:
                found.export_chrome_trace(str(given.out / "trace.json.gz"))
    for network, held, prepared in kept:
        network.layouts(held, prepared)
    for network in networks:  # last: it may take longer than what is left
        network.compiled()


if __name__ == "__main__":
    with flushed_denormals():
        main()
