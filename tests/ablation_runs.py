"""Run folders of an ablation written by hand: errors of made-up films, with the effects that a test plants."""

from __future__ import annotations

import json
import zlib

import numpy as np

from ceph.runfolder import Predictions, State, write_json, write_predictions, write_state

LANDMARKS = ("S", "N", "Or", "Go", "Ar", "UMT")
HARD = np.array([1.0, 1.1, 1.2, 2.0, 1.9, 3.0])  # mean errors in mm


def write_cells(out, effects, *, seeds=(0, 1, 2), splits=("validation", "test1"), films=40, noise=0.03, megapixels=2.0):
    """One folder a cell and seed; `effects` is cell -> mm added to every error, a number or one for each landmark."""
    for cell, effect in effects.items():
        for seed in seeds:
            for split in splits:
                write_run(out / cell / f"s{seed}", seed, split, np.asarray(effect, float), films, noise, cell)
            record = {"epoch": 0, "films": 10, "megapixels": megapixels}
            text = "".join(json.dumps({**record, "epoch": e}) + "\n" for e in range(3))
            (out / cell / f"s{seed}" / "metrics.jsonl").write_text(text)


def write_run(folder, seed, split, effect, films, noise, cell):
    """Films have a difficulty of their own, shared by all cells and seeds; each cell and seed adds noise."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = np.random.default_rng(zlib.crc32(split.encode()))
    own = np.random.default_rng((zlib.crc32(f"{cell}/{split}".encode()), seed))
    errors = HARD * shared.gamma(9.0, 1 / 9, (films, len(LANDMARKS)))
    errors = np.maximum(errors + effect + noise * own.standard_normal(errors.shape), 0.01)
    truth = np.full((films, len(LANDMARKS), 2), 100.0)
    found = truth + np.stack([errors / 0.1, np.zeros_like(errors)], -1)
    errors[0, 0] = np.nan
    ids = [f"{split}-{n:03}" for n in range(films)]
    write_predictions(folder, split, Predictions(tuple(ids), LANDMARKS, found, np.ones_like(errors), truth, errors))
    write_state(folder, State("finished"))
    fingerprint = folder / "data_fingerprint.json"
    known = json.loads(fingerprint.read_text()) if fingerprint.exists() else {"films": {}, "groups": {}}
    known["landmarks"] = list(LANDMARKS)
    known["films"][split] = {name: f"{name}:0" for name in ids}
    known["groups"][split] = {name: name for name in ids}
    write_json(fingerprint, known)
    metrics = folder / "metrics.json"
    figures = {split: {"mre_mm": float(np.nanmean(errors)), "truth": "mean"}}
    write_json(metrics, {**(json.loads(metrics.read_text()) if metrics.exists() else {}), **figures})
    (folder / "config.yaml").write_text(f"train:\n  seed: {seed}\n")
    write_json(
        folder / "environment.json",
        {
            "command": ["ceph", "run", "--data", "/films/aariz", "--seed", str(seed), "--out", str(folder.name)],
            "versions": {"ceph-trainer": "0.1.0"},
            "device": "cpu, fp32",
            "python": "3.11",
            "started": "2026-01-02T03:04:05+00:00",
            "git": None,
        },
    )
