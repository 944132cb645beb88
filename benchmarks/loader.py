"""The loader against its floor: `python benchmarks/loader.py`, one core, at 512, 768 and 1024 px.

The floor reads the cached film and calls `cv2.warpAffine` once with the same matrix. The last row is a first epoch,
nothing in the cache, against decoding and resizing alone. Milliseconds are of a film.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import torch
from parts import add_arguments, resolved
from protocol import SLOWER, head, in_turns, slower_row

from ceph.data.augment import Augmentation
from ceph.data.cache import FilmCache
from ceph.data.dataset import seen_from
from ceph.data.geometry import letterbox, letterbox_scale
from ceph.data.images import read_film
from ceph.data.plan import Entry
from ceph.run import prepare


def rows(given, side, folder):
    given.size = (side, side)
    films = prepare(resolved(given, data__cache=folder)).train
    films = replace(films, samples=films.samples[: given.films], digests=films.digests[: given.films])
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

    def first_epoch():
        with tempfile.TemporaryDirectory() as empty:
            return load(replace(films, cache=FilmCache(Path(empty))))

    def bare_decoding():
        for sample in films.samples:
            film, s = read_film(sample.path), letterbox_scale(sample.size, given.size)
            cv2.resize(film, (round(film.shape[1] * s), round(film.shape[0] * s)), interpolation=cv2.INTER_AREA)
        return len(films)

    ways = {"floor": floor, "warps": lambda: load(warps_only), "default": lambda: load(films)}
    found = in_turns(ways, given.rounds)
    yield slower_row(f"{side} px, warps only", found["warps"], found["floor"], 1.5)
    yield slower_row(f"{side} px, default photometric set", found["default"], found["floor"], 3)
    first = in_turns({"first": first_epoch, "bare": bare_decoding}, max(3, given.rounds // 3))
    yield slower_row(f"{side} px, first epoch against decoding and resizing", first["first"], first["bare"], 1.2)


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
            for row in rows(given, side, folder):
                print(row, flush=True)


if __name__ == "__main__":
    main()
