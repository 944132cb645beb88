"""Rows 1 to 4 and 15 of docs/reliability.md: processes that are killed, interrupted, resumed, or meet in one folder."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from tests.reliability.conftest import EPOCHS
from tests.reliability.processes import (
    HARD_ONLY,
    SHELF,
    SINKS,
    began,
    one_message,
    outside,
    run_words,
    shelf,
    tries,
    wait_for,
)
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.errors import Interrupted
from ceph.report.progress import Silent
from ceph.training import checkpoint

WRITERS = """
import json, os, random, signal, sys, time, torch
from pathlib import Path
from ceph.training import checkpoint

def write(folder, pipe):
    for epoch in range(10**6):
        checkpoint.save(folder, checkpoint.LAST, {"epoch": epoch, "w": torch.full((150_000,), float(epoch))})
        os.write(pipe, b"%d\\n" % epoch)

chance = random.Random(0)
for attempt in range(int(sys.argv[2])):
    folder = Path(sys.argv[1], str(attempt))
    folder.mkdir()
    get, put = os.pipe()
    pid = os.fork()
    if pid == 0:
        write(folder, put)
    os.close(put)
    acknowledged = os.fdopen(get)
    first = [int(acknowledged.readline()) for _ in range(2)]
    time.sleep(chance.uniform(0, 0.05))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    told = [*first, *map(int, acknowledged.read().split())][-1]
    content, note = checkpoint.load_last(folder)
    whole = bool((content["w"] == content["epoch"]).all())
    halfway = any(path.name.startswith(".") for path in folder.iterdir())
    print(json.dumps([told, content["epoch"], whole, note, halfway]), flush=True)
"""


@tries(10, 200)
def test_row_01_a_writer_killed_at_any_moment_loses_no_checkpoint_that_it_acknowledged(tmp_path, tries):
    command = [sys.executable, "-c", WRITERS, str(tmp_path), str(tries)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == tries
    for told, kept, whole, note, _ in found:
        assert whole
        assert not note
        assert kept in (told, told + 1)
    halfway = sum(entry[-1] for entry in found)
    print(f"row 1: {tries} kills, {halfway} of them in the middle of a write")
    assert halfway > 0


def epochs_of(run):
    """How many epochs of a run are in its metrics.jsonl."""
    file = run / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


# Row 2 kills at most so many seconds after the start, the first checkpoint, an epoch, its checkpoint, the last epoch.
# The long form takes four times as many: its four sinks take seconds to open.
MOMENTS = (
    (lambda run: True, 1.0),
    (began, 1.0),
    (lambda run: epochs_of(run) > 0, 0.1),
    (lambda run: (run / "checkpoints" / checkpoint.PREVIOUS).exists(), 0.1),
    (lambda run: epochs_of(run) == EPOCHS, 0.5),
)


@tries(1, 30)
def test_row_02_a_run_killed_at_any_moment_and_resumed_ends_in_the_same_weights(tiny_set, tmp_path, tries, whole):
    reference, nursery = whole
    kinds = [(reference, SHELF)]
    if tries > 5:
        kinds.insert(0, (other := tmp_path / "other", HARD_ONLY))
        words = run_words(tiny_set, other, *shelf(HARD_ONLY), epochs=EPOCHS)
        assert nursery.run(words, tmp_path / "other-io")[0] == 0
    chance, cut, off, went_on = random.Random(29), 0, [], Counter()
    for attempt in range(tries):
        run = tmp_path / str(attempt)
        expected, plugins = kinds[attempt % len(kinds)]
        sinks = SINKS if tries > 5 else {}  # the uninterrupted runs have none: these only observe
        on = shelf({**plugins, **{name: SINKS[name] for name in sinks}})
        words = run_words(tiny_set, run, *on, epochs=EPOCHS, workers=attempt // 2 % 2)
        # Every third one of the long form is a process from its first import on; the others skip the imports.
        process = (outside if tries > 5 and attempt % 3 == 0 else nursery.start)(words, tmp_path / f"{attempt}-io")
        moment, seconds = MOMENTS[attempt % len(MOMENTS) if tries > 5 else 3 + attempt]
        assert wait_for(lambda moment=moment, run=run: moment(run), 120), process.errors()
        time.sleep(chance.uniform(0, 4 * seconds if tries > 5 else seconds))
        process.signal(signal.SIGKILL)
        cut += process.wait() == -signal.SIGKILL
        again = ["run", "--resume", str(run)] if began(run) else words  # the same command takes the folder
        went_on[checkpoint.load_last(run / "checkpoints")[0]["progress"]["epoch"] if began(run) else "anew"] += 1
        code, errors = nursery.run(again, tmp_path / f"{attempt}-io")
        assert code == 0, errors
        assert same_weights(last_weights(expected), last_weights(run))
        assert (expected / "metrics.jsonl").read_text() == (run / "metrics.jsonl").read_text()
        off += [name for name in sinks if f"'{name}'" in errors and "switched off" in errors]
    print(f"row 2: {tries} tries, {cut} killed before their end; went on from epoch {dict(went_on)}; sinks off: {off}")
    assert cut >= max(1, tries // 2)
    assert went_on[1] > 0


class StopAt(Silent):
    """Sends this process a signal after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, epoch: int, done: int, total: int, loss: float) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


# Between two epochs a run of any number of workers stops in tests/training/test_run.py, too.
LONG = [pytest.param(*words, marks=pytest.mark.slow) for words in ((3, 0), (2, 1), (3, 1), (2, 2), (3, 2))]


@pytest.mark.parametrize(("steps", "workers"), [(2, 0), *LONG])  # of three, twelve films in batches of four
def test_row_03_resumed_within_an_epoch_or_after_it_a_run_ends_in_the_same_weights(
    tiny, tmp_path, steps, workers, whole
):
    reference, _ = whole
    plugins = {name: dict(section) for name, section in plugins_of(reference).items()}
    config = tiny(plugins=plugins, train={"epochs": EPOCHS}, data={"workers": workers})
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        ceph.train(config, out=run, watcher=StopAt(steps))
    state = checkpoint.load(run / "checkpoints", checkpoint.LAST)["progress"]
    assert (state["epoch"], state["step"]) == (int(steps == 3), steps)
    ceph.resume(run)
    assert same_weights(last_weights(reference), last_weights(run))


def plugins_of(run):
    """The plugins' sections of a run's config."""
    from ceph.config.load import resolve

    return json.loads(resolve(run / "config.yaml").config.model_dump_json())["plugins"]


STEPS = """
import os, time
from ceph.plugin import Plugin, PluginConfig, hookimpl

class Steps(Plugin[PluginConfig]):
    '''Writes down each step; `slow` is there: takes its time for one.'''

    @hookimpl
    def step_end(self, step):
        with open({file!r}, 'a') as file:
            file.write(f'{{step}}\\n')
        if os.path.exists({slow!r}):
            time.sleep(60)
"""


@tries(4, 20)
def test_row_04_a_signal_leaves_a_checkpoint_of_the_last_step_and_a_second_one_ends_at_once(
    tiny_set, tmp_path, tries, nursery
):
    chance, early = random.Random(tries), 0
    for attempt in range(tries):
        number = (signal.SIGINT, signal.SIGTERM)[attempt % 2]
        folder = tmp_path / str(attempt)
        folder.mkdir()
        run, log, slow = folder / "run", folder / "steps", folder / "slow"
        (folder / "steps.py").write_text(STEPS.format(file=str(log), slow=str(slow)))
        twice = attempt % 4 >= 2
        if twice:
            slow.touch()
        words = run_words(tiny_set, run, "--plugin", str(folder / "steps.py"), epochs=500)
        process = (outside if attempt % 4 == 1 and tries > 4 else nursery.start)(words, folder / "io")
        if attempt % 4 == 1:  # before training begins, or soon after
            assert wait_for(lambda process=process: process.catches(signal.SIGTERM))
            time.sleep(chance.uniform(0, 4) if tries > 4 else 0)
        else:
            assert wait_for(log.exists)
            time.sleep(chance.uniform(0, 0.5))
        process.signal(number)
        if twice:
            time.sleep(0.3)
            begin = time.monotonic()
            process.signal(number)
        code, errors = process.wait(60), process.errors()
        assert code == 128 + number, errors
        if twice:
            assert time.monotonic() - begin < 2
            continue
        assert one_message(errors), errors
        if not began(run):
            early += 1
            assert "training had not begun" in errors or errors == f"error: stopped by {number.name}\n"
            continue
        assert f"ceph run --resume {run}" in errors
        done = len(log.read_text().split()) if log.exists() else 0
        assert checkpoint.load(run / "checkpoints", checkpoint.LAST)["progress"]["step"] >= done - 1
    print(f"row 4: {tries} tries, {early} of them before training began")


# As Ctrl-C and a closed terminal send them.
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_row_04_a_signal_to_all_processes_of_a_job_leaves_a_checkpoint_too(tiny_set, tmp_path, nursery, name):
    number, run = getattr(signal, name), tmp_path / "run"
    process = nursery.start(run_words(tiny_set, run, epochs=500, workers=2), tmp_path / "io")
    assert wait_for(lambda: began(run) and len(process.children()) > 1)
    time.sleep(0.3)
    process.signal_all(number)
    code, errors = process.wait(60), process.errors()
    assert code == 128 + number, errors
    assert one_message(errors), errors
    assert "the checkpoint is written" in errors


SOON = [("run", signal.SIGHUP), ("plan", signal.SIGINT)]
LATER = [("run", signal.SIGTERM), ("run", signal.SIGINT), ("plan", signal.SIGTERM), ("plan", signal.SIGHUP)]


@pytest.mark.parametrize(
    ("command", "number"), [*SOON, *(pytest.param(*words, marks=pytest.mark.slow) for words in LATER)]
)
def test_row_04_a_signal_in_the_first_moments_is_one_message_too(tiny_set, tmp_path, command, number):
    words = run_words(tiny_set, tmp_path / "run") if command == "run" else ["plan", "--preset", "base"]
    process = outside(words, tmp_path / "io")
    assert wait_for(lambda: process.catches(signal.SIGTERM))  # the command line is not imported yet
    process.signal(number)
    code, errors = process.wait(60), process.errors()
    assert code == 128 + number, errors
    assert one_message(errors), errors
    assert f"error: stopped by {number.name}" in errors
    assert "Aborted" not in errors


@tries(2, 20)
def test_row_15_of_two_runs_in_one_folder_the_second_refuses(tiny_set, tmp_path, tries, nursery):
    chance = random.Random(0)
    for attempt in range(tries):
        folder = tmp_path / str(attempt)
        run = folder / "run"
        words = run_words(tiny_set, run)
        first = nursery.start(words, folder / "first")
        if attempt % 2:
            wait_for(lambda run=run: began(run))
        time.sleep(chance.uniform(0, 0.1))
        second = nursery.start(words if attempt % 4 < 2 else ["run", "--resume", str(run)], folder / "second")
        codes = {second.wait(): second, first.wait(): first}
        assert 0 in codes, (first.errors(), second.errors())
        assert len(codes) == 2, codes
        refused = next(process for code, process in codes.items() if code)
        assert one_message(refused.errors()), refused.errors()
        says = ("in use by another run", "already holds a run", "no run folder", "holds no checkpoint")
        assert any(text in refused.errors() for text in says), refused.errors()
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


PAUSE = """
import os, signal, sys
from ceph.plugin import Plugin, PluginConfig, hookimpl

paused = []

def pause(event, arguments):
    if event == "open" and not paused and str(arguments[0]).endswith({lock!r}):
        paused.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)

sys.addaudithook(pause)

class Pause(Plugin[PluginConfig]):
    '''Stops this process where it opens the lock of the run folder, which it has made by then.'''

    @hookimpl
    def run_end(self):
        pass
"""


@tries(2, 20)
def test_row_15_a_run_that_comes_late_to_the_lock_leaves_the_other_s_folder_alone(tiny_set, tmp_path, tries, whole):
    reference, nursery = whole
    run, chance = tmp_path / "run", random.Random(tries)
    (tmp_path / "pause.py").write_text(PAUSE.format(lock=f"{run.name}/.lock"))
    late_words = run_words(tiny_set, run, "--plugin", str(tmp_path / "pause.py"))
    late = [nursery.start(late_words, tmp_path / str(attempt)) for attempt in range(tries)]
    assert wait_for(lambda: all(process.stopped() for process in late)), [process.errors() for process in late]
    assert (run / "checkpoints").is_dir()
    first = nursery.start(run_words(tiny_set, run, *shelf(), epochs=EPOCHS), tmp_path / "first")
    assert wait_for(lambda: began(run)), first.errors()
    held = 0
    for attempt, process in enumerate(late):
        if attempt == 0:
            first.signal(signal.SIGSTOP)  # it surely holds the lock
        elif attempt == tries - 1:
            assert first.wait() == 0, first.errors()
        else:
            time.sleep(chance.uniform(0, 0.3))
        before = files(run) if attempt == tries - 1 else {}
        process.signal(signal.SIGCONT)
        code, errors = process.wait(), process.errors()
        assert one_message(errors), errors
        refused = {1: "in use by another run", 2: "already holds a run"}
        assert refused.get(code, "-") in errors, errors
        assert code == {0: 1, tries - 1: 2}.get(attempt, code)
        held += code == 1
        if attempt == 0:
            first.signal(signal.SIGCONT)
    assert files(run) == before
    assert same_weights(last_weights(reference), last_weights(run))
    assert (reference / "metrics.jsonl").read_text() == (run / "metrics.jsonl").read_text()
    print(f"row 15: {tries} came late, {held} of them while the other ran")


def files(folder):
    """All files under a folder, with what is in them."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@tries(3, 24)
def test_row_15_of_many_runs_that_start_at_once_in_one_folder_one_goes_on(tiny_set, tmp_path, tries, whole):
    reference, nursery = whole
    run = tmp_path / "run"
    words = run_words(tiny_set, run, *shelf(), epochs=EPOCHS)
    started = [nursery.start(words, tmp_path / str(attempt)) for attempt in range(tries)]
    codes = [process.wait(300) for process in started]
    assert codes.count(0) == 1, [process.errors() for process in started]
    for code, process in zip(codes, started, strict=True):
        assert code == 0 or one_message(process.errors()), process.errors()
        says = ("in use by another run", "already holds a run")
        assert code == 0 or any(text in process.errors() for text in says), process.errors()
    assert same_weights(last_weights(reference), last_weights(run))
    assert (reference / "metrics.jsonl").read_text() == (run / "metrics.jsonl").read_text()
