"""Sub-pixel decoding of maps [16, 29, 192, 192] against landmarker's and a NumPy loop: `python benchmarks/decode.py`.

The maps are Gaussians of 1.5 px about known points with noise of 0.02; the error is the mean distance in map px. The
row of landmarker needs `pip install landmarker==0.4.1`, and is left out without it.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch
from protocol import FASTER, faster_row, head, in_turns

from ceph.model.codec import GaussianCodec

B, K, SIDE, SIGMA, STRIDE, NOISE = 16, 29, 192, 1.5, 4, 0.02


def maps():
    """Maps [B, K, SIDE, SIDE] and their points [B, K, 2] in map px."""
    rng = torch.Generator().manual_seed(0)
    points = 10 + torch.rand(B, K, 2, generator=rng) * (SIDE - 20)
    found = GaussianCodec("heatmap", SIGMA, 1, "argmax").encode(points, (SIDE, SIDE), (SIDE, SIDE))
    return found + NOISE * torch.rand(found.shape, generator=rng), points


def numpy_loop(heat, radius=5):
    """The centre of mass of the window about each peak, map by map."""
    found = np.zeros((*heat.shape[:2], 2))
    for b in range(heat.shape[0]):
        for k in range(heat.shape[1]):
            row, column = np.unravel_index(heat[b, k].argmax(), heat[b, k].shape)
            ys = np.arange(max(0, row - radius), min(heat.shape[2], row + radius + 1))
            xs = np.arange(max(0, column - radius), min(heat.shape[3], column + radius + 1))
            window = heat[b, k][ys[:, None], xs]
            found[b, k] = (window.sum(0) * xs).sum() / window.sum(), (window.sum(1) * ys).sum() / window.sum()
    return torch.from_numpy(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    heat, points = maps()

    def ours(decoder):
        on_network, _ = GaussianCodec("heatmap", SIGMA, STRIDE, decoder).decode(heat, (SIDE * STRIDE, SIDE * STRIDE))
        return (on_network + 0.5) / STRIDE - 0.5

    ways = {d: partial(ours, d) for d in ("dark", "local-soft-argmax")}
    ways["a NumPy loop"] = partial(numpy_loop, heat.numpy())
    try:
        from landmarker.heatmap.decoder import coord_local_soft_argmax
    except ImportError:
        print("landmarker is not installed: its rows are left out")
    else:
        ways["landmarker's local soft-argmax"] = lambda: coord_local_soft_argmax(heat).flip(-1)
    errors = {name: float((way() - points).norm(dim=-1).mean()) for name, way in ways.items()}
    found = in_turns({name: lambda way=way: (way(), 1)[1] for name, way in ways.items()}, given.rounds)
    print(head(*FASTER))
    for theirs in list(ways)[2:]:
        for own in ("dark", "local-soft-argmax"):
            what = f"{own} ({errors[own]:.3f} px) against {theirs} ({errors[theirs]:.3f} px)"
            print(faster_row(what, found[own], found[theirs], 3))


if __name__ == "__main__":
    main()
