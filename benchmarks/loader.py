"""The loader against its floor: `python benchmarks/loader.py`, one core, at 512, 768 and 1024 px.

The floor reads the cached film and calls `cv2.warpAffine` once with the same matrix. The last row of a size is a first
epoch, nothing in the cache, of JPEGs of 2400 x 2000 px (the set's films enlarged, with grain, quality 90): it decodes,
hashes, shrinks, keeps, warps and changes each film, where its floor is `cv2.imread` as grey and one `cv2.resize` by
area to the film's size in the network's image. Milliseconds are of a film.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from parts import add_arguments, resolved
from protocol import SLOWER, head, in_turns, slower_row

from ceph.data.augment import Augmentation
from ceph.data.cache import FilmCache, digests
from ceph.data.dataset import seen_from
from ceph.data.geometry import letterbox, letterbox_scale
from ceph.data.images import read_film
from ceph.data.plan import Entry
from ceph.run.prepare import prepare

LARGE = (2400, 2000)


def enlarged(samples, folder):
    """The same samples with JPEGs of LARGE (H, W) in `folder`."""
    rng, found = np.random.default_rng(0), []
    for i, sample in enumerate(samples):
        film = cv2.resize(read_film(sample.path), LARGE[::-1], interpolation=cv2.INTER_CUBIC)
        film = np.clip(film + rng.normal(0, 3, LARGE), 0, 255).astype(np.uint8)
        path = Path(folder) / f"{i}.jpg"
        cv2.imwrite(str(path), film, [cv2.IMWRITE_JPEG_QUALITY, 90])
        found.append(replace(sample, path=path, size=LARGE))
    return found


def rows(given, side, folder):
    """The rows of one size; films and caches are written to `folder`."""
    given.size = (side, side)
    films = prepare(resolved(given, data__cache=folder / "cache")).train
    films = replace(films, samples=films.samples[: given.films], digests=films.digests[: given.films])
    large = enlarged(films.samples, folder)
    warps_only = replace(films, augmentation=Augmentation({"core": films.augmentation.warps["core"]}, {}))
    entries = [Entry(i, given.size, i) for i in range(len(films))]

    def level(i):
        sample = films.samples[i]
        return films.cache.level(sample.path, films.digests[i], letterbox_scale(sample.size, given.size))

    matrices = []
    for i, sample in enumerate(films.samples):
        to_network = films.augmentation.draw_warp(i, given.size)[0] @ letterbox(sample.size, given.size)
        matrices.append(seen_from(level(i), sample.size, to_network)[1][:2])

    def floor():
        for i, matrix in enumerate(matrices):
            cv2.warpAffine(level(i), matrix, (side, side), flags=cv2.INTER_LINEAR)
        return len(matrices)

    def load(own):
        for entry in entries:
            own[entry]
        return len(entries)

    large = replace(films, samples=large, digests=digests([sample.path for sample in large]))

    def first_epoch():
        with tempfile.TemporaryDirectory() as empty:
            own = replace(large, cache=FilmCache(Path(empty)))
            began = time.perf_counter()
            return load(own), time.perf_counter() - began

    def bare_decoding():
        for sample in large.samples:
            film, s = cv2.imread(str(sample.path), cv2.IMREAD_GRAYSCALE), letterbox_scale(sample.size, given.size)
            cv2.resize(film, (round(film.shape[1] * s), round(film.shape[0] * s)), interpolation=cv2.INTER_AREA)
        return len(large)

    ways = {"floor": floor, "warps": lambda: load(warps_only), "default": lambda: load(films)}
    found = in_turns(ways, given.rounds)
    yield slower_row(f"{side} px, warps only", found["warps"], found["floor"], 1.5)
    yield slower_row(f"{side} px, default photometric set", found["default"], found["floor"], 3)
    first = in_turns({"first": first_epoch, "bare": bare_decoding}, given.rounds)
    yield slower_row(f"{side} px, first epoch of 2400 x 2000 JPEGs", first["first"], first["bare"], 1.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 768, 1024])
    parser.add_argument("--films", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(head(*SLOWER))
    with tempfile.TemporaryDirectory() as folder:
        for side in given.sides:
            for row in rows(given, side, Path(folder)):
                print(row, flush=True)


if __name__ == "__main__":
    main()
