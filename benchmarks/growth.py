"""What grows with films, pixels, epochs and landmarks: `python benchmarks/growth.py [--films 20000]`.

Synthetic films (the same noise under many names, each its own file and so its own place in the cache) train a small
network; the table gives the films of an epoch, seconds of its steps, of a film, of a megapixel, and the most memory
that the process and its loader worker held together (Linux). Each row is a process of its own, except that epochs of
one row follow each other in one; the first epoch of a set fills its cache. What goes on is said on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
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


def total_memory_mb():
    """Resident memory of this process and of its loader workers, in MB (10^6 bytes)."""
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    pages = 0
    for process in processes:
        with contextlib.suppress(OSError):  # it has ended
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


class Peak(threading.Thread):
    """The most memory seen, looked at four times a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.mb = 0.0

    def run(self):
        while True:
            self.mb = max(self.mb, total_memory_mb())
            time.sleep(0.25)


def one(given):
    """Train `epochs` epochs in this process; prints what they took as JSON, and says on stderr how far it is."""
    from parts import job_of, resolved

    from ceph.report.progress import Silent
    from ceph.stop import StopRequest
    from ceph.training.engine import train_epoch
    from ceph.training.progress import Progress
    from ceph.training.runtime import flushed_denormals

    class Told(Silent):
        """A line every 15 seconds."""

        said, epochs = time.monotonic(), 0

        def step(self, _epoch, done, total, _loss):
            if time.monotonic() - self.said > 15:
                self.said = time.monotonic()
                where = f"epoch {self.epochs + 1} of {given.epochs}, batch {done} of {total}"
                print(f"  {where}, {peak.mb:.0f} MB at most", file=sys.stderr, flush=True)

    peak = Peak()
    peak.start()
    given.data, given.mm_per_px, given.precision = given.folder / "films", None, "fp32"
    given.size = (given.side, given.side)
    settings = {"data__cache": given.folder / "cache", "data__workers": given.workers, "model__width": 16}
    job, _ = job_of(resolved(given, **settings), steps=10**9)
    rows, watcher = [], Told()
    with flushed_denormals():
        for watcher.epochs in range(given.epochs):
            progress = Progress()
            train_epoch(job, progress, watcher, StopRequest())
            rows.append({"films": progress.drawn, "seconds": progress.timed[1], "mb": peak.mb})
    print(json.dumps(rows))


def row(given, films, side, landmarks, epochs, folder):
    """Train a set in a process of its own; returns its Markdown row."""
    place = Path(folder) / f"{films}-{landmarks}"
    print(f"{films} films, {side} px, {landmarks} landmarks", file=sys.stderr, flush=True)
    if not place.is_dir():
        write_set(place / "films", films, landmarks)
    call = [sys.executable, __file__, "--one", "--folder", place, "--side", side, "--epochs", epochs]
    call += ["--workers", given.workers, "--backbone", given.backbone, "--batch", given.batch]
    done = subprocess.run(list(map(str, call)), stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - itself
    if done.returncode:
        sys.exit(done.returncode)
    found = json.loads(done.stdout.splitlines()[-1])
    last = found[-1]
    per_film = 1000 * last["seconds"] / last["films"]
    memory = " ".join(f"{epoch['mb']:.0f}" for epoch in found)
    figures = f"{last['seconds']:.2f} | {per_film:.2f} | {per_film / (side * side / 1e6):.1f}"
    return f"| {last['films']} | {side} | {landmarks} | {figures} | {memory} |"


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
    parser.add_argument("--workers", default="1", help="loader workers, whose memory counts with the process's")
    given = parser.parse_args()
    if given.one:
        return one(given)
    print("| films | px | landmarks | s an epoch | ms a film | ms a megapixel | peak MB after each epoch |")
    print("|" + "---|" * 7)
    few = min(given.films // 16, 240)
    with tempfile.TemporaryDirectory() as folder:
        for films, epochs in ((given.films // 16, given.epochs), (given.films // 4, 1), (given.films, 1)):
            print(row(given, films, given.side, 20, epochs, folder), flush=True)
        for side in (128, 512):
            print(row(given, few, side, 20, given.epochs, folder), flush=True)
        for landmarks in (5, 80):
            print(row(given, few, given.side, landmarks, given.epochs, folder), flush=True)
    return None


if __name__ == "__main__":
    main()
