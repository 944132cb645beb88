"""The engine against a script of the old kind: `python benchmarks/old_script.py`, from films on disk to the step.

The old kind is rendered here as such scripts are written: each film is decoded and squashed to a square at every draw,
full-resolution heatmaps of all landmarks are built in the data set, the network's maps are upsampled to them, adaptive
wing loss goes landmark by landmark through boolean masks, the global soft-argmax of every map is computed for the
running error, all in fp32. The network is the same. The last row compares target and loss alone, of one film.
"""

from __future__ import annotations

import argparse
import copy

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from parts import add_arguments, epoch, job_of, resolved
from protocol import FASTER, faster_row, head, in_turns

from ceph.model.codec import gaussians
from ceph.training.loss import cross_entropy
from ceph.training.runtime import flushed_denormals


def heatmaps(points, size, sigma=6.0):
    """[K, H, W], a Gaussian a landmark at the film's full resolution."""
    ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
    maps = [np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2)) for x, y in points]
    return np.stack(maps).astype(np.float32)


def adaptive_wing_with_masks(pred, target, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    """The adaptive wing loss (Wang et al. 2019) of maps [K, H, W], a landmark and a mask at a time."""
    losses = []
    for p, t in zip(pred, target, strict=True):
        gap = (t - p).abs()
        near, far = gap < theta, gap >= theta
        one = omega * torch.log(1 + (gap[near] / epsilon) ** (alpha - t[near]))
        power = alpha - t[far]
        slope = omega / (1 + (theta / epsilon) ** power) * power * (theta / epsilon) ** (power - 1) / epsilon
        two = slope * gap[far] - (theta * slope - omega * torch.log(1 + (theta / epsilon) ** power))
        losses.append((one.sum() + two.sum()) / p.numel())
    return torch.stack(losses).mean()


def global_soft_argmax(maps):
    """The centre of mass [B, K, 2] of whole maps."""
    weight = maps / maps.sum((-2, -1), keepdim=True).clamp_min(1e-6)
    ys, xs = torch.meshgrid(torch.arange(maps.shape[-2]), torch.arange(maps.shape[-1]), indexing="ij")
    return torch.stack([(weight * xs).sum((-2, -1)), (weight * ys).sum((-2, -1))], -1)


class OldDataset(torch.utils.data.Dataset):
    def __init__(self, samples, side):
        self.samples, self.side = samples, side

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        film = cv2.imread(str(sample.path), cv2.IMREAD_GRAYSCALE)
        points = np.nanmean(sample.points, 0) * (self.side / film.shape[1], self.side / film.shape[0])
        film = cv2.resize(film, (self.side, self.side)).astype(np.float32) / 255
        maps = heatmaps(np.nan_to_num(points, nan=-1.0), (self.side, self.side))
        return torch.from_numpy(film)[None], torch.from_numpy(maps), torch.from_numpy(points).float()


class OldScript:
    def __init__(self, job, samples, side, batch):
        self.model = copy.deepcopy(job.model).to(memory_format=torch.contiguous_format)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4)
        self.loader = torch.utils.data.DataLoader(OldDataset(samples, side), batch, shuffle=True)

    def __call__(self):
        films, error = 0, 0.0
        for image, target, points in self.loader:
            pred = F.interpolate(self.model(image), size=image.shape[-2:], mode="bilinear").sigmoid()
            loss = torch.stack([adaptive_wing_with_masks(p, t) for p, t in zip(pred, target, strict=True)]).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            error += (global_soft_argmax(pred.detach()) - points).norm(dim=-1).nanmean().item() + loss.item()
            films += len(image)
        return films


def loss_and_target(job, side, landmarks):
    """Two ways: target, loss and its gradient for one film, ours at the map's stride and theirs at full resolution."""
    rng = torch.Generator().manual_seed(0)
    points = torch.rand(1, landmarks, 2, generator=rng) * side
    small = torch.randn(1, landmarks, side // 4, side // 4, generator=rng).requires_grad_()
    large = torch.rand(1, landmarks, side, side, generator=rng).requires_grad_()

    def ours():
        for _ in range(10):
            target = gaussians(points, (side // 4, side // 4), job.kind, job.targets.sigma_px, 4)
            cross_entropy(small, target, None).mean().backward()
        return 10

    def theirs():
        target = torch.from_numpy(heatmaps(points[0].numpy(), (side, side)))
        adaptive_wing_with_masks(large[0], target).backward()
        return 1

    return {"ours": ours, "theirs": theirs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, size=(512, 512), rounds=3, steps=1, batch=4)
    parser.add_argument("--goal", type=float, default=20)
    given = parser.parse_args()
    job, prepared = job_of(resolved(given), given.steps)
    old = OldScript(job, prepared.train.samples, given.size[0], given.batch)
    found = in_turns({"ours": epoch(job), "theirs": old}, given.rounds)
    parts = in_turns(loss_and_target(job, given.size[0], len(job.run.landmarks)), given.rounds)
    print(head(*FASTER))
    print(faster_row(f"{given.backbone}, {given.size[0]} px, end to end", found["ours"], found["theirs"], given.goal))
    print(faster_row(f"target and loss, {given.size[0]} px", parts["ours"], parts["theirs"], 100))


if __name__ == "__main__":
    with flushed_denormals():
        main()
