"""Evaluation and prediction against the network's forward pass alone: `python benchmarks/evaluation.py`.

Four ways take turns, of the same films: the network alone over batches in memory, without activation, decoding or
reading, as it was trained and with its batch norms folded, as it predicts; the evaluation of a split, its films in the
cache; and the prediction of a folder's image files, as `ceph predict` does it, each read anew and by threads ahead of
the network. The share is that of the network's rate.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from functools import partial

import torch
from parts import add_arguments, job_of, resolved
from protocol import head, in_turns, ratio

from ceph.data.bare import bare_film, in_batches, load_bare, readable
from ceph.data.dataset import to_batch
from ceph.data.loader import Loader, in_order
from ceph.run.evaluator import Evaluator
from ceph.run.films import loader_workers
from ceph.training.runtime import flushed_denormals


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, rounds=9, steps=4)
    given = parser.parse_args()
    job, prepared = job_of(resolved(given), given.steps)
    settings, device, size = prepared.config, job.runtime.device, prepared.config.data.size
    films = replace(prepared.train, augmentation=None)
    evaluator = Evaluator(settings, job.hooks, job.runtime, job.run.landmarks, job.stations)
    loader = Loader(films, loader_workers(settings, job.runtime), pin=device.type == "cuda")
    batches = in_order(len(films), settings.evaluate.batch_size, [size])
    images = [to_batch(item, device).image for item in loader.load(batches)]
    ensemble = evaluator.ensemble(job.model)

    @torch.inference_mode()
    def forward(model):
        for image in images:
            with job.runtime.autocast():
                maps = model(image)
        maps.flatten()[0].item()  # a GPU is done when it answers
        return len(films)

    def evaluation():
        return len(evaluator.predict(ensemble, loader.load(batches), films.film).scores)

    def folder():
        paths = [sample.path for sample in films.samples]
        items = in_batches(readable(load_bare(paths, [size], len(job.run.landmarks))), settings.evaluate.batch_size)
        return len(evaluator.predict(ensemble, items, partial(bare_film, paths)).scores)

    floors = {"as trained": partial(forward, job.model.eval()), "folded": partial(forward, ensemble.model)}
    found = in_turns({**floors, "evaluation": evaluation, "folder": folder}, given.rounds)
    print(head("what", "films/s", "forward films/s", "share %", "95 % bound", "goal"))
    rates = {name: 1 / statistics.median(seconds) for name, seconds in found.items()}
    H, W = films.samples[0].size
    for name, what in {"evaluation": "a split, from the cache", "folder": f"a folder of {W}x{H} px films"}.items():
        for floor in floors:
            share = ratio(found[floor], found[name])
            figures = f"{rates[name]:.2f} | {rates[floor]:.2f} | {100 * share.value:.1f} | {100 * share.lower:.1f}"
            goal = ">= 90" if floor == "as trained" else "-"
            print(
                f"| {given.backbone}, {given.size[0]}x{given.size[1]}: {what}; network {floor} | {figures} | {goal} |"
            )


if __name__ == "__main__":
    with flushed_denormals():
        main()
