"""The part `accuracy` of `benchmarks/gpu.py`: recipes on ISBI, three seeds each, several side by side; Test1."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from itertools import product
from pathlib import Path

from gpu_table import Given, Table

import ceph
from ceph.config.load import resolve
from ceph.errors import CephError
from ceph.run.trained import load

LANES = 6
COLUMNS = "recipe,seed,epochs,seconds,best epoch,validation mm,test mm,2 mm %,2.5 mm %,4 mm %,sharp mm"
SHARP = ("LIT", "UIT", "Sn", "ANS")
LARGE = ["data.size=[960,768]", "train.epochs=24"]
RECIPES = {
    "quick": ([], []),
    "quick, zoom": (["zoom"], []),
    "quick at 960x768": ([], LARGE),
    "quick at 960x768, zoom": (["zoom"], LARGE),
}
TINY = [
    *("data.size=[64,64]", "model.backbone=test_resnet", "model.weights=none", "model.width=8", "train.device=cpu"),
    *("evaluate.scales=[1]", "train.epochs=2"),
]


def trained(given, job):
    """The row of one recipe and seed."""
    name, seed = job
    began = time.monotonic()
    plugins, settings = RECIPES[name]
    here = [*TINY, "data.workers=0"] if given.dry else ["data.mm_per_px=0.25", "data.workers=2"]
    with tempfile.TemporaryDirectory(prefix="ceph-gpu-") as folder:
        texts = [*settings, *here, f"train.seed={seed}"]
        config = resolve(None, preset="quick", data=given.data, plugins=plugins, settings=texts)
        result = ceph.train(config, out=Path(folder) / "run")
        seconds = time.monotonic() - began
        figures = load(result.folder).evaluate("validation" if given.dry else "test1")[0]
    sdr, by = figures["sdr_percent"], figures["per_landmark"]
    sharp = sum(by[s]["mre_mm"] for s in SHARP) / len(SHARP)
    mm = result.metrics["mre_mm"], figures["mre_mm"]
    epochs = config.config.train.epochs
    return name, seed, epochs, seconds, result.best_epoch + 1, *mm, sdr["2.0"], sdr["2.5"], sdr["4.0"], sharp


def main():
    given = Given()
    table = Table(given.out, "accuracy", COLUMNS.split(","))
    jobs = [(name, seed) for seed, name in product(range(1 if given.dry else 3), RECIPES)]
    with ProcessPoolExecutor(2 if given.dry else LANES, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(partial(trained, given), job) for job in jobs]):
            try:
                table.add(*done.result())
            except CephError as error:
                if given.dry:
                    raise
                table.add(str(error).replace("|", "/"), *[""] * (len(table.columns) - 1))


if __name__ == "__main__":
    main()
