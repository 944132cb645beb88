"""Run folders as a run writes them, made without training, and the films that go with them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from ceph.config.dump import dump_yaml
from ceph.data.types import Sample
from ceph.evaluation.metrics import summarise
from ceph.report.findings import Films
from ceph.runfolder import State, write_state

HEADER = ["image_id", "symbol", "x_px", "y_px", "score", "true_x_px", "true_y_px", "error_mm"]
MM_PER_PX = 0.5
IDS = tuple(f"film-{i}" for i in range(8))


def truth_of(films, landmarks):
    """[F, K, 2] in film px, on a film of 200 x 160."""
    rng = np.random.default_rng(3)
    return np.round(rng.uniform((30, 40), (130, 160), size=(films, landmarks, 2)))


def write_run(
    folder: Path,
    *,
    ids=IDS,
    landmarks=("S", "N", "Go"),
    splits=("validation",),
    plugins=("hard-mining",),
    epochs=3,
    planned=3,
    started="2026-01-02T03:04:05+00:00",
    state="finished",
    log=("INFO done: validation MRE 1.0 mm, best epoch 2",),
):
    """A run whose film i is off by i + 1 px in x at every landmark."""
    (folder / "checkpoints").mkdir(parents=True)
    write_state(folder, State(state, "2026-01-02T03:10:00+00:00"))
    config = {
        "data": {"path": "films", "truth": "mean", "size": [64, 64]},
        "model": {"backbone": "test_resnet"},
        "train": {"epochs": planned, "seed": 7, "monitor": "mre_mm"},
        "plugins": {name: {"keep": 0.4} for name in plugins},
    }
    origins = {"train.epochs": "--set", "train.seed": "default"}
    (folder / "config.yaml").write_text(dump_yaml(config, origins))
    environment = {
        "started": started,
        "device": "cpu",
        "versions": {"torch": "2"},
        "plugins": {name: {"version": "1", "source": "here", "sha256": "ab" * 32} for name in plugins},
        "command": ["ceph", "run"],
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    truth = truth_of(len(ids), len(landmarks))
    found = truth + np.stack([np.arange(1.0, len(ids) + 1), np.zeros(len(ids))], axis=1)[:, None]
    errors = np.linalg.norm(found - truth, axis=-1) * MM_PER_PX
    figures = summarise(errors, landmarks, "mean")
    records = [
        {
            "epoch": e,
            "loss": 4.0 - e,
            "lr": [0.1],
            "train_mre_mm": 5.0 - e,
            "sizes": {"64x64": 4, "96x96": 4 + e},
            "landmark_weights": {symbol: 0.5 + k for k, symbol in enumerate(landmarks)},
            "validation": {**figures, "mre_mm": 3.0 - e, "plugins": {f"{plugins[0]} figure": e} if plugins else {}},
        }
        for e in range(epochs)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    for split in splits:
        with (folder / f"predictions-{split}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(HEADER)
            for f, film in enumerate(ids):
                for k, symbol in enumerate(landmarks):
                    rows.writerow([film, symbol, *found[f, k], 0.9, *truth[f, k], errors[f, k]])
    if splits:
        (folder / "metrics.json").write_text(json.dumps(dict.fromkeys(splits, figures)))
    (folder / "log.txt").write_text("".join(f"2026-01-02 03:04:05,000 {line}\n" for line in log))
    return folder


def films_of(folder: Path, *, ids=IDS, landmarks=("S", "N", "Go"), splits=("validation",)) -> Films:
    """The films of `write_run` with two readers, 2 px in y on either side of the truth, from two machines."""
    folder.mkdir(exist_ok=True)
    truth = truth_of(len(ids), len(landmarks))
    samples = {}
    for f, film in enumerate(ids):
        path = folder / f"{f}.png"
        Image.fromarray(np.full((200, 160), 40 + f, dtype=np.uint8)).save(path)
        points = np.stack([truth[f] - (0, 2), truth[f] + (0, 2)])
        for split in splits:
            samples[split, film] = Sample(
                id=film,
                split=split,
                group=film,
                machine="A" if f < 3 else "B",
                size=(200, 160),
                mm_per_px=MM_PER_PX,
                points=points,
                valid=np.ones(points.shape[:2], dtype=bool),
                path=path,
            )
    return Films(samples, ("senior", "junior"), landmarks)
