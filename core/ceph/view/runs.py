"""Runs as the page shows them: films with the points of run, truth and readers, and the curves of their epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.images import read_film
from ceph.data.types import Points, Sample
from ceph.errors import CephError, DataError
from ceph.report.strokes import tracing
from ceph.run.films import read_known, refolded
from ceph.runfolder import (
    Predictions,
    finite,
    number,
    predicted_splits,
    predictions_file,
    read_predictions,
    read_records,
    read_stages,
    require_run,
    stages_file,
    standing,
)
from ceph.runfolder.place import EPOCHS
from ceph.view.maps import Maps

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
            config, found = read_known(folder, data)
            self.epochs = config.train.epochs
            found = found if data is None else refolded(found, config.data.fold)
        except CephError as error:
            self.missing = "; ".join(problem.what for problem in error.problems[:3])
        else:
            self.samples = {(sample.split, sample.id): sample for sample in found.samples}
            self.readers, self.symbols = found.readers, found.landmarks

    def splits(self) -> list[str]:
        """The splits that have predictions, validation first."""
        return predicted_splits(self.folder)

    def predictions(self, split: str) -> Predictions:
        """What the run has found on a split. Raises DataError."""
        return read_points(self.folder, split, changed(predictions_file(self.folder, split)))

    def films(self, split: str) -> dict[str, Any]:
        """The landmarks and films of a split with all their points, as the page wants them. Raises DataError."""
        found, stages = self.predictions(split), stages_file(self.folder, split)
        tracks = read_moves(self.folder, split, changed(stages)) if stages.exists() else {}
        return {
            "landmarks": list(found.landmarks),
            "readers": list(self.readers),
            "films": [
                {
                    **self._film(split, place, found),
                    "tracks": [tracks.get((film, symbol), []) for symbol in found.landmarks],
                }
                for place, film in enumerate(found.ids)
            ],
        }

    def _film(self, split: str, place: int, found: Predictions) -> dict[str, Any]:
        film = found.ids[place]
        sample = self.samples.get((split, film))
        marks = {} if sample is None else self._marks(sample, found.landmarks)
        mm = None if sample is None else sample.mm_per_px
        return {
            "id": film,
            "shown": sample is not None,
            "machine": sample.machine if sample else "",
            "mm_per_px": mm,
            "width": sample.size[1] if sample else None,
            "height": sample.size[0] if sample else None,
            "points": _pairs(found.points_px[place]),
            "tracing": [_pairs(stroke.points.round(2)) for stroke in tracing(found.points_px[place], found.landmarks)],
            "scores": _plain(found.scores[place]),
            "presence": [] if found.presence is None else _plain(found.presence[place]),
            "absent": [] if found.absent is None else found.absent[place].tolist(),
            "truth": _pairs(found.truth_px[place]),
            "errors": _plain(found.errors_mm[place]),
            "radii": [] if found.radii_mm is None or not mm else _plain(found.radii_mm[place] / mm),
            "readers": marks,
            "apart": _apart(list(marks.values()), mm) or [None] * len(found.landmarks),
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
        ids = self.predictions(split).ids
        sample = self.samples.get((split, ids[film])) if film < len(ids) else None
        if sample is None:
            raise DataError(self.missing or f"the data set of {self.name} has no such film")
        return sample.path

    def curves(self) -> dict[str, Any]:
        """What each epoch has come to, and how far the run is."""
        file = self.folder / EPOCHS
        return {
            "epochs": self.epochs,
            "state": standing(self.folder).state,
            "age_s": time.time() - changed(file) if file.exists() else None,
            "records": read_epochs(self.folder, changed(file)),
        }


def changed(path: Path) -> float:
    """When a file was last written; 0 where there is none."""
    return path.stat().st_mtime if path.exists() else 0.0


@lru_cache(maxsize=FILES_HELD)
def read_points(folder: Path, split: str, _changed: float) -> Predictions:
    """The predictions of a split, read again where they have changed."""
    return read_predictions(folder, split)


@lru_cache(maxsize=FILES_HELD)
def read_moves(folder: Path, split: str, _changed: float) -> dict[tuple[str, str], list[tuple[str, float, float]]]:
    """The points that decoding moved on a split, read again where they have changed."""
    return read_stages(folder, split)


def _plain(values: NDArray[np.float64]) -> list[Any]:
    """Numbers as JSON has them: None where one is not finite."""
    return [None if not math.isfinite(value) else value for value in values.tolist()]


def _pairs(points: Points) -> list[Point]:
    return [_pair(*_plain(point)) for point in points]


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
def read_epochs(folder: Path, _changed: float) -> list[dict[str, Any]]:
    """The figures of the epochs that the page draws; none where they cannot be read."""
    try:
        return [_shown(record) for record in read_records(folder)]
    except DataError:
        return []


def _shown(record: Mapping[str, Any]) -> dict[str, Any]:
    rates = record.get("lr")
    named = {
        "loss": number(record, "loss"),
        "train_mre_mm": number(record, "train_mre_mm"),
        "mre_mm": number(record, "validation", "mre_mm"),
        "sdr_2mm": number(record, "validation", "sdr_percent", "2.0"),
        "lr": number({"lr": rates[-1]}, "lr") if isinstance(rates, list) and rates else math.nan,
    }
    return {"epoch": int(number(record, "epoch")) + 1, **finite(named)}


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
