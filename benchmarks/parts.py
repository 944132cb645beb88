"""The parts of a run that the benchmarks share: a config's job, and a plain loop with the same network."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ceph.config.load import resolve
from ceph.data.dataset import collate, to_batch
from ceph.data.plan import derive, plan_epoch
from ceph.model.codec import float_maps
from ceph.run.prepare import prepare
from ceph.run.train import build, make_model
from ceph.tools.bench import Preloaded, few, timed
from ceph.training.loss import cross_entropy
from ceph.training.optim import adamw

FOUR = {
    "weighted-loss": {},
    "hard-mining": {},
    "multi-scale": {"scales": [1.0]},  # asked at every batch, but the pixels stay the same
    "heavy-augmentation": {},
}


def add_arguments(parser, *, size=(480, 384), rounds=15, steps=2, batch=8):
    """The options that most scripts have."""
    parser.add_argument("--data", type=Path, help="a data set; default: the embedded synthetic set")
    parser.add_argument("--mm-per-px", type=float, default=None)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--size", type=int, nargs=2, default=size, metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, default=steps, help="of a round")
    parser.add_argument("--batch", type=int, default=batch)


def resolved(given, *, plugins=(), **settings):
    """The config of a script's options."""
    texts = {
        "data.size": f"[{given.size[0]},{given.size[1]}]",
        "model.backbone": given.backbone,
        "model.weights": "none",
        "train.batch_size": given.batch,
        "train.precision": given.precision,
        **{key.replace("__", "."): value for key, value in settings.items()},
    }
    if given.mm_per_px:
        texts["data.mm_per_px"] = given.mm_per_px
    for name in plugins:
        texts |= {f"plugins.{name}.{key}": value for key, value in FOUR[name].items()}
    return resolve(None, plugins=plugins, data=given.data, settings=[f"{key}={value}" for key, value in texts.items()])


def job_of(config, steps, chosen=few):
    """(job, prepared) of the films that `chosen` gives for so many steps; the same random weights for a config."""
    prepared = chosen(prepare(config), steps)
    torch.manual_seed(derive(config.config.train.seed, "weights"))
    model = make_model(prepared.config, prepared.hooks, prepared.run)
    job = build(prepared, model, Path(tempfile.mkdtemp(prefix="ceph-benchmark-")))
    prepared.hooks.tell("run_start", run=job.run)
    return job, prepared


def preloaded(job, prepared):
    """The job with its films in memory."""
    return replace(job, loader=Preloaded(prepared.train))


def epoch(job):
    """A way for `in_turns`: one epoch of the engine."""

    def run():
        found = timed(job)
        return found.films, found.seconds

    return run


class BareLoop:
    """A plain PyTorch loop over tensors in memory: the job's network, targets, criterion and optimiser, no more."""

    def __init__(self, job, prepared):
        settings = prepared.config.train
        self.model, self.runtime, self.settings = copy.deepcopy(job.model), job.runtime, settings
        self.optimizer = adamw(self.model, settings.lr, settings.weight_decay)
        self.targets = job.targets
        plan = plan_epoch(
            len(prepared.train), settings.batch_size, seed=settings.seed, epoch=0, size=prepared.config.data.size
        )
        items = [collate([prepared.train[entry] for entry in batch]) for batch in plan.batches]
        self.batches = [to_batch(item, job.runtime.device) for item in items]
        self.films = plan.films

    def __call__(self):
        self.model.train()
        for batch in self.batches:
            self.optimizer.zero_grad(set_to_none=True)
            with self.runtime.autocast():
                maps = float_maps(self.model(batch.image))
            target = self.targets.encode(batch, tuple(maps.shape[-2:]))
            loss = cross_entropy(maps, target, None)
            loss = (loss * batch.valid).sum() / batch.valid.sum()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimizer.step()
        float(loss.detach())
        return self.films
