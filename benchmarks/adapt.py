"""How much of what known offsets gain a few marked films bring: `python benchmarks/adapt.py POINTS --data FOLDER`.

POINTS are what was found, without this: a CSV of image_id, symbol, x_px, y_px (`predictions-<split>.csv` of a run, out
of fold where its films were trained on), or `reader:NAME`, marks of another reader. Of the films, k are drawn; the
others are scored as they are, with the offsets of `ceph adapt`, with plain shrunken ones (a mean for each landmark, one
prior for all) and with the mean offset of the scored films themselves, which is what "known" means. `--own` is
the truth that POINTS were trained by: how they err against it `ceph adapt` knows of a run, by films held out. With
`--scored POINTS2` the films of these are scored, by offsets of k films of POINTS, and of all, which is another line.
With `--radii` it is counted instead how often the other films' truth lies within the 90 % radius of a moved point: as
the run of POINTS had it, and as k films teach it. POINTS is its predictions-out-of-fold.csv then, with held-out.json.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from ceph.data.formats.find import read
from ceph.data.truth import combine
from ceph.evaluation.offsets import errors_by_others, expected, learn, mean_shape, turned, turns, ways
from ceph.evaluation.radius import Radii, learn_of_few
from ceph.runfolder import read_held_out, read_predictions

WRONG_MM = 20.0


def read_points(name, data, samples):
    """The points [N, K, 2] in film px of the samples that POINTS has, and these samples."""
    if name.startswith("reader:"):
        return np.stack([combine(s.points, s.valid, name[7:], data.readers)[0] for s in samples]), samples
    found = defaultdict(dict)
    with Path(name).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["image_id"]][row["symbol"]] = float(row["x_px"]), float(row["y_px"])
    there = [s for s in samples if set(data.landmarks) <= found[s.id].keys()]
    if not there:
        raise SystemExit(f"no film of {name} is in this split: {samples[0].id}, ...")
    return np.array([[found[s.id][symbol] for symbol in data.landmarks] for s in there]), there


def plain(moves):
    """A mean for each landmark, shrunken towards 0 by one prior for all and its own scatter."""
    mean = moves.mean(axis=0)
    error = ((moves - mean) ** 2).sum(axis=(0, 2)) / (len(moves) - 1) / 2 / len(moves)
    prior = max(0.0, float(((mean**2).sum(axis=-1) / 2 - error).mean()))
    return mean * (prior / (prior + error))[:, None]


def scored(moves, turn, offsets):
    """The mean error in mm of films whose points are moved by offsets."""
    return float((np.linalg.norm(moves - offsets, axis=-1) / np.abs(turn)[:, None]).mean())


def draw(found, marked, shape, usual, k, rng, scored_by=None):
    """Errors in mm of the films not drawn: as they are, by `learn`, as `ceph adapt` chooses, plain, known.

    `scored_by` (offsets) gives those of other films in their place.
    """
    films = rng.permutation(len(found))
    few, rest = films[:k], films[k:]
    turn = turns(found, shape)
    moves, valid = turned(marked - found, turn), np.ones(found.shape[:2], dtype=bool)
    learned = learn(moves[few], valid[few], usual)
    gain = expected(*errors_by_others(found[few], marked[few], valid[few], shape, learned.strange, usual))
    offsets = [0.0, learned.offsets_mm, learned.offsets_mm if gain.shown else 0.0, plain(moves[few])]
    if scored_by is not None:
        return [scored_by(by) for by in (*offsets, None)]
    return [scored(moves[rest], turn[rest], by) for by in (*offsets, moves[rest].mean(axis=0))]


def radii_of(points, ids, landmarks):
    """Of films by a run's file of points: their radii [N, K] in mm, how hard the points are, what its films teach."""
    folder, split = Path(points).parent, Path(points).stem.removeprefix("predictions-")
    kept, known = read_predictions(folder, split), read_held_out(folder)
    at = [kept.landmarks.index(symbol) for symbol in landmarks]
    radii = kept.radii_mm[np.ix_([kept.ids.index(i) for i in ids], at)]
    of = [known.landmarks.index(symbol) for symbol in landmarks]
    taught = Radii(known.factors[of], known.films[of], known.levels)
    return radii, radii / taught.radii_mm(np.ones((1, len(of)))), taught


def draw_radii(found, marked, shape, usual, k, rng, old, hard, taught):
    """Percent covered, mean radius, the least and most covered landmark: of old radii, of those of k films; or None."""
    films = rng.permutation(len(found))
    few, rest = films[:k], films[k:]
    turn, valid = turns(found, shape), np.ones(found.shape[:2], dtype=bool)
    moves = turned(marked - found, turn)
    learned = learn(moves[few], valid[few], usual)
    before, after = errors_by_others(found[few], marked[few], valid[few], shape, learned.strange, usual)
    if not expected(before, after).shown:
        return None
    left = np.linalg.norm(moves[rest] - learned.offsets_mm, axis=-1) / np.abs(turn[rest])[:, None]
    cells = []
    for radii in (old[rest], learn_of_few(after, hard[few], taught).radii_mm(hard[rest])):
        within = 100 * (left <= radii)
        cells.append((within.mean(), radii.mean(), *np.quantile(within.mean(axis=0), [0, 1])))
    return cells


def told_radii(films, draws):
    """A row of the table of radii, of draws [D, 2, 4] of so many films."""
    cells = [str(films)]
    for way in (0, 1):
        percent, mm, least, most = np.array(draws)[:, way].T
        low, high = np.quantile(percent, [0.1, 0.9])
        cells += [f"{percent.mean():.1f} % ({low:.1f} to {high:.1f})", f"{mm.mean():.2f} mm"]
    return f"| {' | '.join(cells)} | {least.mean():.0f} to {most.mean():.0f} % |"


def scorer(args, data, shape):
    """What gives the error in mm of the films of --scored by offsets; None: by the mean offset of these."""
    found, samples = read_points(args.scored, data, data.samples)
    mm = np.array([s.mm_per_px for s in samples])[:, None, None]
    marked = np.stack([combine(s.points, s.valid, args.truth, data.readers)[0] for s in samples])
    turn = turns(found * mm, shape)
    moves = turned((marked - found) * mm, turn)
    return lambda offsets: scored(moves, turn, moves.mean(axis=0) if offsets is None else offsets)


def told_shares(films, errors):
    """A row of the table: errors [D, 5] in mm of draws of so many films."""
    before, known = errors[:, 0], errors[:, 4]
    cells = [f"{before.mean():.2f}", f"{known.mean():.2f}"]
    for way in (1, 2, 3):
        share = 100 * (before - errors[:, way]) / (before - known)
        low, high = np.quantile(share, [0.1, 0.9])
        cells.append(f"{errors[:, way].mean():.2f} mm, {share.mean():.0f} % ({low:.0f} to {high:.0f})")
    kept = 100 * (errors[:, 2] == before).mean()
    return f"| {films} | {' | '.join(cells)} | {kept:.0f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", metavar="POINTS")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", help="default: all films")
    parser.add_argument("--truth", default="mean")
    parser.add_argument("--own", help="default: not known")
    parser.add_argument("--scored", metavar="POINTS2")
    parser.add_argument("--radii", action="store_true")
    parser.add_argument("--mm-per-px", type=float)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--films", type=int, nargs="*", default=(3, 5, 10, 20), help="how many are drawn")
    parser.add_argument("--unmoved", type=int, nargs="*", default=(3, 5, 10), help="and where nothing has shifted")
    args = parser.parse_args()
    data = read(args.data, mm_per_px=args.mm_per_px)
    samples = [s for s in data.samples if args.split in (None, s.split)]
    found, samples = read_points(args.points, data, samples)
    mm = np.array([s.mm_per_px for s in samples])[:, None, None]
    marked, own = (
        np.stack([combine(s.points, s.valid, truth, data.readers)[0] for s in samples]) * mm
        for truth in (args.truth, args.own or args.truth)
    )
    found = found * mm
    shape = mean_shape(found)
    turn, valid = turns(found, shape), np.ones(found.shape[:2], dtype=bool)
    usual = ways(turned(own - found, turn), valid) if args.own else None
    if args.radii:
        known = radii_of(args.points, [s.id for s in samples], data.landmarks)
        print("| films | as they were | mean | of these films | mean | landmarks |\n|---|---|---|---|---|---|")
        for k in args.films:
            rng = np.random.default_rng(k)
            draws = (draw_radii(found, marked, shape, usual, k, rng, *known) for _ in range(args.draws))
            print(told_radii(k, [cells for cells in draws if cells]), flush=True)
        return
    scored_by = args.scored and scorer(args, data, shape)
    print(f"{args.points}: {len(found)} films, {found.shape[1]} landmarks, truth {args.truth}, {args.draws} draws\n")
    print("| films | as they are | known | ours | ours, where shown to gain | plain shrunken | refused |")
    print("|---|---|---|---|---|---|---|")
    for k in args.films:
        rng = np.random.default_rng(k)
        errors = np.array([draw(found, marked, shape, usual, k, rng, scored_by) for _ in range(args.draws)])
        print(told_shares(k, errors), flush=True)
    moves = turned(marked - found, turn)
    if scored_by:
        print(f"offsets of all films: {scored_by(learn(moves, valid, usual).offsets_mm):.2f} mm")
    there = found + turned(moves - moves.mean(axis=0), 1 / turn)
    if not args.unmoved:
        return
    print("\nNothing has shifted (each landmark's mean offset is taken off beforehand): the error grows by, in percent")
    for k in args.unmoved:
        rng = np.random.default_rng(k)
        errors = np.array([draw(found, there, shape, usual, k, rng) for _ in range(args.draws)])
        growth = 100 * (errors[:, 1:4] / errors[:, :1] - 1)
        high = np.quantile(growth, 0.95, axis=0)
        each = zip(("ours", "ours, where shown to gain", "plain shrunken"), growth.mean(axis=0), high, strict=True)
        print(f"{k} films: " + "; ".join(f"{name} {mean:.2f} (95 % of draws: {top:.2f})" for name, mean, top in each))
    rng, strayed, named = np.random.default_rng(0), [], 0
    for _ in range(args.draws):
        five, angle = moves[rng.permutation(len(moves))[:5]].copy(), rng.uniform(0, 2 * np.pi)
        five[0] += WRONG_MM * np.array([np.cos(angle), np.sin(angle)])
        one, four = (learn(films, valid[: len(films)], usual) for films in (five, five[1:]))
        strayed.append(np.linalg.norm(one.offsets_mm - four.offsets_mm, axis=-1).max())
        named += int(one.strange.tolist() == [True, *[False] * 4])
    print(
        f"\nOne film of five mislabelled by {WRONG_MM:g} mm: no landmark is more than {max(strayed):.2f} mm from what"
    )
    print(f"the other four give; the film, and no other, is named in {100 * named / args.draws:.0f} % of the draws")


if __name__ == "__main__":
    main()
