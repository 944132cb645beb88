"""One run on several readers, speaking as each, beside runs that each reader alone trained.

    python benchmarks/readers.py --data FOLDER --mm-per-px X --seeds 2 --set train.epochs=12 --out readers.md

With `--beside FOLDER2` there are two sets, `first` and `second`, in place of readers. All runs end at their last epoch
and are scored on validation films (with `--folds N` on each of N folds), film by film by the reader in question. A row
of the table is written as soon as it is measured; below stand differences with 95 % intervals over films and seeds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import ceph
from ceph import runfolder
from ceph.config.load import resolve
from ceph.data.formats.find import read
from ceph.evaluation.statistics import estimate


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--beside", type=Path, help="another set, of which `data.mm_per_px` is not said")
    parser.add_argument("--mm-per-px", type=float, required=True)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


@contextmanager
def trained(args, seed, fold, told, plugins=()):
    """A new run, and its seconds."""
    texts = ["train.monitor=last", f"train.seed={seed}", *args.settings, *told]
    texts += [f"data.fold={{of: {args.folds}, number: {fold}}}"] if args.folds else []
    config = resolve(None, preset=args.preset, plugins=plugins, settings=texts)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ceph-readers-") as room:
        folder = Path(room) / "run"
        ceph.train(config, out=folder)
        yield folder, time.monotonic() - began


def films_mm(folder, settings, of=""):
    """The mean error in mm of each validation film, by its id; `of` a set, those that are its."""
    ceph.load(folder, settings=settings).evaluate("validation")
    found = runfolder.read_predictions(folder, "validation")
    rows = zip(found.ids, found.errors_mm, strict=True)
    return {name.removeprefix(of): float(np.nanmean(row)) for name, row in rows if name.startswith(of)}


def whom(args):
    """What trains all at once, and by name what trains one alone, says it at prediction, and begins its films' ids."""
    alone = [f"data.path={args.data.resolve()}", f"data.mm_per_px={args.mm_per_px}"]
    if args.beside is None:
        readers = read(args.data, mm_per_px=args.mm_per_px).readers
        return alone, {name: ([*alone, f"data.truth={name}"], [f"data.truth={name}"], "") for name in readers}
    other = [f"data.path={args.beside.resolve()}"]
    first = f"{{name: first, path: {args.data.resolve()}, mm_per_px: {args.mm_per_px}}}"
    both = [f"data.path=[{first}, {{name: second, path: {args.beside.resolve()}}}]"]
    return both, {"first": (alone, [], "first-"), "second": (other, [], "second-")}


def main():
    args = arguments()
    together, names = whom(args)
    errors = defaultdict(list)  # by name and way: [seed][film]
    with args.out.open("w", encoding="utf-8") as out:

        def tell(line):
            print(line, flush=True)
            out.write(line + "\n")
            out.flush()

        tell("| seed | fold | who | films | alone mm | together, as them mm | as the mean mm | s alone | s together |")
        tell("|---|---|---|---|---|---|---|---|---|")
        for seed in range(args.seeds):
            here = defaultdict(dict)
            for fold in range(max(1, args.folds)):
                with trained(args, seed, fold, together, ["readers"]) as (folder, seconds):
                    spoken = {
                        (name, like): films_mm(folder, [f"plugins.readers.like={like}", *said], prefix)
                        for name, (_, said, prefix) in names.items()
                        for like in (name, "mean")
                    }
                for name, (told, said, _) in names.items():
                    with trained(args, seed, fold, told) as (folder, alone_seconds):
                        alone = films_mm(folder, said)
                    ways = (alone, spoken[name, name], spoken[name, "mean"])
                    shared = sorted(set.intersection(*map(set, ways)))
                    for way, found in zip(("alone", "as them", "mean"), ways, strict=True):
                        here[name, way] |= {film: found[film] for film in shared}
                    cells = [f"{np.mean([way[film] for film in shared]):.3f}" for way in ways]
                    row = (seed, fold, name, len(shared), *cells, f"{alone_seconds:.0f}", f"{seconds:.0f}")
                    tell(f"| {' | '.join(map(str, row))} |")
            for key, found in here.items():
                errors[key].append([found[film] for film in sorted(found)])
        for name in names:
            alone, spoken = (np.array(errors[name, way]) for way in ("alone", "as them"))
            films = np.ones(alone.shape[1])
            found = estimate([spoken, -alone], films, np.arange(alone.shape[1]))
            percent = [100 * value / alone.mean() for value in (found.value, found.low, found.high)]
            told = "{:+.1f} % ({:+.1f} to {:+.1f})".format(*percent)
            tell(f"\n{name}: {alone.mean():.3f} mm alone; together, as them {spoken.mean():.3f} mm: {told}")


if __name__ == "__main__":
    main()
