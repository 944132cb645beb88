"""The part `accuracy` of `benchmarks/gpu.py`: recipes on ISBI, as many epochs as fit, scored on Test1."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from gpu_table import Given, Table

import ceph
from ceph.config.load import resolve
from ceph.hooks.discovery import installed
from ceph.report.progress import Silent
from ceph.run.trained import load

SHARE = 0.7  # of a recipe's seconds that epochs may take: Test1 is scored at four scales
COLUMNS = ["recipe", "epochs", "seconds", "best epoch", "validation mm", "test mm", "2 mm %", "2.5 mm %", "4 mm %"]
LARGE = ["data.size=[960,768]", "train.batch_size=8"]
TINY = [
    *("data.size=[64,64]", "model.backbone=test_resnet", "model.weights=none", "model.width=8", "train.device=cpu"),
    *("evaluate.scales=[1]", "data.workers=0"),
]


class Pace(Silent):
    """Remembers when each epoch ended."""

    def __init__(self):
        self.ends = []

    def epoch(self, _record):
        self.ends.append(time.monotonic())


def recipes():
    """Name -> (plugins, settings), over the preset `quick`."""
    found = {"quick": ([], []), "quick at 960x768": ([], LARGE)}
    if any(plugin.name == "zoom" for plugin in installed()):
        found["quick, zoom"] = (["zoom"], [])
    return found


def trained(given, folder, plugins, settings, budget):
    """Train by the clock: two epochs tell what one costs, then the run of as many as fit in `budget` seconds."""
    began = time.monotonic()

    def run(epochs, out):
        pace = Pace()
        texts = [*settings, *(TINY if given.dry else ["data.mm_per_px=0.25"]), f"train.epochs={epochs}"]
        config = resolve(None, preset="quick", data=given.data, plugins=plugins, settings=texts)
        return ceph.train(config, out=out, watcher=pace), pace.ends

    _, ends = run(2, folder / "pace")
    an_epoch = ends[1] - ends[0]
    epochs = max(2, min(200, int((SHARE * budget - (time.monotonic() - began)) / an_epoch)))
    result, _ = run(epochs, folder / "run")
    return result, epochs, time.monotonic() - began


def main():
    given = Given()
    table = Table(given.out, "accuracy", COLUMNS)
    left = recipes()
    for count, (name, (plugins, settings)) in zip(range(len(left), 0, -1), left.items(), strict=True):
        budget = 0.0 if given.dry else given.left / count
        with tempfile.TemporaryDirectory(prefix="ceph-gpu-") as folder:
            result, epochs, seconds = trained(given, Path(folder), plugins, settings, budget)
            figures = load(result.folder).evaluate("validation" if given.dry else "test1")[0]
        sdr = figures["sdr_percent"]
        mm = result.metrics["mre_mm"], figures["mre_mm"]
        table.add(name, epochs, seconds, result.best_epoch + 1, *mm, sdr["2.0"], sdr["2.5"], sdr["4.0"])


if __name__ == "__main__":
    main()
