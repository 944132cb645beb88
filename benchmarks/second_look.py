"""What `zoom` does to a run's points: `python benchmarks/second_look.py RUN [RUN ...]`.

RUNs of one data set were trained with the plugin. Each point of their validation films before and after the second look
is held against the truth: both are of one training, so the difference is paired. 95 % intervals over films and, with
several RUNs, their seeds (docs/statistics.md). `by score` is the share of pairs of points in which the one with the
lower score is the one further off, with the scores of the first look and of both.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from ceph.evaluation.statistics import estimate
from ceph.runfolder import predictions


def errors(run, split):
    """Landmarks [K], radial errors before and after [N, K] in mm, and the scores likewise."""
    found = predictions.read_predictions(run, split)
    after = found.errors_mm
    mm_per_px = np.nanmedian(after / np.linalg.norm(found.points_px - found.truth_px, axis=-1), axis=1, keepdims=True)
    first, sure = found.points_px.copy(), found.scores.copy()
    with predictions.stages_file(run, split).open(newline="") as file:
        for row in csv.DictReader(file):
            if row["stage"] != "refiner":
                at = found.ids.index(row["image_id"]), found.landmarks.index(row["symbol"].lstrip("'"))
                first[at], sure[at] = (float(row["x_px"]), float(row["y_px"])), float(row["score"])
    before = np.linalg.norm(first - found.truth_px, axis=-1) * mm_per_px
    return found.landmarks, np.where(np.isnan(after), np.nan, before), after, sure, found.scores


def ordered(errors_mm, scores):
    """The share of pairs of points whose lower score is that of the larger error."""
    e, s = (part[~np.isnan(errors_mm)] for part in (errors_mm, scores))
    worse = e[:, None] > e
    return float(((s[:, None] < s) & worse).sum() + 0.5 * ((s[:, None] == s) & worse).sum()) / worse.sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--groups", nargs="*", default=[], metavar="A,B", help="landmarks to sum up, as LIT,UIT,Sn,ANS")
    given = parser.parse_args()
    landmarks, before, after, sure, both = (
        part[0] if n == 0 else np.stack(part)
        for n, part in enumerate(zip(*(errors(run, given.split) for run in given.runs), strict=True))
    )
    known = ~np.isnan(before[0])
    print("| landmarks | MRE mm first look | second | difference (95 % interval) | % | points |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in ["all", *given.groups, *landmarks]:
        among = known & (np.isin(landmarks, name.split(",")) | (name == "all"))
        count = among.sum(1).astype(float)
        change = np.where(among, after - before, 0).sum(-1) / np.maximum(count, 1)
        found = estimate([change], count, np.arange(len(known)))
        old, new = (float(np.nanmean(part[:, among])) for part in (before, after))
        effect = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
        points = int(count.sum()) * len(given.runs)
        print(f"| {name} | {old:.3f} | {new:.3f} | {effect} | {100 * (new / old - 1):+.1f} | {points} |")
    print(f"\nby score: {ordered(after, sure):.3f} first look, {ordered(after, both):.3f} both")


if __name__ == "__main__":
    main()
