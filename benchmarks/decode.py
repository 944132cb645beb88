"""Sub-pixel decoding of maps [16, 29, 192, 192] against landmarker's and NumPy loops: `python benchmarks/decode.py`.

The maps are Gaussians of 1.5 px about known points with noise of 0.02; the error is the mean distance in map px. Each
of our decoders has a plain NumPy loop of the same method, map by map, and stands beside landmarker's local soft-argmax.
`dark` is our default. The rows of landmarker need `pip install landmarker==0.4.1`, and are left out without it.
"""

from __future__ import annotations

import argparse
import math
from functools import partial

import numpy as np
import torch
from protocol import FASTER, faster_row, head, in_turns

from ceph.model.codec import GaussianDecoder, gaussians

B, K, SIDE, SIGMA, STRIDE, NOISE = 16, 29, 192, 1.5, 4, 0.02
RADIUS = math.ceil(3.5 * SIGMA)  # of the centre of mass
REACH = math.ceil(1.5 * SIGMA)  # of the smoothing
LANDMARKER = "landmarker's local soft-argmax"


def maps():
    """Maps [B, K, SIDE, SIDE] and their points [B, K, 2] in map px."""
    rng = torch.Generator().manual_seed(0)
    points = 10 + torch.rand(B, K, 2, generator=rng) * (SIDE - 20)
    found = gaussians(points, (SIDE, SIDE), "heatmap", SIGMA, 1)
    return found + NOISE * torch.rand(found.shape, generator=rng), points


def numpy_loop(heat, refined):
    """Points [B, K, 2] of maps, one after the other: the peak, and then `refined`(map, row, column)."""
    found = np.zeros((*heat.shape[:2], 2))
    for b in range(heat.shape[0]):
        for k in range(heat.shape[1]):
            row, column = np.unravel_index(heat[b, k].argmax(), heat[b, k].shape)
            found[b, k] = refined(heat[b, k], int(row), int(column))
    return torch.from_numpy(found)


def centre_of_mass(heat, row, column):
    """(x, y), the mean place of the mass in the window about the peak."""
    ys = np.arange(max(0, row - RADIUS), min(heat.shape[0], row + RADIUS + 1))
    xs = np.arange(max(0, column - RADIUS), min(heat.shape[1], column + RADIUS + 1))
    window = heat[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    return (window.sum(0) * xs).sum() / window.sum(), (window.sum(1) * ys).sum() / window.sum()


def smoothing():
    """Rows [3, 2 REACH + 3]: Gaussians of half the sigma about the middle and its two neighbours."""
    kernel = np.exp(-(np.arange(-REACH, REACH + 1) ** 2) / (2 * (SIGMA / 2) ** 2))
    return np.stack([np.pad(kernel / kernel.sum(), (i, 2 - i)) for i in range(3)]).astype(np.float32)


SMOOTH = smoothing()


def parabola(heat, row, column):
    """(x, y), the top of the parabola through the logarithm of the smoothed map about the peak; none is at an edge."""
    reach = REACH + 1
    window = heat[row - reach : row + reach + 1, column - reach : column + reach + 1]
    z = np.log(np.maximum(SMOOTH @ window @ SMOOTH.T, 1e-20))
    dx, dy = (z[1, 2] - z[1, 0]) / 2, (z[2, 1] - z[0, 1]) / 2
    dxx, dyy = z[1, 2] - 2 * z[1, 1] + z[1, 0], z[2, 1] - 2 * z[1, 1] + z[0, 1]
    dxy = (z[2, 2] - z[2, 0] - z[0, 2] + z[0, 0]) / 4
    determinant = dxx * dyy - dxy * dxy
    if dxx >= 0 or determinant <= 1e-12:
        return column, row
    x, y = -(dyy * dx - dxy * dy) / determinant, -(dxx * dy - dxy * dx) / determinant
    return column + min(max(x, -1), 1), row + min(max(y, -1), 1)


def ours(heat, decoder):
    """Points [B, K, 2] in map px."""
    on_network, _ = GaussianDecoder("heatmap", SIGMA, STRIDE, decoder).decode(heat, (SIDE * STRIDE, SIDE * STRIDE))
    return (on_network + 0.5) / STRIDE - 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=None, help="of torch; default: its own choice")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    heat, points = maps()
    loops = {"dark": parabola, "local-soft-argmax": centre_of_mass}
    ways = {name: partial(ours, heat, name) for name in loops}
    ways |= {f"a NumPy loop of {name}": partial(numpy_loop, heat.numpy(), loop) for name, loop in loops.items()}
    try:
        from landmarker.heatmap.decoder import coord_local_soft_argmax
    except ImportError:
        print("landmarker is not installed: its rows are left out")
    else:
        ways[LANDMARKER] = lambda: coord_local_soft_argmax(heat).flip(-1)
    found = {name: way() for name, way in ways.items()}
    for name in loops:
        apart = float((found[name] - found[f"a NumPy loop of {name}"]).abs().max())
        if apart > 1e-3:
            raise SystemExit(f"{name} and its NumPy loop are {apart:.4f} px apart")
    errors = {name: float((place - points).norm(dim=-1).mean()) for name, place in found.items()}
    seconds = in_turns({name: lambda way=way: (way(), 1)[1] for name, way in ways.items()}, given.rounds)
    print(head(*FASTER))
    for name in loops:
        for theirs in (f"a NumPy loop of {name}", LANDMARKER):
            if theirs in ways:
                what = f"{name} ({errors[name]:.3f} px) against {theirs} ({errors[theirs]:.3f} px)"
                print(faster_row(what, seconds[name], seconds[theirs], 3 if theirs == LANDMARKER else None))


if __name__ == "__main__":
    main()
