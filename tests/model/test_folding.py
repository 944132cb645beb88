"""Batch norms folded into convolutions leave a network's maps as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ceph.model.folding import folded
from ceph.model.network import LandmarkNetwork

IMAGE = torch.rand(2, 1, 96, 64, generator=torch.Generator().manual_seed(0))


def trained_looking(network):
    """A network in evaluation mode whose norms have statistics, scales and shifts of their own."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
    return network.eval()


def norms_in(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@torch.no_grad()
def furthest(one, other):
    maps = one(IMAGE)
    return float((other(IMAGE) - maps).abs().max() / maps.abs().max())


@pytest.mark.parametrize(
    "backbone",
    ["test_resnet", "test_efficientnet", "tf_efficientnet_lite0", "hrnet_w18_small", "mobilenetv3_small_050"],
)
def test_every_norm_is_folded_and_the_maps_stay(backbone):
    torch.manual_seed(0)
    network = trained_looking(LandmarkNetwork(backbone, 5, width=8))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    made, _ = folded(network, IMAGE[:1])
    assert norms_in(network) > 0
    assert norms_in(made) == 0
    assert furthest(network, made) < 1e-4
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Parts(nn.Module):
    """A convolution and a norm, used as `way` says."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.norm.register_forward_hook(lambda *_: None)  # hooks of others neither count nor hinder

    def forward(self, image):
        raw = self.conv(image)
        if self.way == "its output also goes elsewhere":
            return self.norm(raw) + raw
        if self.way == "something between":
            return self.norm(raw.relu())
        if self.way == "something between, in place":
            return self.norm(raw.relu_())
        if self.way == "a norm twice":
            return self.norm(self.norm(raw))
        if self.way == "a convolution twice":
            return self.norm(raw) + self.conv(image.flip(-1))
        return self.norm(raw)


@pytest.mark.parametrize(
    "way",
    [
        "its output also goes elsewhere",
        "something between",
        "something between, in place",
        "a norm twice",
        "a convolution twice",
    ],
)
def test_what_cannot_be_folded_stays_the_model_itself(way):
    torch.manual_seed(0)
    network = trained_looking(Parts(way))
    assert folded(network, IMAGE)[0] is network


def test_one_after_the_other_is_folded():
    torch.manual_seed(0)
    network = trained_looking(Parts("plain"))
    made, _ = folded(network, IMAGE)
    assert norms_in(made) == 0
    assert furthest(network, made) < 1e-5


def test_norms_without_statistics_stay():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    assert folded(network, IMAGE)[0] is network


def test_a_model_that_cannot_be_copied_stays_as_it_is():
    network = trained_looking(Parts("plain"))
    network.kept = network.conv(IMAGE)  # has a history
    assert folded(network, IMAGE)[0] is network
