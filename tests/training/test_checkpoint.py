"""A checkpoint is whole and checked, or it is not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from ceph.errors import CheckpointError
from ceph.training import checkpoint


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint.save(tmp_path, checkpoint.LAST, {"model": {"w": torch.arange(3.0)}, "epoch": 2, "note": None})
    content = checkpoint.load(tmp_path, checkpoint.LAST)
    assert torch.equal(content["model"]["w"], torch.arange(3.0))
    assert (content["epoch"], content["note"]) == (2, None)


def test_the_one_before_last_is_kept(tmp_path):
    for epoch in range(3):
        checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": epoch})
    assert checkpoint.load(tmp_path, checkpoint.LAST)["epoch"] == 2
    assert checkpoint.load(tmp_path, checkpoint.PREVIOUS)["epoch"] == 1


def test_any_flipped_bit_is_noticed_and_the_one_before_is_taken(tmp_path):
    for epoch in range(2):
        checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": epoch, "w": torch.zeros(20)})
    path = tmp_path / checkpoint.LAST
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 60):
        broken = bytearray(whole)
        broken[place] ^= 0x10
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(tmp_path, checkpoint.LAST)
        content, note = checkpoint.load_last(tmp_path)
        assert content["epoch"] == 0
        assert "last.safetensors is damaged" in note


def test_a_damaged_last_never_pushes_out_the_good_one_before_it(tmp_path):
    for epoch in range(2):
        checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": epoch})
    (tmp_path / checkpoint.LAST).write_bytes(b"damaged")
    checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": 2})
    assert checkpoint.load(tmp_path, checkpoint.PREVIOUS)["epoch"] == 0
    assert checkpoint.load(tmp_path, checkpoint.LAST)["epoch"] == 2


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_checkpoint_cut_off_anywhere_is_noticed(tmp_path, share):
    checkpoint.save(tmp_path, checkpoint.LAST, {"w": torch.zeros(50)})
    path = tmp_path / checkpoint.LAST
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path, checkpoint.LAST)


def test_a_pickle_is_never_run_even_under_its_right_sum(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    checkpoint.save(tmp_path, checkpoint.LAST, {"evil": Evil()})
    with pytest.raises(CheckpointError, match="not one of ours"):
        checkpoint.load(tmp_path, checkpoint.LAST)
    assert not (tmp_path / "pwned").exists()


def test_a_missing_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.load_last(tmp_path)


WRITER = """
import sys, torch
from pathlib import Path
from ceph.training import checkpoint
folder = Path(sys.argv[1])
for epoch in range(10**6):
    checkpoint.save(folder, checkpoint.LAST, {"epoch": epoch, "w": torch.full((200_000,), float(epoch))})
    print(epoch, flush=True)
"""


@pytest.mark.parametrize("tries", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_while_writing_nothing_that_was_acknowledged_is_lost(tmp_path, tries):
    for attempt in range(tries):
        folder = tmp_path / str(attempt)
        command = [sys.executable, "-c", WRITER, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            acknowledged = [int(writer.stdout.readline()) for _ in range(2)][-1]
            time.sleep(0.003 * (attempt % 20))
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
        content, note = checkpoint.load_last(folder)
        assert content["epoch"] >= acknowledged, note
        assert (content["w"] == content["epoch"]).all()


def test_a_full_or_forbidden_folder_is_one_clear_error_and_keeps_what_was_there(tmp_path):
    checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": 0})
    (tmp_path / ".last.safetensors.new").mkdir()  # stands for any write that fails
    with pytest.raises(CheckpointError, match="cannot write"):
        checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": 1})
    assert checkpoint.load(tmp_path, checkpoint.LAST)["epoch"] == 0
