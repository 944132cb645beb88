"""The engine against landmarker 0.4.1, the closest peer: `python benchmarks/peer.py --data ISBI2015`.

Its parts in the manner of its ISBI 2015 tutorial: its data set (films in memory at 512 px, MONAI's random affine, noise
and intensity changes), its heatmap generator and Gaussian L2 loss at full resolution, its local soft-argmax, around the
same network, whose maps are upsampled to the image. The ranges of the changes, sigma, gamma and the optimiser (AdamW,
1e-3, fp32) are our choice, not checked against the tutorial, and not tuned for it. Two ways to run:

    python benchmarks/peer.py --data FOLDER                              films a second, in turns
    python benchmarks/peer.py --data FOLDER --minutes 20 --out FILE      time to accuracy, first ours, then theirs

Time to accuracy is minutes of training (evaluation not counted) until the MRE on the validation films first falls below
2.0 and 1.6 mm; where the time limit comes first it is a lower bound. A line for each is appended to FILE. Both start
from the offline ImageNet weights; batches, changes of the films and precision are their own. Needs
`pip install landmarker==0.4.1`.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from parts import add_arguments, epoch, job_of, resolved
from protocol import FASTER, faster_row, head, in_turns

from ceph.config.load import resolve
from ceph.data.images import read_film
from ceph.model.weights import load_backbone_weights
from ceph.report.progress import Silent
from ceph.run.prepare import prepare
from ceph.run.train import build, make_model
from ceph.stop import StopRequest
from ceph.training.engine import train_epoch
from ceph.training.progress import Progress
from ceph.training.runtime import flushed_denormals

MARKS_MM = (2.0, 1.6)


class Peer:
    """landmarker's tutorial around a copy of our network."""

    def __init__(self, model, train, validation, side, batch, lr=1e-3):
        from landmarker.data import LandmarkDataset
        from landmarker.heatmap.generator import GaussianHeatmapGenerator
        from landmarker.losses.losses import GaussianHeatmapL2Loss
        from monai.transforms import (
            Compose,
            RandAdjustContrastd,
            RandAffined,
            RandGaussianNoised,
            RandScaleIntensityd,
            RandStdShiftIntensityd,
        )

        keys = ("image",)
        affine = {"rotate_range": (-np.pi / 12, np.pi / 12), "translate_range": (-10, 10)}
        changes = Compose(
            [
                RandAffined(keys, prob=1, scale_range=(-0.1, 0.1), shear_range=(-0.1, 0.1), **affine),
                RandGaussianNoised(keys, prob=0.2, mean=0, std=0.1),
                RandStdShiftIntensityd(keys, prob=0.1, factors=0.1),
                RandScaleIntensityd(keys, prob=0.1, factors=0.25),
                RandAdjustContrastd(keys, prob=0.2, gamma=(0.5, 2)),
            ]
        )

        def dataset(films, transform):
            images = [torch.from_numpy(read_film(s.path))[None].float() / 255 for s in films]
            points = np.stack([s.points.mean(0)[:, ::-1] for s in films])  # (y, x)
            spacing = np.array([s.mm_per_px for s in films])
            return LandmarkDataset(images, points, pixel_spacing=spacing, transform=transform, dim_img=(side, side))

        self.batch, self.side, self.films = batch, side, len(train)
        self.loader = torch.utils.data.DataLoader(dataset(train, changes), batch, shuffle=True)
        self.validation = torch.utils.data.DataLoader(dataset(validation, None), batch)
        self.model = copy.deepcopy(model)
        landmarks = train[0].points.shape[1]
        self.generator = GaussianHeatmapGenerator(
            landmarks, sigmas=3, gamma=100, heatmap_size=(side, side), learnable=True
        )
        self.criterion = GaussianHeatmapL2Loss(alpha=5)
        self.optimizer = torch.optim.AdamW([*self.model.parameters(), self.generator.sigmas], lr)

    def maps(self, image):
        return F.interpolate(self.model(image), size=(self.side, self.side), mode="bilinear", align_corners=False)

    def __call__(self):
        self.model.train()
        for batch in self.loader:
            image = batch["image"].as_tensor() if hasattr(batch["image"], "as_tensor") else batch["image"]
            self.optimizer.zero_grad()
            target = self.generator(batch["landmark"])
            loss = self.criterion(self.maps(image), self.generator.sigmas, target)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimizer.step()
        return self.films

    @torch.no_grad()
    def mre_mm(self):
        from landmarker.heatmap.decoder import coord_local_soft_argmax

        self.model.eval()
        errors = []
        for batch in self.validation:
            image = batch["image"].as_tensor() if hasattr(batch["image"], "as_tensor") else batch["image"]
            found = coord_local_soft_argmax(self.maps(image))
            # A pixel of the padded square in mm: the longer side of film and padding fills it.
            padded = batch["dim_original"] + 2 * batch["padding"]
            mm = (padded / self.side * batch["spacing"])[:, None]
            errors.append(((found - batch["landmark"]) * mm).norm(dim=-1))
        return float(torch.cat(errors).mean())


def time_to_accuracy(name, train, mre_mm, minutes, out):
    """Train until both marks are passed or `minutes` are spent; appends a Markdown row to `out`."""
    spent, passed, best, epochs = 0.0, {}, float("inf"), 0
    while spent < 60 * minutes and len(passed) < len(MARKS_MM):
        began = time.perf_counter()
        train()
        spent, epochs = spent + time.perf_counter() - began, epochs + 1
        found = mre_mm()
        best = min(best, found)
        for mark in MARKS_MM:
            if found < mark:
                passed.setdefault(mark, spent / 60)
        print(f"{name}: epoch {epochs}, {spent / 60:.1f} min, validation MRE {found:.3f} mm", flush=True)
    cells = [f"{passed[m]:.1f}" if m in passed else f"> {spent / 60:.1f}" for m in MARKS_MM]
    with Path(out).open("a") as file:
        file.write(f"| {name} | {' | '.join(cells)} | {best:.2f} | {epochs} |\n")


def ours(given):
    """A way to train an epoch and one to score it, with the recipe of `quick` at its own size."""
    texts = [f"data.mm_per_px={given.mm_per_px}"] if given.mm_per_px else []
    config = resolve(None, preset="quick", data=given.data, settings=[*texts, "evaluate.scales=[1]"])
    prepared = prepare(config)
    torch.manual_seed(0)
    model = make_model(prepared.config, prepared.hooks, prepared.run)
    load_backbone_weights(model, prepared.config.model.backbone, "offline")
    job = build(prepared, model, Path(given.out).parent)
    prepared.hooks.tell("run_start", run=job.run)
    progress, figures = Progress(), {}

    def train():
        train_epoch(job, progress, Silent(), StopRequest())

    def score():
        from ceph.training.engine import evaluate_epoch

        figures.update(evaluate_epoch(job, progress))
        progress.next_epoch()
        return figures["mre_mm"]

    return train, score


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, size=(512, 512), rounds=3, steps=1)
    parser.add_argument("--minutes", type=float, help="time to accuracy: the limit of each of the two")
    parser.add_argument("--out", default="time-to-accuracy.md", help="where its rows are appended")
    given = parser.parse_args()
    if given.minutes:
        time_to_accuracy("ceph, the recipe of quick", *ours(given), given.minutes, given.out)
        prepared = prepare(resolved(given))
        torch.manual_seed(0)
        model = make_model(prepared.config, prepared.hooks, prepared.run)
        load_backbone_weights(model, given.backbone, "offline")
        peer = Peer(model, prepared.train.samples, prepared.validation.samples, given.size[0], given.batch)
        time_to_accuracy("landmarker 0.4.1, its tutorial", peer, peer.mre_mm, given.minutes, given.out)
        return
    job, prepared = job_of(resolved(given), given.steps)
    peer = Peer(job.model, prepared.train.samples, prepared.validation.samples[:2], given.size[0], given.batch)
    found = in_turns({"ours": epoch(job), "theirs": peer}, given.rounds)
    print(head(*FASTER))
    print(faster_row(f"{given.backbone}, {given.size[0]} px, landmarker", found["ours"], found["theirs"], 2))


if __name__ == "__main__":
    with flushed_denormals():
        main()
