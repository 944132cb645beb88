"""A machine that is exhausted: real processes of `ceph` that may take only so much memory, or start no thread."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.reliability.processes import SETTINGS, Nursery, one_message, run_words, settings, wait_for

from ceph.training import checkpoint

MIB = 2**20
SPARE = 400 * MIB  # beside what a process has when it starts
LARGE, HUGE = settings("data.size=[2048,2048]"), settings("data.size=[4096,4096]")
NOBODY = 65534
PLUGIN = """
import numpy as np
import torch
from ceph.plugin import Plugin, hookimpl


class Greedy(Plugin):
    @hookimpl
    def {hook}:
        {body}
"""
SMALL_BATCHES = ("batch_shape(self)", "return 64, 64")
WEIGHTS = ("landmark_weights(self, loss)", "return torch.ones(2**30).sum() * torch.ones_like(loss)")
TRUTH = ("truth(self, sample)", "return np.ones((2**31, 2)), sample.valid[0]")


class Home:
    """A run of one epoch, its films, and the nursery of processes that may take little."""

    def __init__(self, folder: Path, films: Path, nursery: Nursery) -> None:
        self.films, self.run, self.start = folder / "films", folder / "run", nursery.start
        shutil.copytree(films, self.films)
        code, errors = nursery.run(run_words(self.films, self.run, epochs=1), folder / "io")
        assert code == 0, errors

    def ends(self, words, io: Path, **limits) -> str:
        """The one message of `ceph WORDS`, which fails."""
        process = self.start(words, io, **(limits or {"memory": SPARE}))
        code = process.wait()
        errors = process.errors()
        assert code == 1, (code, errors)
        assert one_message(errors), errors
        return errors


@pytest.fixture(scope="module")
def home(tiny_set, nursery):
    with tempfile.TemporaryDirectory(prefix="ceph-exhausted-") as name:  # any user may enter it
        Path(name).chmod(0o755)
        yield Home(Path(name), tiny_set, nursery)


def trains(home, out, *more):
    return run_words(home.films, out, *more, epochs=1)


def with_plugin(folder, hook, body):
    file = folder / "greedy.py"
    file.write_text(PLUGIN.format(hook=hook, body=body))
    return settings(f"plugins.greedy.from={file}")


def sums(folder):
    """Sums of all files that a call could change; nobody minds the lock and the log."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".lock", ".log")]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_training_names_the_batch_and_train_batch_size_and_its_checkpoint_stays(home, tmp_path):
    errors = home.ends(trains(home, tmp_path / "run", *LARGE), tmp_path / "io")
    assert "error: out of memory while training a batch of 4 films at 2048x2048 px: " in errors
    assert "hint: lower train.batch_size (raise train.accumulate as much" in errors
    content, note = checkpoint.load_last(tmp_path / "run" / "checkpoints")
    assert (content["progress"]["step"], note) == (0, "")


def test_validation_names_evaluate_batch_size_and_no_plugin(home, tmp_path):
    plugin = with_plugin(tmp_path, *SMALL_BATCHES)  # trains at 64x64 px
    errors = home.ends(trains(home, tmp_path / "run", *HUGE, *plugin), tmp_path / "io")
    assert "error: out of memory while predicting a batch of 2 films at 4096x4096 px: " in errors
    assert "hint: lower evaluate.batch_size; then data.size\n" in errors
    assert "greedy" not in errors
    assert checkpoint.load_last(tmp_path / "run" / "checkpoints")[1] == ""


@pytest.mark.parametrize("dry", [False, True])
def test_a_network_that_is_too_wide_names_its_width_and_model_width(home, tmp_path, dry):
    words = trains(home, tmp_path / "run", *settings("model.width=4096"))
    errors = home.ends([*words, *["--dry-run"] * dry], tmp_path / "io")
    assert "error: out of memory while building test_resnet, 4096 wide, for 29 landmarks: " in errors
    assert "hint: lower model.width, or choose a smaller model.backbone\n" in errors


def test_evaluate_names_evaluate_batch_size_and_keeps_the_old_figures(home, tmp_path):
    before = sums(home.run)
    errors = home.ends(["evaluate", str(home.run), *HUGE], tmp_path / "one")
    assert "error: out of memory while predicting a batch of 2 films at 4096x4096 px: " in errors
    assert "hint: lower evaluate.batch_size; then data.size\n" in errors
    several = [*HUGE, *settings("evaluate.scales=[0.5,1]", "evaluate.batch_size=1")]
    errors = home.ends(["evaluate", str(home.run), *several], tmp_path / "two")
    assert "predicting a batch of 1 films at 4096x4096 and 2048x2048 px: " in errors
    assert "hint: lower data.size or the number of evaluate.scales\n" in errors
    assert sums(home.run) == before


def test_predict_names_evaluate_batch_size_and_keeps_the_old_points(home, tmp_path):
    out = tmp_path / "points.csv"
    out.write_text("old")
    errors = home.ends(["predict", str(home.run), str(home.films), "--out", str(out), *HUGE], tmp_path / "io")
    assert "error: out of memory while predicting a batch of 16 films at 4096x4096 px: " in errors
    assert "hint: lower evaluate.batch_size; then data.size\n" in errors
    assert out.read_text() == "old"


def test_bench_names_the_batch_and_train_batch_size(home, tmp_path):
    words = ["bench", "--data", str(home.films), *settings(*SETTINGS, "data.workers=0"), *LARGE]
    errors = home.ends([*words, "--steps", "1", "--rounds", "1"], tmp_path / "io")
    assert "error: out of memory while training a batch of 4 films at 2048x2048 px: " in errors
    assert "hint: lower train.batch_size (raise train.accumulate as much" in errors


@pytest.mark.parametrize(
    ("hook", "workers", "doing", "said"),
    [
        (WEIGHTS, 0, "training a batch of 4 films at 64x64 px", "you tried to allocate 4294967296 bytes"),
        (TRUTH, 0, "loading a batch of 4 films", "MemoryError: Unable to allocate 32.0 GiB"),
        (TRUTH, 1, "loading a batch of 4 films", "MemoryError: Unable to allocate 32.0 GiB"),
    ],
)
def test_a_plugin_that_takes_too_much_is_named_but_the_settings_come_first(home, tmp_path, hook, workers, doing, said):
    words = trains(home, tmp_path / "run", *with_plugin(tmp_path, *hook), *settings(f"data.workers={workers}"))
    errors = home.ends(words, tmp_path / "io")
    name = hook[0].partition("(")[0]
    assert f"error: out of memory while {doing}: plugin 'greedy' " in errors
    assert f"hook {name}: " in errors
    assert said in errors
    assert "hint: lower train.batch_size " in errors
    assert "; else mend the plugin, or run without it: --without greedy\n" in errors


def test_a_film_that_does_not_fit_is_named_with_its_size_and_the_others_are_predicted(home, tmp_path):
    films, out = tmp_path / "films", tmp_path / "points.json"
    films.mkdir()
    shutil.copy(min(home.films.rglob("*.png")), films / "a.png")
    cv2.imwrite(str(films / "b.png"), np.zeros((9900, 10000), np.uint16))
    process = home.start(["predict", str(home.run), str(films), "--out", str(out)], tmp_path / "io", memory=60 * MIB)
    code, errors = process.wait(), process.errors()
    assert code == 1, errors
    assert "Traceback" not in errors
    assert f"error: {films / 'b.png'}: out of memory while reading its 10000 x 9900 pixels\n" in errors
    assert "hint: lower data.workers, each of which reads a film, end other programs" in errors
    assert [Path(film["film"]).name for film in json.loads(out.read_text())["films"]] == ["a.png"]


def test_a_machine_that_starts_no_thread_says_so(home, tmp_path):
    limits = {"processes": 0, "uid": NOBODY if os.geteuid() == 0 else None}
    errors = home.ends(["predict", str(home.run), str(home.films)], tmp_path / "io", **limits)
    assert "error: no more threads or processes can be started while predicting a batch of 16 films" in errors
    assert "hint: lower data.workers (0 starts none), end other programs, or raise the limit (ulimit -u" in errors


def test_any_other_command_says_that_memory_ran_out(home, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(home.run, run)
    os.truncate(run / "metrics.jsonl", 120 * MIB)
    errors = home.ends(["report", str(run)], tmp_path / "io", memory=60 * MIB)
    assert (
        "error: out of memory while running `ceph report`: MemoryError\n  hint: lower data.size or a batch size"
        in errors
    )


def test_the_page_says_what_a_map_needs_and_goes_on(home, tmp_path):
    pytest.importorskip("uvicorn", reason="needs the extra `web`")
    run = tmp_path / "run"
    shutil.copytree(home.run, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("size: [64, 64]", "size: [4096, 4096]"))
    process = home.start(["view", str(run), "--no-open"], tmp_path / "io", memory=SPARE)
    assert wait_for(lambda: "Ctrl-C" in (tmp_path / "io" / "out").read_text()), process.errors()
    url = (tmp_path / "io" / "out").read_text().splitlines()[0]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}map/0/validation/0/0")
    told = json.loads(refused.value.read())
    assert told["problem"].startswith("out of memory while predicting a batch of 1 films at 4096x4096 px: ")
    assert told["hint"] == "lower data.size"
    with urllib.request.urlopen(f"{url}film/0/validation/0") as film:
        assert film.headers["content-type"] == "image/jpeg"
    process.signal(signal.SIGINT)
    process.wait()
    assert process.errors() == ""
