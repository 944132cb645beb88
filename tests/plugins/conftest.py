"""What tests of plugins are given: runs, batches and films, made up."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ceph.config.models import Config
from ceph.data.types import Batch, Sample
from ceph.hooks.base import Run

ISBI = "S N Or Po A B Pog Me Gn Go LIT UIT Ls Li Sn Pog` PNS ANS Ar".split()  # noqa: SIM905 - as the sets list them
AARIZ = "A ANS B Me N Or Pog PNS Pn R S Ar Co Gn Go Po LPM LIT LMT UPM UIA UIT UMT LIA Li Ls N` Pog` Sn".split()  # noqa: SIM905


def sample(number, landmarks):
    points = np.zeros((2, landmarks, 2))
    valid = np.ones((2, landmarks), dtype=bool)
    return Sample(
        f"{number:03}", "train", f"{number:03}", "", (960, 774), 0.25, points, valid, Path(f"{number:03}.png")
    )


@pytest.fixture
def make_run():
    """`make_run(landmarks="isbi", films=6, epochs=8)`."""

    def make(landmarks="isbi", films=6, epochs=8, steps_per_epoch=4):
        symbols = {"isbi": ISBI, "aariz": AARIZ}.get(landmarks, landmarks)
        samples = tuple(sample(i, len(symbols)) for i in range(films))
        return Run(tuple(symbols), (480, 384), epochs, steps_per_epoch, 0, samples, torch.device("cpu"), Config())

    return make


@pytest.fixture
def make_batch():
    """`make_batch(valid [B, K], epochs_done)`."""

    def make(valid, epochs_done=0.0):
        films, landmarks = valid.shape
        points, index, same = torch.zeros(films, landmarks, 2), torch.arange(films), torch.eye(3).expand(films, 3, 3)
        image, spacing = torch.zeros(films, 1, 8, 8), torch.ones(films)
        epoch = int(epochs_done)
        return Batch(image, points, valid, index, spacing, same.double(), epoch, epochs_done=epochs_done)

    return make
