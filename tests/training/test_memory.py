"""A machine that is exhausted says what was tried and which setting to lower; other errors pass."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ceph.errors import DataError, TrainingError
from ceph.training.memory import explained

ALLOCATE = """
import resource, torch
from ceph.cli.console import print_error
from ceph.errors import TrainingError
from ceph.training.memory import explained
net = torch.nn.Conv2d(1, 64, 3)
images = torch.zeros(4, 1, 1024, 768)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 50 * 2**20,) * 2)
try:
    with explained("training a batch of 4 films at 1024x768 px"):
        net(images).sum().backward()
except TrainingError as error:
    print_error(error)
"""


def test_a_real_allocation_that_fails_names_batch_size_and_the_setting_to_lower():
    done = subprocess.run([sys.executable, "-c", ALLOCATE], capture_output=True, text=True, check=True)
    assert "error: out of memory while training a batch of 4 films at 1024x768 px" in done.stderr
    assert "hint: lower train.batch_size (raise train.accumulate as much" in done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_allocation_that_fails_on_a_gpu_is_explained():
    with pytest.raises(TrainingError, match="out of memory while"), explained("training"):
        torch.empty(2**45, device="cuda")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "out of memory while loading: MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "Tried to allocate 2.00 GiB"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "a loader worker died while loading"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "data.workers"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>"), r"/dev/shm(.|\n)*--shm-size"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "shared memory"),
    ],
)
def test_each_kind_of_exhaustion_has_its_words(error, says):
    with pytest.raises(TrainingError, match=says), explained("loading"):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), DataError("out of memory"), KeyboardInterrupt()])
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as found, explained("loading"):
        raise error
    assert found.value is error
