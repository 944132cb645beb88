"""What `train.compile` gains: `python benchmarks/compiled.py`, a training step and the criterion alone, both ways.

Films are in memory. Compiling takes minutes and happens before the first round that counts.
"""

from __future__ import annotations

import argparse
import sys

import torch
from parts import add_arguments, epoch, job_of, preloaded, resolved
from protocol import FASTER, faster_row, head, in_turns

from ceph.training.loss import cross_entropy
from ceph.training.runtime import flushed_denormals


def criterion(compute, size, landmarks, batch):
    """A way: the criterion of maps of a quarter of `size` and its gradient, ten times."""
    rng = torch.Generator().manual_seed(0)
    shape = (batch, landmarks, size[0] // 4, size[1] // 4)
    pred = torch.randn(shape, generator=rng).requires_grad_()
    target = torch.rand(shape, generator=rng).flatten(2).softmax(-1).view(shape)

    def run():
        for _ in range(10):
            compute(pred, target, None).mean().backward()
        return 10 * batch

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, rounds=9, steps=1)
    parser.add_argument("--criterion-only", action="store_true", help="leave the network out")
    given = parser.parse_args()
    what = f"{given.backbone}, {given.size[0]}x{given.size[1]}"
    plain = job_of(resolved(given), given.steps)
    sizes = (given.size, len(plain[0].run.landmarks), given.batch)
    ways = {"plain": criterion(cross_entropy, *sizes), "compiled": criterion(torch.compile(cross_entropy), *sizes)}
    found = in_turns(ways, given.rounds)
    print(head(*(name.replace("ours", "compiled").replace("theirs", "plain") for name in FASTER)))
    print(faster_row(f"{what}: cross-entropy and its gradient", found["compiled"], found["plain"], None, 2), flush=True)
    if given.criterion_only:
        return
    print("compiling the network", file=sys.stderr, flush=True)
    compiled = job_of(resolved(given, train__compile="true"), given.steps)
    found = in_turns({"plain": epoch(preloaded(*plain)), "compiled": epoch(preloaded(*compiled))}, given.rounds)
    print(faster_row(f"{what}: a training step", found["compiled"], found["plain"], None, 2))


if __name__ == "__main__":
    with flushed_denormals():
        main()
