"""What the codec draws, it reads back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ceph.data.types import Batch
from ceph.model.codec import DECODERS, SUB_PIXEL, GaussianDecoder, GaussianTargets, activate, gaussians, soft_points

SIZE, MAP = (96, 80), (24, 20)


def to_network(map_points, stride=4):
    return (torch.tensor(map_points, dtype=torch.float32) + 0.5) * stride - 0.5


@pytest.mark.parametrize("kind", ["distribution", "heatmap"])
@pytest.mark.parametrize("decoder", SUB_PIXEL)
@given(x=st.floats(0, 19), y=st.floats(0, 23), sigma=st.sampled_from([1.0, 1.5, 2.0, 2.5]))
def test_encoding_and_decoding_agree_to_a_fiftieth_of_a_map_pixel(kind, decoder, x, y, sigma):
    points = to_network([[[x, y]]])
    found, score = GaussianDecoder(kind, sigma, 4, decoder).decode(gaussians(points, MAP, kind, sigma, 4), SIZE)
    assert (found - points).abs().max() <= 0.02 * 4
    assert 0 <= float(score) <= 1


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_is_exact_on_a_pixel_s_centre(decoder, stride):
    points = to_network([[[7.0, 11.0], [0.0, 23.0]]], stride)
    maps = gaussians(points, MAP, "heatmap", 1.5, stride)
    found, score = GaussianDecoder("heatmap", 1.5, stride, decoder).decode(maps, SIZE)
    assert found == pytest.approx(points, abs=0.01)
    assert score == pytest.approx(torch.ones(1, 2), abs=1e-5)


def test_a_uniform_background_does_not_drag_the_point():
    # A global soft-argmax of this map would be 20 px off; a local decoder must not be.
    points = to_network([[[4.3, 5.6]]])
    for decoder in SUB_PIXEL:
        maps = gaussians(points, MAP, "heatmap", 1.5, 4) + 0.003
        found, _ = GaussianDecoder("heatmap", 1.5, 4, decoder).decode(maps, SIZE)
        assert (found - points).abs().max() < 0.3


def test_a_distribution_sums_to_one_and_a_heatmap_peaks_at_one():
    points = to_network([[[7.0, 11.0], [0.2, 0.2]]])
    assert gaussians(points, MAP, "distribution", 1.5, 4).sum((2, 3)) == pytest.approx(torch.ones(1, 2))
    assert gaussians(points, MAP, "heatmap", 1.5, 4)[0, 0].max() == 1


def test_targets_are_drawn_about_the_points_of_a_batch():
    points = to_network([[[7.0, 11.0], [3.2, 9.6]]])
    batch = Batch(torch.zeros(1, 1, *SIZE), points, *(torch.zeros(1),) * 4)
    for kind in ("distribution", "heatmap"):
        assert torch.equal(GaussianTargets(kind, 1.5, 4).encode(batch, MAP), gaussians(points, MAP, kind, 1.5, 4))


def test_a_point_far_outside_leaves_a_finite_target():
    target = gaussians(torch.tensor([[[5000.0, -900.0]]]), MAP, "distribution", 1.5, 4)
    assert torch.isfinite(target).all()


def test_activations_follow_the_kind():
    raw = torch.randn(2, 3, 5, 4)
    assert activate(raw, "distribution").sum((2, 3)) == pytest.approx(torch.ones(2, 3))
    assert activate(raw, "heatmap") == pytest.approx(raw.sigmoid())


@pytest.mark.parametrize("kind", ["distribution", "heatmap"])
def test_soft_points_find_the_point_and_pass_gradients(kind):
    points = to_network([[[7.3, 11.6]]])
    heat = gaussians(points, MAP, "heatmap", 1.5, 4).clamp(1e-9, 1 - 1e-6)
    raw = (heat.log() if kind == "distribution" else heat.logit()).requires_grad_()
    found = soft_points(raw, kind, SIZE)
    assert found.detach() == pytest.approx(points, abs=0.1)
    found[..., 0].sum().backward()
    assert raw.grad is not None
    assert raw.grad.abs().sum() > 0


def test_a_flat_or_broken_map_still_decodes_to_a_point_inside():
    for maps in (torch.zeros(1, 1, *MAP), torch.ones(1, 1, *MAP)):
        for decoder in DECODERS:
            found, _ = GaussianDecoder("heatmap", 1.5, 4, decoder).decode(maps, SIZE)
            assert torch.isfinite(found).all()
            assert (found >= -8).all()
            assert (found <= 104).all()
