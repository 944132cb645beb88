"""What grows with films, pixels, epochs and landmarks: `python benchmarks/growth.py [--films 20000]`.

Synthetic films (the same few drawn ones under many names, each its own file and so its own place in the cache) train a
small network; the table gives seconds of an epoch's steps, of a film, of a megapixel, and the process's peak memory.
Each row is a process of its own, except that epochs of one row follow each other in one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np


def write_set(folder, films, landmarks, side=256):
    """A plain CSV set of noise films with random points; a tenth is for validation, at most 50."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    base = cv2.resize(rng.integers(0, 256, (32, 32), np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    lines = ["image,split,mm_per_px," + ",".join(f"L{k}_x,L{k}_y" for k in range(landmarks))]
    held_out = min(50, max(2, films // 10))
    for i in range(films):
        film = base.copy()
        film[:4, :64] = rng.integers(0, 256, (4, 64), np.uint8)  # so that each is a film of its own
        cv2.imwrite(str(folder / f"{i}.bmp"), film)
        split = "validation" if i < held_out else "train"
        points = ",".join(f"{v:.1f}" for v in rng.uniform(20, side - 20, 2 * landmarks))
        lines.append(f"{i}.bmp,{split},0.5,{points}")
    (folder / "landmarks.csv").write_text("\n".join(lines) + "\n")


def one(given):
    """Train `epochs` epochs in this process; prints what they took as JSON."""
    from parts import job_of, resolved

    from ceph.bench import peak_memory_mb, timed
    from ceph.training.runtime import flushed_denormals

    given.data, given.mm_per_px, given.precision = given.folder / "films", None, "fp32"
    given.size = (given.side, given.side)
    settings = {"data__cache": given.folder / "cache", "data__workers": 0, "model__width": 16}
    job, _ = job_of(resolved(given, **settings), steps=10**9)
    rows = []
    with flushed_denormals():
        for _ in range(given.epochs):
            epoch = timed(job)
            rows.append({"films": epoch.films, "seconds": epoch.seconds, "mb": peak_memory_mb(job.runtime.device)})
    print(json.dumps(rows))


def row(films, side, landmarks, epochs, folder):
    place = Path(folder) / f"{films}-{landmarks}"
    if not place.is_dir():
        write_set(place / "films", films, landmarks)
    call = [sys.executable, __file__, "--one", "--folder", place, "--side", side, "--epochs", epochs]
    done = subprocess.run(list(map(str, call)), capture_output=True, text=True, check=False)  # noqa: S603 - itself
    if done.returncode:
        sys.exit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    last = found[-1]
    per_film = 1000 * last["seconds"] / last["films"]
    memory = " ".join(f"{epoch['mb']:.0f}" for epoch in found)
    figures = f"{last['seconds']:.2f} | {per_film:.2f} | {per_film / (side * side / 1e6):.1f}"
    return f"| {films} | {side} | {landmarks} | {figures} | {memory} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=2000, help="of the largest set")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, default=256, help="of the sets that differ in films and landmarks")
    parser.add_argument(
        "--epochs", type=int, default=3, help="in a row, one process: their memory is in the last column"
    )
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    if given.one:
        return one(given)
    print("| films | px | landmarks | s an epoch | ms a film | ms a megapixel | peak MB after each epoch |")
    print("|" + "---|" * 7)
    with tempfile.TemporaryDirectory() as folder:
        for films in (given.films // 16, given.films // 4):
            print(row(films, given.side, 20, given.epochs, folder), flush=True)
        print(row(given.films, given.side, 20, 1, folder), flush=True)
        for side in (128, 512):
            print(row(given.films // 16, side, 20, given.epochs, folder), flush=True)
        for landmarks in (5, 80):
            print(row(given.films // 16, given.side, landmarks, given.epochs, folder), flush=True)
    return None


if __name__ == "__main__":
    main()
