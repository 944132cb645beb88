"""coordinate-loss: a distance and a divergence that are what they say, with gradients, and a run with it."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import ceph
from ceph.config.models import Config, LossConfig
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph.model.codec import GaussianDecoder, gaussians
from ceph_plugins.coordinate_loss import CoordinateLoss, CoordinateLossConfig, coordinate_loss, expected, jensen_shannon

DECODER = GaussianDecoder("distribution", 1.5, 4, "dark")
SIZE, MAP = (96, 128), (24, 32)


def target(x=60.0, y=50.0):
    return gaussians(torch.tensor([[[x, y]]]), MAP, "distribution", 1.5, 4)


@given(x=st.floats(30, 97), y=st.floats(30, 65))
def test_the_expected_point_of_a_target_is_its_point(x, y):
    found = (expected(target(x, y)) + 0.5) * 4 - 0.5
    assert torch.allclose(found, torch.tensor([[[x, y]]]), atol=1e-2)


@given(seed=st.integers(0, 999))
def test_the_divergence_is_symmetric_never_negative_and_at_most_log_2(seed):
    generator = torch.Generator().manual_seed(seed)
    p, t = (torch.randn(1, 2, 5, 6, generator=generator).mul(4).flatten(2).softmax(-1).view(1, 2, 5, 6) for _ in "pt")
    one, other = jensen_shannon(p.log(), t), jensen_shannon(t.log(), p)
    assert (one > -1e-7).all()
    assert torch.allclose(one, other, atol=1e-6)
    assert (one.sum((-2, -1)) <= math.log(2) + 1e-6).all()


def test_the_divergence_of_two_known_distributions():
    p, t = torch.tensor([[[[0.5, 0.5]]]]), torch.tensor([[[[1.0, 0.0]]]])
    # m = (3/4, 1/4): (0.5 log(2/3) + 0.5 log 2 + log(4/3)) / 2
    by_hand = (0.5 * math.log(2 / 3) + 0.5 * math.log(2) + math.log(4 / 3)) / 2
    assert jensen_shannon(p.log(), t).sum().item() == pytest.approx(by_hand, rel=1e-5)


def test_a_map_that_is_the_target_has_no_loss():
    at = target()
    assert coordinate_loss(1.0)(at.clamp_min(1e-30).log(), at, None).item() == pytest.approx(0, abs=1e-4)


def test_without_the_divergence_the_loss_is_the_distance_in_half_widths():
    moved = target(60 + 4 * 8, 50 + 4 * 6).clamp_min(1e-30).log()  # 8 map px of 32, 6 of 24
    assert coordinate_loss(0.0)(moved, target(), None).item() == pytest.approx(math.hypot(8 / 16, 6 / 12), rel=1e-3)


def test_following_the_gradient_brings_the_expected_point_to_the_truth():
    pred = torch.zeros(1, 1, *MAP, requires_grad=True)
    optimizer = torch.optim.Adam([pred], lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = coordinate_loss(1.0)(pred, target(), None).sum()
        loss.backward()
        optimizer.step()
    found, _ = DECODER.decode(pred.detach().flatten(2).softmax(-1).view_as(pred), SIZE)
    assert torch.dist(found, torch.tensor([[[60.0, 50.0]]])) < 0.5


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_loss_and_gradient_are_finite_for_flat_and_for_sharp_maps(scale):
    pred = (scale * torch.randn(2, 3, *MAP)).requires_grad_()
    points = torch.tensor([[60.0, 50.0], [0.0, 0.0], [500.0, -90.0]]).expand(2, 3, 2)
    loss = coordinate_loss(1.0)(pred, gaussians(points, MAP, "distribution", 1.5, 4), None)
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    assert loss.shape == (2, 3)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient).all()


def test_weights_of_pixels_weigh_the_divergence_only():
    pred, at = torch.randn(1, 1, *MAP), target()
    plain, distance = coordinate_loss(1.0)(pred, at, None), coordinate_loss(0.0)(pred, at, None)
    doubled = coordinate_loss(1.0)(pred, at, torch.full((1, 1, *MAP), 2.0))
    assert torch.allclose(doubled - distance, 2 * (plain - distance), rtol=1e-4)


def test_a_loss_that_trains_heatmaps_is_refused(make_run):
    run = dataclasses.replace(make_run(), config=Config(loss=LossConfig(name="adaptive-wing")))
    with pytest.raises(ConfigError, match=r"loss.name: the loss adaptive-wing trains heatmaps.*\n.*cross-entropy"):
        Hooks({"coordinate-loss": CoordinateLoss()}).tell("check_run", run=run)


def test_a_run_trains_with_it_beside_pixel_mining(tiny, tmp_path):
    plugins = {"coordinate-loss": {}, "hard-mining": {"warmup_epochs": 1, "pixels": True}}
    assert ceph.train(tiny(plugins=plugins), out=tmp_path / "run").metrics["mre_mm"] > 0


def test_wrong_settings_are_refused():
    with pytest.raises(ValidationError):
        CoordinateLossConfig(divergence=-1)
