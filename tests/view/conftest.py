"""What the tests of the page share: a scored run, a second one beside it, a server and a browser."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import threading
import time

import numpy as np
import pytest

import ceph

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="session")
def run(once, tiny_set):
    """A run of two epochs on the tiny set, scored on all splits."""
    settings = {
        "data": {"path": str(tiny_set), "size": [96, 80], "workers": 0},
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {"epochs": 2, "batch_size": 4, "precision": "fp32", "device": "cpu"},
        "evaluate": {"scales": [1.0, 0.75]},
    }

    def make(folder):
        trained = ceph.load(ceph.train(settings, out=folder).folder)
        for split in ("train", "test"):
            trained.evaluate(split)

    return once("first", make)


@pytest.fixture(scope="session")
def good(run, tmp_path_factory):
    """The run as if it had learnt: points a few px from the truth."""
    draws = np.random.default_rng(0)
    return with_points(run, tmp_path_factory.mktemp("runs") / "good", lambda truth: truth + draws.normal(0, 4, 2))


@pytest.fixture(scope="session")
def second(good, tmp_path_factory):
    """The same with points 5 px right of the truth."""
    return with_points(good, tmp_path_factory.mktemp("runs") / "second", lambda truth: truth + np.array([5, 0]))


def with_points(run, folder, move):
    """A copy of a run whose predictions are what `move` makes of the truth."""
    shutil.copytree(run, folder)
    for path in folder.glob("predictions-*.csv"):
        lines = table(path)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, lines[0])
            writer.writeheader()
            for line in lines:
                before, truth = (
                    np.array([float(line[f"{c}_px"]) for c in names]) for names in ("xy", ("true_x", "true_y"))
                )
                mm_per_px = float(line["error_mm"]) / np.hypot(*(before - truth))
                x, y = move(truth)
                error = np.hypot(*(np.array([x, y]) - truth)) * mm_per_px
                writer.writerow({**line, "x_px": f"{x:.3f}", "y_px": f"{y:.3f}", "error_mm": f"{error:.4f}"})
    return folder


def table(path):
    """The lines of a predictions-<split>.csv."""
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))


def errors(folder, split="train"):
    """{film: {symbol: mm}} of a run."""
    found: dict[str, dict[str, float]] = {}
    for line in table(folder / f"predictions-{split}.csv"):
        found.setdefault(line["image_id"], {})[line["symbol"]] = float(line["error_mm"])
    return found


@contextlib.contextmanager
def serving(*folders, data=None):
    """The address at which `ceph view` shows these runs."""
    pytest.importorskip("starlette", reason="needs the extra `web`")
    pytest.importorskip("uvicorn", reason="needs the extra `web`")
    from ceph.view.runs import ViewedRun
    from ceph.view.server import address, listen, make_server, new_secret

    secret, listening = new_secret(), listen(0)
    server = make_server([ViewedRun(folder, data) for folder in folders], secret)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield address(listening, secret)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="session")
def site(good, second, run):
    """The address of a page with the three runs."""
    with serving(good, second, run) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A fresh page; any error of its scripts fails the test."""
    page = browser.new_page(viewport={"width": 1300, "height": 800})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(10_000)
    yield page
    page.close()
    assert faults == []
