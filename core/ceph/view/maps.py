"""Activation maps of films, computed when they are asked for, by the best checkpoint of a run."""

from __future__ import annotations

import base64
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ceph.data.dataset import bare_item, collate, to_batch
from ceph.data.geometry import inverse, resize
from ceph.data.images import read_film
from ceph.data.types import Matrix
from ceph.run.trained import Trained, load

FILMS_HELD = 8
GLOW = (0, 140, 255)  # BGR of the map on the film
OPAQUE = 215  # alpha of the map's peak


class Maps:
    """The maps of a run, on the CPU, so that a run that trains meanwhile keeps its device; one film at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = Lock()
        self._trained: Trained | None = None
        self._held: OrderedDict[Path, tuple[NDArray[np.float32], Matrix]] = OrderedDict()

    def of(self, film: Path) -> tuple[NDArray[np.float32], Matrix]:
        """The maps [K, h, w] of a film, averaged over `evaluate.scales`, and [3, 3] from their px to the film's.

        Raises CephError where the run has no checkpoint or the film cannot be read.
        """
        with self._lock:
            if film not in self._held:
                if self._trained is None:
                    self._trained = load(self.folder, settings=("train.device=cpu",))
                self._held[film] = activation_maps(self._trained, read_film(film))
                while len(self._held) > FILMS_HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(film)
            return self._held[film]

    def glow(self, film: Path, symbol: str) -> dict[str, Any]:
        """The map of one landmark as a PNG (data URL), with where it lies on the film and how high its peak is."""
        maps, to_film = self.of(film)
        assert self._trained is not None  # noqa: S101 - `of` has loaded it
        one = maps[self._trained.landmarks.index(symbol)]
        return {
            "png": "data:image/png;base64," + base64.b64encode(as_png(one)).decode("ascii"),
            "width": one.shape[1],
            "height": one.shape[0],
            "matrix": [float(to_film[row, column]) for column in range(3) for row in range(2)],
            "peak": float(one.max()),
        }


def activation_maps(trained: Trained, film: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Matrix]:
    """What the decoder reads points from: maps [K, h, w], and the matrix [3, 3] from map px to film px."""
    with torch.inference_mode(), trained.predicting(1):
        items = [collate([bare_item(film, size, len(trained.landmarks))]) for size in trained.ensemble.sizes]
        images = [to_batch(item, trained.runtime.device).image for item in items]
        mean = trained.ensemble.maps(items, images, trained.runtime.autocast)[0][0]
    stride = items[0].image.shape[-1] / mean.shape[-1]
    to_film = inverse(items[0].film_to_network[0].numpy()) @ resize(stride, stride)
    return mean.cpu().numpy(), to_film


def as_png(values: NDArray[np.float32]) -> bytes:
    """A map [h, w] >= 0 as a picture of one colour that is opaque at its peak and clear where there is nothing."""
    alpha = values / max(float(values.max()), 1e-12) * OPAQUE
    picture = np.empty((*values.shape, 4), dtype=np.uint8)
    picture[..., :3] = GLOW
    picture[..., 3] = np.clip(np.round(alpha), 0, 255)
    return bytes(cv2.imencode(".png", picture)[1].tobytes())
