"""Row 14 of docs/reliability.md: a loader worker is killed, or shared memory runs out."""

from __future__ import annotations

import random
import signal
import subprocess
import time

import pytest
from tests.reliability.processes import began, one_message, outside, run_words, settings, tries, wait_for


@tries(1, 20)
def test_row_14_a_killed_worker_ends_the_run_in_time_and_says_what_to_lower(tiny_set, tmp_path, tries, nursery):
    chance = random.Random(tries)
    for attempt in range(tries):
        run, folder = tmp_path / str(attempt), tmp_path / f"{attempt}-io"
        process = nursery.start(run_words(tiny_set, run, epochs=500, workers=1 + attempt % 2), folder)
        assert wait_for(lambda run=run, process=process: began(run) and process.children())
        time.sleep(chance.uniform(0, 1))
        chance.choice(process.children()).signal(signal.SIGKILL)
        assert process.wait(60) == 1
        assert one_message(process.errors()), process.errors()
        assert "a loader worker died while" in process.errors()
        assert "hint: memory, or the shared memory of /dev/shm, ran out" in process.errors()


def may_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="needs the right to make a mount namespace")
@pytest.mark.parametrize("kib", [64, 256, 1024])
def test_row_14_shared_memory_that_is_full_ends_the_run_in_time_and_says_what_to_lower(tiny_set, tmp_path, kib):
    shell = f'mount -t tmpfs -o size={kib}k none /dev/shm && exec "$@"'
    words = run_words(
        tiny_set, tmp_path / "run", *settings("data.size=[512,512]", "train.batch_size=12"), epochs=2, workers=2
    )
    process = outside(words, tmp_path / "io", prefix=("unshare", "-m", "sh", "-c", shell, "sh"))
    assert process.wait(240) == 1
    assert one_message(process.errors()), process.errors()
    assert "shared memory" in process.errors()
    assert "lower data.workers" in process.errors()
