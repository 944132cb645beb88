"""attention-head: the network starts as the core's own, learns its gates, and keeps its backbone and its shapes."""

import pytest
import torch
from pydantic import ValidationError
from tests.training.runs import last_weights

import ceph
from ceph.config.load import from_values
from ceph.run.assembly import make_model
from ceph.run.prepare import prepare
from ceph.run.train import check
from ceph_plugins.attention_head import AttentionHeadConfig, CoordinateAttention


def network(values, seed=5):
    prepared = prepare(from_values(values))
    torch.manual_seed(seed)
    return make_model(prepared.config, prepared.hooks, prepared.run)


@pytest.mark.parametrize("stride", [2, 4])
def test_an_untrained_network_gives_the_maps_of_the_core_s_own_bit_for_bit(tiny, stride):
    images = torch.rand(2, 1, 70, 64, generator=torch.Generator().manual_seed(0))
    plain, refined = (network(tiny(model={"stride": stride}, plugins=p)) for p in ({}, {"attention-head": {}}))
    assert torch.equal(plain(images), refined(images))
    assert {name for name, _ in refined.backbone.named_parameters()} == {
        name for name, _ in plain.backbone.named_parameters()
    }
    added = refined.state_dict().keys() - plain.state_dict().keys()
    assert plain.state_dict().keys() <= refined.state_dict().keys()
    assert added
    assert all(name.startswith("smooth.") for name in added)


def test_a_gate_weighs_whole_rows_and_whole_columns():
    torch.manual_seed(0)
    block = CoordinateAttention(16, 4).eval()
    for gate in (block.rows, block.columns):
        torch.nn.init.normal_(gate.weight, std=3.0)
    features = torch.rand(2, 16, 5, 7) + 0.5
    ratio = block(features) / features
    torch.testing.assert_close(ratio[..., 1:, 1:] * ratio[..., :1, :1], ratio[..., :1, 1:] * ratio[..., 1:, :1])
    assert ratio.min() >= 0
    assert ratio.max() <= 4
    assert ratio.std() > 0.1
    turned = block(features.mT)
    assert turned.shape == (2, 16, 7, 5)


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(64, 8, 8), (64, 2, 32), (8, 8, 8)])
def test_the_block_works_on_fewer_channels_but_eight_at_least(channels, reduction, hidden):
    assert CoordinateAttention(channels, reduction).rows.in_channels == hidden


def test_it_trains_and_its_gates_learn(tiny, tmp_path):
    config = tiny(plugins={"attention-head": {"reduction": 2}}, train={"epochs": 1})
    result = ceph.train(config, out=tmp_path / "run")
    assert result.metrics["mre_mm"] > 0
    gates = [t for n, t in last_weights(result.folder).items() if n.endswith(("rows.weight", "columns.weight"))]
    assert len(gates) >= 6
    assert all(gate.abs().max() > 0 for gate in gates)
    assert ceph.load(result.folder).evaluate()[0]["mre_mm"] == result.metrics["mre_mm"]
    assert "M parameters" in check(config)


def test_wrong_settings_are_refused():
    with pytest.raises(ValidationError):
        AttentionHeadConfig(reduction=0)
