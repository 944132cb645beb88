"""The largest batch is the one that trained: it is found by real steps, within the memory that there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch

from ceph.cli.app import main
from ceph.config.load import from_values
from ceph.tools.doctor import examine
from ceph.tools.largest_batch import free_memory, grow, largest_batch

WITHIN = """
import json, resource, sys
import ceph
from ceph.config.load import from_values
from ceph.tools.largest_batch import largest_batch
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
config = json.loads(sys.argv[1])
if "batch_size" in config["train"]:
    ceph.train(config, out="run")
else:
    print(largest_batch(from_values(config)))
"""


def machine(room, *, base=100, each=7, seconds=0.0, quiet=0):
    """Steps on a device of `room` bytes, of which a batch takes `base + each` a film; the films asked for."""
    asked = []

    def step(films):
        asked.append(films)
        if base + each * films > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return max(base + each * films, quiet), seconds * films

    return step, asked


@pytest.mark.parametrize("room", [200, 815, 1000, 3000])
def test_the_largest_that_fits_is_found_to_a_sixteenth_and_nothing_is_tried_that_the_estimate_forbids(room):
    step, asked = machine(room)
    tried, why = grow(step, room)
    fits = (room - 100) // 7
    assert why == "memory"
    assert fits - fits // 16 <= max(asked) <= fits
    assert [t.films for t in tried] == asked == sorted(asked)


def test_where_the_estimate_was_wrong_what_ran_out_is_bounded_from_both_sides():
    tried, why = grow(machine(800)[0], room=2000)  # less is there than the device says
    best = max(t.films for t in tried if t.taken is not None)
    assert (why, best) == ("memory", 96)
    assert {t.films for t in tried if t.taken is None} == {128, 112, 104}


def test_a_step_that_shows_no_growth_is_followed_by_one_of_twice_the_films():
    step, asked = machine(10_000, quiet=500)
    assert grow(step, 10_000, most=64)[1] == "films"
    assert asked == [2, 4, 8, 16, 32, 64]


def test_it_ends_where_no_film_is_left_where_steps_take_too_long_and_where_nothing_fits():
    assert grow(machine(10_000)[0], 10_000, most=50)[0][-1].films == 50
    tried, why = grow(machine(10_000, seconds=1.0)[0], 10_000)
    assert (tried[-1].films, why) == (30, "time")
    tried, why = grow(machine(50)[0], 50)
    assert ([t.taken for t in tried], why) == ([None], "memory")


def test_another_error_of_a_step_is_not_taken_for_a_lack_of_memory():
    def step(_films):
        raise ValueError("a plugin's")

    with pytest.raises(ValueError, match="a plugin's"):
        grow(step, 100)


def test_free_memory_is_the_least_that_machine_and_container_leave(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:  500 kB\n")
    assert free_memory(tmp_path, tmp_path / "none") == 500 * 1024
    (tmp_path / "memory.max").write_text("400000\n")
    (tmp_path / "memory.current").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 250000\ninactive_file 50000\n")
    assert free_memory(tmp_path, tmp_path) == 150_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path, tmp_path) == 500 * 1024


def test_real_steps_of_a_config_with_plugins_tell_the_batch_and_leave_nothing_behind(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny(plugins={"multi-scale": {"scales": [1.0, 2.0]}, "hard-mining": {}, "ema": {}})
    found = largest_batch(from_values(config), most=8)
    assert [t.films for t in found.tried] == [2, 4, 8]
    assert (found.why, found.size) == ("films", (128, 128))
    assert re.match(r"8 films at 128 x 128 px on cpu, fp32: a training step was tried and took \d\.\d GB", str(found))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_within_a_limit_a_run_trains_that_batch_while_one_of_all_films_runs_out(tiny, tmp_path):
    config = tiny(data={"size": [256, 208]}, evaluate={"batch_size": 1}, train={"epochs": 1})
    del config["train"]["batch_size"]

    def within(**train):
        words = json.dumps({**config, "train": {**config["train"], **train}})
        done = subprocess.run(
            [sys.executable, "-c", WITHIN, words], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        return done.stdout + done.stderr

    found = re.search(r"(\d+) films at 256 x 208 px on cpu, fp32: .* ran out of memory", text := within())
    assert found, text
    films = int(found.group(1))
    assert 2 < films < 8, text  # there are twelve to train with
    text = within(batch_size=films)
    assert (tmp_path / "run" / "metrics.json").exists(), text
    shutil.rmtree(tmp_path / "run")
    assert "out of memory while training a batch" in within(batch_size=12)


@pytest.mark.slow
def test_the_doctor_tries_the_default_network_where_that_is_asked_for(capsys):
    assert not any(one.check == "batch" for one in examine())
    assert main(["doctor", "--batch"]) in (0, 1)
    assert re.search(r"batch +the default network trains \d+ films at 512 x 416 px on", capsys.readouterr().out)
