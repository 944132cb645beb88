"""How far a run's radii and its gate can be trusted: coverage by landmark, and which films the gate tells.

    python benchmarks/trust.py radius RUN [--split test1]        coverage of the 90 % radii, share of the large errors
    python benchmarks/trust.py points RUN --split test1 --points FILE.csv     the same of what `ceph predict` wrote
    python benchmarks/trust.py gate RUN [--split test1] [--films 128]   the gate's table, and what `--orient auto` costs

Without --split the run's held-out films count. `radius` reads metrics.json: first `ceph evaluate RUN --split S`. `gate`
draws each film of the split mirrored, inverted, turned by a quarter, cropped (3 to 8 landmarks outside) and enlarged by
1.5 with the spacing claimed unchanged, and as many look-alikes as --look-alikes says.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from lookalikes import look_alikes

from ceph import runfolder
from ceph.data.images import read_film
from ceph.data.types import Sample
from ceph.evaluation.gate import turned_back
from ceph.evaluation.radius import coverage
from ceph.run.films import make_films, read_data
from ceph.run.gate import Gate
from ceph.run.predictions import NamedFilm, predict_films
from ceph.run.trained import Trained, load

KINDS = ("as it is", "mirrored", "inverted", "quarter", "cropped", "x 1.5")


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("radius", "points", "gate"))
    parser.add_argument("run", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--points", type=Path)
    parser.add_argument("--films", type=int)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--look-alikes", type=int, default=50)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    if given.what == "radius":
        known = runfolder.read_figures(given.run)
        radius_table(known[given.split or ("out-of-fold" if "out-of-fold" in known else "validation")]["radius"])
    elif given.what == "points":
        radius_table(of_points(load(given.run, settings=given.set), given.split, given.points))
    else:
        trained, split = load(given.run, settings=given.set), given.split or "validation"
        gate_table(trained, split, given.films, given.kinds, given.look_alikes)


def radius_table(found: dict[str, Any]) -> None:
    """Coverage and mean radius, over all and by landmark, and where the large errors are."""
    large = found["large"]
    print(f"{found['covered_percent']:.1f} % of {found['n']} points lie within their {found['level']:.0%} radius")
    print(f"mean radius {found['mean_radius_mm']:.2f} mm; errors above 4 mm: {large['n']}, of these")
    print(f"{large['in_largest_tenth_percent']:.0f} % are in the tenth of points with the largest radii")
    print("landmark   covered %   mean radius mm")
    for symbol, row in found["per_landmark"].items():
        print(f"{symbol:<10} {row['covered_percent']:9.1f} {row['mean_radius_mm']:12.2f}")


def of_points(trained: Trained, split: str, file: Path) -> dict[str, Any]:
    """The coverage of the radii in a CSV of `ceph predict`, against the readers' mean."""
    with file.open(newline="") as text:
        rows = {(Path(row["film"]).stem, row["symbol"]): row for row in csv.DictReader(text)}
    samples = make_films(read_data(trained.config, trained.hooks), split, trained.config).samples
    names = ("x_px", "y_px", "radius_px")
    found = np.array([[[float(rows[s.path.stem, k][n]) for n in names] for k in trained.landmarks] for s in samples])
    mm = np.array([sample.mm_per_px for sample in samples])[:, None]
    truth = np.stack([np.nanmean(sample.points, axis=0) for sample in samples])
    errors_mm = np.linalg.norm(found[..., :2] - truth, axis=-1) * mm
    return coverage(errors_mm, found[..., 2] * mm, trained.landmarks)


def gate_table(trained: Trained, split: str, count: int | None, kinds: list[str], others: int) -> None:
    """How many films of each kind the gate tells, for which reasons; and the error of those that were put right."""
    films = make_films(read_data(trained.config, trained.hooks), split, trained.config)
    samples, rng = films.samples[:count], np.random.default_rng(0)
    for kind in kinds:
        drawn = [changed(read_film(sample.path), sample, kind, rng) for sample in samples]
        told, error = tell(trained, drawn, samples, kind)
        of_error = "" if error is None else f"; MRE {error:.3f} mm"
        print(f"{kind:<12} {sum(told.values()):4d} of {len(drawn)} told{of_error}  {dict(told)}", flush=True)
    if others:
        names, drawn = zip(*look_alikes(others), strict=True)
        told, _ = tell(trained, list(drawn), None, "look-alikes", names)
        print(f"look-alikes  {sum(told.values()):4d} of {others} told  {dict(told)}", flush=True)


def changed(film: Any, sample: Sample, kind: str, rng: np.random.Generator) -> Any:
    """A film as the gate shall tell it."""
    if kind == "mirrored":
        return film[:, ::-1]
    if kind == "inverted":
        return 255 - film
    if kind == "quarter":
        return np.rot90(film, rng.choice([1, 3]))
    if kind == "x 1.5":
        return cv2.resize(film, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_LINEAR)
    return cropped(film, np.nanmean(sample.points, axis=0), rng) if kind == "cropped" else film


def cropped(film: Any, truth: Any, rng: np.random.Generator) -> Any:
    """Cut at a side so that 3 to 8 landmarks are outside, half way between the last of these and the next."""
    axis, low, outside = rng.integers(2), rng.uniform() < 0.5, rng.integers(3, 9)
    along = np.sort(truth[:, axis])[:: 1 if low else -1]
    cut = (along[outside - 1] + along[outside]) / 2
    part = slice(int(np.ceil(cut)), None) if low else slice(0, int(np.floor(cut)) + 1)
    return film[:, part] if axis == 0 else film[part]


def tell(
    trained: Trained, drawn: list[Any], samples: Any, kind: str, names: Any = None
) -> tuple[Counter[str], float | None]:
    """What is told of films, by the first words of the reason; and the MRE where the points are those of the film."""
    with tempfile.TemporaryDirectory() as folder:
        named = []
        for n, film in enumerate(drawn):
            path = Path(folder) / f"{n:03d}.png"
            cv2.imwrite(str(path), np.ascontiguousarray(film))
            named.append(NamedFilm(path, Path(path.name), samples[n].mm_per_px if samples else 0.25))
        found = predict_films(trained, named, gate=Gate("warn", orient=True)).films
    told = Counter(" ".join((f.turned or f.wrong).split()[:4]) for f in found if f.turned or f.wrong)
    if names:
        missed = [name for name, film in zip(names, found, strict=True) if not (film.turned or film.wrong)]
        print(f"missed: {missed}") if missed else None
    if kind not in ("as it is", "mirrored", "inverted"):
        return told, None
    errors = []
    for film, sample in zip(found, samples, strict=True):
        points = turned_back(film.points_px, "mirrored", film.size) if kind == "mirrored" else film.points_px
        errors.append(np.linalg.norm(points - np.nanmean(sample.points, axis=0), axis=-1) * sample.mm_per_px)
    return told, float(np.nanmean(errors))


if __name__ == "__main__":
    main()
