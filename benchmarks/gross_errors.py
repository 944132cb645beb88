"""What `shape-constraint` does to gross errors: `python benchmarks/gross_errors.py RUN [RUN ...]`.

RUNs of one data set were trained with the plugin. The films of a split are predicted as they are and, but with
`--as-they-are`, with boxes over parts of the head, underexposed and with noise; with the constraint and without.
Differences are paired, with 95 % intervals over films and, with several RUNs, their seeds (docs/statistics.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import ceph
from ceph.data.images import read_film
from ceph.evaluation.metrics import radial_errors_mm
from ceph.evaluation.statistics import estimate
from ceph.run.films import make_films, read_data

GROSS_MM = 15.0
OFF = "plugins.shape-constraint.spreads=1e9"


def boxes(film, rng):
    """Two squares of one grey each, an eighth to a quarter of the height wide, below and right of the first quarter."""
    H, W = film.shape
    for _ in range(2):
        side = int(rng.integers(H // 8, H // 4))
        y, x = rng.integers(H // 4, H - side), rng.integers(W // 4, W - side)
        film[y : y + side, x : x + side] = rng.integers(256)
    return film


def underexposed(film, rng):
    """Gamma 2.5 to 5."""
    return (255 * (film / 255.0) ** rng.uniform(2.5, 5)).astype(np.uint8)


def noisy(film, rng):
    """Gaussian noise of 45 grey levels."""
    return np.clip(film + rng.normal(0, 45, film.shape), 0, 255).astype(np.uint8)


CHANGES = {"as they are": lambda film, _rng: film, "two boxes": boxes, "underexposed": underexposed, "noise": noisy}


def errors(run, split, change, settings):
    """Radial errors [N, K] in mm of a split's films, each changed by its own random numbers."""
    trained = ceph.load(run, settings=settings)
    films = make_films(read_data(trained.config, trained.hooks), split, trained.config)
    truth = [films.truth(sample, 0)[:2] for sample in films.samples]
    points, valid = (np.stack(part) for part in zip(*truth, strict=True))
    images = [change(read_film(s.path).copy(), np.random.default_rng(i)) for i, s in enumerate(films.samples)]
    found, _ = trained.predict(images)
    return radial_errors_mm(found, points, valid, np.array([s.mm_per_px for s in films.samples]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--as-they-are", action="store_true", help="leave out the spoiled films")
    given = parser.parse_args()
    print("| films | MRE mm without | with | difference (95 % interval) | off > 15 mm | with | points |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, change in list(CHANGES.items())[: 1 if given.as_they_are else None]:
        plain, held = (np.stack([errors(r, given.split, change, s) for r in given.runs]) for s in ([OFF], []))
        known = ~np.isnan(plain[0])
        change_mm = np.where(known, held - plain, 0).sum(-1) / known.sum(-1)
        found = estimate([change_mm], known.sum(-1).astype(float), np.arange(len(known)))
        effect = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
        figures = f"{np.nanmean(plain):.3f} | {np.nanmean(held):.3f} | {effect}"
        gross = " | ".join(str(int((e > GROSS_MM).sum())) for e in (plain, held))
        print(f"| {name} | {figures} | {gross} | {known.sum() * len(given.runs)} |")


if __name__ == "__main__":
    main()
