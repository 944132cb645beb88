"""A checkpoint is whole and checked, or it is not there."""

from __future__ import annotations

import hashlib
import math

import pytest
import safetensors.torch
import torch

from ceph.errors import CheckpointError
from ceph.model.weights import put, read_weights
from ceph.training import checkpoint
from ceph.training.packing import pack, unpack


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


def test_a_damaged_last_never_pushes_out_the_good_one_before_it(tmp_path):
    for epoch in range(2):
        checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": epoch})
    (tmp_path / checkpoint.LAST).write_bytes(b"damaged")
    checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": 2})
    assert checkpoint.load(tmp_path, checkpoint.PREVIOUS)["epoch"] == 0
    assert checkpoint.load(tmp_path, checkpoint.LAST)["epoch"] == 2


def test_what_is_no_plain_value_is_refused_by_its_path_and_leaves_the_checkpoint(tmp_path):
    checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": 0})
    with pytest.raises(CheckpointError, match=r"plugins\.mine\.0 is of type object"):
        checkpoint.save(tmp_path, checkpoint.LAST, {"plugins": {"mine": [object()]}})
    assert checkpoint.load(tmp_path, checkpoint.LAST)["epoch"] == 0


def test_types_keys_order_sharing_and_strides_come_back_as_they_were():
    weight = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    content = {
        "state": {0: {"step": torch.tensor(3), "average": weight}, 7: {}},
        "a": {"b": torch.ones(2)},
        "a.b": weight[0],
        "twins": [weight, weight],
        "plain": [None, True, 1, 10**30, 0.1, math.inf, "é\0", (1, (2,)), {"k": []}],
        "half": torch.ones(3, dtype=torch.bfloat16),
        "none": torch.zeros(0, 2, dtype=torch.bool),
    }
    back = unpack(pack(content))
    assert list(back) == list(content)
    assert list(back["state"]) == [0, 7]
    assert back["plain"] == content["plain"]
    assert [type(v) for v in back["plain"]] == [type(v) for v in content["plain"]]
    assert back["half"].dtype == torch.bfloat16
    assert back["none"].shape == (0, 2)
    for one in (back["state"][0]["average"], *back["twins"]):
        assert torch.equal(one, weight)
        assert one.stride() == weight.stride()
    assert torch.equal(back["a.b"], weight[0])
    assert torch.equal(back["a"]["b"], torch.ones(2))


def test_weights_are_plain_safetensors_that_other_programs_read(tmp_path):
    checkpoint.save(tmp_path, checkpoint.BEST, {"model": {"head.weight": torch.ones(2, 3)}, "epoch": 1})
    found = safetensors.torch.load_file(tmp_path / checkpoint.BEST)
    assert found["model.head.weight"].shape == (2, 3)
    assert read_weights(tmp_path / checkpoint.BEST).keys() == {"head.weight"}


@pytest.mark.parametrize(
    "wrong", [b"", b"PK", b"{}", safetensors.torch.save({"a": torch.ones(1)}, {"ceph": "[" * 9**5})]
)
def test_what_we_did_not_write_is_refused_even_under_its_right_sum(tmp_path, wrong):
    (tmp_path / checkpoint.LAST).write_bytes(wrong)
    (tmp_path / f"{checkpoint.LAST}.sha256").write_text(hashlib.sha256(wrong).hexdigest())
    with pytest.raises(CheckpointError, match="not one of ours"):
        checkpoint.load(tmp_path, checkpoint.LAST)


def test_a_state_that_does_not_fit_the_network_is_named_by_a_tensor_and_both_shapes():
    with pytest.raises(CheckpointError, match=r"'bias' among them \(network: \(4,\); weights: \(2,\)\)"):
        put(torch.nn.Linear(3, 4), {"weight": torch.ones(4, 3), "bias": torch.ones(2)})


def test_a_missing_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        checkpoint.load_last(tmp_path)


def test_a_full_or_forbidden_folder_is_one_clear_error_and_keeps_what_was_there(tmp_path):
    checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": 0})
    (tmp_path / checkpoint.PREVIOUS).mkdir()  # stands for any write that fails; tests/reliability has real ones
    with pytest.raises(CheckpointError, match="cannot write"):
        checkpoint.save(tmp_path, checkpoint.LAST, {"epoch": 1})
    assert checkpoint.load(tmp_path, checkpoint.LAST)["epoch"] == 0
