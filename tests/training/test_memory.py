"""A machine that is exhausted says what was tried and which setting to lower; other errors pass."""

from __future__ import annotations

import subprocess
import sys

import cv2
import pytest
import torch
from PIL import ImageFile

from ceph.config.load import from_values
from ceph.errors import CheckpointError, DataError, PluginError, TrainingError
from ceph.hooks.verbs import Hooks
from ceph.plugin import Plugin, hookimpl
from ceph.run.prepare import prepare
from ceph.run.train import build, new_network
from ceph.training.engine import restore
from ceph.training.memory import NETWORK, explained, predicting

TOO_MUCH = 2**50  # bytes that no machine has

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
        (RuntimeError("can't start new thread"), "no more threads or processes(.|\n)*hint: lower data.workers"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "no more threads or processes"),
        (RuntimeError("could not create a primitive"), "out of memory while loading"),  # oneDNN's only word
        (cv2.error("OpenCV(4) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"), "out of mem"),
        (ImageFile._get_oserror(-9, encoder=False), "out of memory while loading"),  # Pillow's own text
    ],
)
def test_each_kind_of_exhaustion_has_its_words(error, says):
    with pytest.raises(TrainingError, match=says), explained("loading"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes differ"),
        RuntimeError("could not create a primitive descriptor for a convolution"),
        DataError("x.png: out of memory while reading its 10 x 10 pixels"),
        PluginError("plugin 'odd' 1.0, hook truth: KeyError: 'memory'"),
        CheckpointError("last.safetensors is damaged"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as found, explained("loading"):
        raise error
    assert found.value is error


def test_the_hint_is_that_of_what_was_tried():
    hints = {}
    for lower in (NETWORK, predicting(16), predicting(1), predicting(16, scales=3)):
        with pytest.raises(TrainingError) as found, explained("trying", lower):
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        hints[lower] = found.value.problems[0].hint
    assert list(hints.values()) == [
        "lower model.width, or choose a smaller model.backbone",
        "lower evaluate.batch_size; then data.size",
        "lower data.size",
        "lower evaluate.batch_size; then data.size or the number of evaluate.scales",
    ]


class Greedy(Plugin):
    @hookimpl
    def epoch_start(self, epoch):
        torch.empty(TOO_MUCH, dtype=torch.uint8)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_a_plugin_in_whose_hook_memory_ran_out_is_named_but_not_blamed():
    hooks = Hooks({"greedy": Greedy()}, {"greedy": "1.0"})
    with pytest.raises(TrainingError) as found, explained("training a batch of 4 films at 64x64 px"):
        hooks.tell("epoch_start", epoch=0, model=None)
    (problem,) = found.value.problems
    start = "out of memory while training a batch of 4 films at 64x64 px: plugin 'greedy' 1.0, hook epoch_start: "
    assert problem.what.startswith(start)
    assert "tried to allocate 1125899906842624 bytes" in problem.what
    assert problem.hint.startswith("lower train.batch_size")
    assert problem.hint.endswith("; else mend the plugin, or run without it: --without greedy")


def test_what_a_plugin_met_in_a_loader_worker_is_known_by_its_words():
    error = PluginError("plugin 'greedy' 1.0, hook truth: MemoryError: Unable to allocate 8.00 GiB (greedy.py, line 7)")
    with pytest.raises(TrainingError, match="out of memory while loading: plugin 'greedy'"), explained("loading"):
        raise error


def test_memory_that_runs_out_while_a_checkpoint_is_restored_is_no_fault_of_the_checkpoint(tiny, tmp_path):
    prepared = prepare(from_values(tiny()))
    job = build(prepared, new_network(prepared), tmp_path)
    content = {"model": job.model.state_dict(), "optimizer": job.optimizer.state_dict()}
    job.model.register_load_state_dict_pre_hook(lambda *_: torch.empty(TOO_MUCH, dtype=torch.uint8))
    with pytest.raises(TrainingError, match="out of memory while putting the checkpoint into the network") as found:
        restore(job, content)
    assert found.value.problems[0].hint.startswith("the network is as large as it was trained; end other programs")


def test_an_error_that_says_what_is_wrong_passes_unless_memory_is_behind_it():
    with pytest.raises(CheckpointError, match="cannot write"), explained("running runs/torch_one"):
        raise CheckpointError("cannot write it") from PermissionError(13, "Permission denied", "runs/torch_one/x")
    try:
        torch.empty(TOO_MUCH, dtype=torch.uint8)
    except RuntimeError as error:
        behind = error
    with pytest.raises(TrainingError, match="out of memory while building: .*tried to allocate"), explained("building"):
        raise CheckpointError("the weights do not fit") from behind
