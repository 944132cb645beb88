"""Any timm backbone becomes a landmark network of the asked stride."""

from __future__ import annotations

import pytest
import torch

from ceph.errors import CephError, CheckpointError, ConfigError
from ceph.model.network import LandmarkNetwork, between, enlarged
from ceph.model.weights import OFFLINE, fill, load_backbone_weights, offline_weights, read_weights, transfer

SMALL = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit")


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("stride", [2, 4])
def test_maps_have_the_asked_stride_at_any_size(backbone, stride):
    network = LandmarkNetwork(backbone, 5, stride=stride, width=8).eval()
    with torch.no_grad():
        for height, width in ((96, 64), (70, 50)):
            maps = network(torch.rand(1, 1, height, width))
            assert maps.shape == (1, 5, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize(("size", "larger"), [((8, 6), (16, 12)), ((9, 7), (17, 13)), ((5, 4), (20, 16))])
def test_two_matrix_products_enlarge_maps_as_torch_does(size, larger):
    maps = torch.rand(2, 3, *size, dtype=torch.float64)
    products = between(size[0], larger[0], maps).mT @ maps @ between(size[1], larger[1], maps)
    torch.testing.assert_close(products, enlarged(maps, larger))


def test_an_untrained_heatmap_is_nearly_empty():
    network = LandmarkNetwork("test_resnet", 5, width=8, prior=0.01).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, 64, 64)).sigmoid().mean() < 0.1


def test_an_unknown_backbone_names_a_near_one():
    with pytest.raises(ConfigError, match=r"model.backbone.*no model 'resnet5O'(.|\n)*did you mean 'resnet50'"):
        LandmarkNetwork("resnet5O", 5)


def test_the_offline_weights_fill_their_backbone_and_see_grey_as_rgb():
    import timm

    network = LandmarkNetwork(OFFLINE, 3).eval()
    done = load_backbone_weights(network, OFFLINE, "auto")
    assert "offline" in done
    rgb = timm.create_model(OFFLINE, features_only=True, pretrained=False).eval()
    rgb.load_state_dict(offline_weights(), strict=False)
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        theirs = rgb((image * 2 - 1).expand(-1, 3, -1, -1))
        ours = network.backbone(image * network.input_scale + network.input_shift)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_offline_weights_are_refused_for_another_backbone():
    network = LandmarkNetwork("test_resnet", 3, width=8)
    with pytest.raises(ConfigError, match="tf_efficientnet_lite0"):
        load_backbone_weights(network, "test_resnet", "offline")


def test_weights_that_fit_no_layer_are_refused():
    network = LandmarkNetwork("test_resnet", 3, width=8)
    with pytest.raises(ConfigError, match="do not fit"):
        fill(network.backbone, {"some.weight": torch.zeros(3)})


def test_weights_travel_by_file_and_a_pickle_is_never_run(tmp_path):
    network = LandmarkNetwork("test_resnet", 3, width=8)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    other = LandmarkNetwork("test_resnet", 3, width=8)
    load_backbone_weights(other, "test_resnet", str(tmp_path / "net.pt"))
    for name, tensor in other.backbone.state_dict().items():
        assert torch.equal(tensor, network.backbone.state_dict()[name])

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="no readable weights"):
        read_weights(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(CephError, match="no file"):
        read_weights(tmp_path / "none.pt")


def test_landmarks_are_matched_by_symbol_when_weights_are_transferred():
    old, new = LandmarkNetwork("test_resnet", 3, width=8), LandmarkNetwork("test_resnet", 2, width=8)
    note = transfer(new, old.state_dict(), ("S", "N", "Go"), ("Go", "Co"))
    assert "1 of 2" in note
    assert torch.equal(new.head.weight[0], old.head.weight[2])
    assert torch.equal(new.smooth[0][0].weight, old.smooth[0][0].weight)


def test_another_network_s_weights_are_refused():
    old, new = LandmarkNetwork("test_resnet", 3, width=8), LandmarkNetwork("test_resnet", 3, width=16)
    with pytest.raises(CheckpointError, match="do not fit"):
        transfer(new, old.state_dict(), ("S", "N", "Go"), ("S", "N", "Go"))
