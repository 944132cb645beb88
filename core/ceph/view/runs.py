"""Runs as the page shows them: films with the points of run, truth and readers, and the curves of their epochs."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ceph.assembly import make_hooks, read_data
from ceph.config.load import resolve
from ceph.data.files import read_text
from ceph.data.images import read_film
from ceph.data.types import Points, Sample
from ceph.errors import CephError, DataError
from ceph.training.folder import CONFIG, require_run
from ceph.view.maps import Maps

PREDICTIONS = "predictions-"
TABLE_BYTES = 256 * 2**20
LONGEST = 4096  # px of a picture sent to the browser; the longer side of a larger film is shrunk to it
QUALITY = 92
FILES_HELD = 24
Point = tuple[float, float] | None


class ViewedRun:
    """A run folder, read again where it may have grown: predictions of a split, and the epochs of a run in progress.

    `data` overrides where its config says that the films are; `missing` says why they are not to be seen.
    """

    def __init__(self, folder: Path, data: Path | None = None) -> None:
        require_run(folder)
        self.folder, self.name = folder, folder.resolve().name
        self.maps = Maps(folder)
        self.samples: Mapping[tuple[str, str], Sample] = {}
        self.readers: tuple[str, ...] = ()
        self.symbols: tuple[str, ...] = ()
        self.epochs: int | None = None
        self.missing = ""
        try:
            resolved = resolve(folder / CONFIG)
            self.epochs = resolved.config.train.epochs
            found = read_data(resolved.config, make_hooks(resolved), data)
        except CephError as error:
            self.missing = "; ".join(problem.what for problem in error.problems[:3])
        else:
            self.samples = {(sample.split, sample.id): sample for sample in found.samples}
            self.readers, self.symbols = found.readers, found.landmarks

    def splits(self) -> list[str]:
        """The splits that have predictions, validation first."""
        names = [path.stem.removeprefix(PREDICTIONS) for path in self.folder.glob(f"{PREDICTIONS}*.csv")]
        return sorted(names, key=lambda name: (name != "validation", name))

    def films(self, split: str) -> dict[str, Any]:
        """The landmarks and films of a split with all their points, as the page wants them. Raises DataError."""
        path = self.folder / f"{PREDICTIONS}{split}.csv"
        table = read_points(path, changed(path))
        landmarks = list(dict.fromkeys(symbol for film in table.values() for symbol in film))
        return {
            "landmarks": landmarks,
            "readers": list(self.readers),
            "films": [self._film(split, film, points, landmarks) for film, points in table.items()],
        }

    def _film(
        self, split: str, film: str, points: Mapping[str, Sequence[float | None]], landmarks: Sequence[str]
    ) -> dict[str, Any]:
        sample = self.samples.get((split, film))
        rows = [points.get(symbol, (None,) * 6) for symbol in landmarks]
        marks = {} if sample is None else self._marks(sample, landmarks)
        mm = None if sample is None else sample.mm_per_px
        return {
            "id": film,
            "shown": sample is not None,
            "machine": sample.machine if sample else "",
            "mm_per_px": mm,
            "width": sample.size[1] if sample else None,
            "height": sample.size[0] if sample else None,
            "points": [_pair(x, y) for x, y, *_ in rows],
            "scores": [score for _, _, score, *_ in rows],
            "truth": [_pair(x, y) for _, _, _, x, y, _ in rows],
            "errors": [error for *_, error in rows],
            "readers": marks,
            "apart": _apart(list(marks.values()), mm) or [None] * len(landmarks),
        }

    def _marks(self, sample: Sample, landmarks: Sequence[str]) -> dict[str, list[Point]]:
        """The points of each reader, in the order of `landmarks`."""
        at = {symbol: k for k, symbol in enumerate(self.symbols)}
        return {
            reader: [_mark(points, valid, at.get(symbol)) for symbol in landmarks]
            for reader, points, valid in zip(self.readers, sample.points, sample.valid, strict=True)
        }

    def path(self, split: str, film: int) -> Path:
        """The file of the film that stands at place `film` of a split. Raises DataError where there is none."""
        table = self.folder / f"{PREDICTIONS}{split}.csv"
        ids = list(read_points(table, changed(table)))
        sample = self.samples.get((split, ids[film])) if film < len(ids) else None
        if sample is None:
            raise DataError(self.missing or f"the data set of {self.name} has no such film")
        return sample.path

    def curves(self) -> dict[str, Any]:
        """What each epoch has come to, and how far the run is."""
        file = self.folder / "metrics.jsonl"
        return {
            "epochs": self.epochs,
            "finished": (self.folder / "metrics.json").exists(),
            "age_s": time.time() - changed(file) if file.exists() else None,
            "records": read_epochs(file, changed(file)),
        }


def changed(path: Path) -> float:
    """When a file was last written; 0 where there is none."""
    return path.stat().st_mtime if path.exists() else 0.0


@lru_cache(maxsize=FILES_HELD)
def read_points(path: Path, _changed: float) -> dict[str, dict[str, list[float | None]]]:
    """By film and symbol: -> [x_px, y_px, score, true_x_px, true_y_px, error_mm] of a predictions-<split>.csv."""
    found: dict[str, dict[str, list[float | None]]] = {}
    lines = csv.reader(io.StringIO(read_text(path, limit=TABLE_BYTES)))
    next(lines, None)
    for number, line in enumerate(lines, 2):
        try:
            film, symbol, *values = line
            x, y, score, true_x, true_y, error = (_number(value) for value in values)
        except ValueError:
            raise DataError(f"{path}:{number}: is not as a run writes it: {','.join(line)[:80]!r}") from None
        found.setdefault(film, {})[symbol] = [x, y, score, true_x, true_y, error]
    return found


def _number(text: str) -> float | None:
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None


def _pair(x: float | None, y: float | None) -> Point:
    return None if x is None or y is None else (x, y)


def _mark(points: Points, valid: np.ndarray[Any, Any], place: int | None) -> Point:
    if place is None or not valid[place]:
        return None
    return round(float(points[place, 0]), 2), round(float(points[place, 1]), 2)


def _apart(marks: Sequence[Sequence[Point]], mm_per_px: float | None) -> list[float | None]:
    """The largest distance between two readers' marks of each landmark, in mm; None where fewer than two marked it."""
    if mm_per_px is None or len(marks) < 2:
        return []
    every = zip(*marks, strict=True)
    pairs = [[(a, b) for i, a in enumerate(one) for b in one[:i] if a and b] for one in every]
    return [max((math.dist(a, b) * mm_per_px for a, b in found), default=None) for found in pairs]


@lru_cache(maxsize=FILES_HELD)
def read_epochs(file: Path, _changed: float) -> list[dict[str, Any]]:
    """The figures of metrics.jsonl that the page draws; a damaged line is passed over."""
    return list(_epochs(file))


def _epochs(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text("utf-8").splitlines() if file.exists() else ():
        try:
            record = json.loads(line)
            scored = record.get("validation") or {}
            rates = record.get("lr") or [None]
            yield {
                "epoch": record["epoch"] + 1,
                "loss": record.get("loss"),
                "train_mre_mm": record.get("train_mre_mm"),
                "mre_mm": scored.get("mre_mm"),
                "sdr_2mm": (scored.get("sdr_percent") or {}).get("2.0"),
                "lr": rates[-1] if isinstance(rates, list) else rates,
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


@lru_cache(maxsize=FILES_HELD)
def picture(path: Path, _changed: float) -> bytes:
    """A film as JPEG, shrunk where it is very large. Raises DataError where it cannot be read."""
    film = read_film(path)
    scale = min(1.0, LONGEST / max(film.shape))
    if scale < 1:
        size = (round(film.shape[1] * scale), round(film.shape[0] * scale))
        film = np.asarray(cv2.resize(film, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    done, code = cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise DataError(f"{path}: cannot be encoded")
    return code.tobytes()
