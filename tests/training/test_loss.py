"""Criteria are unreduced and the training loss is one masked, weighted mean."""

from __future__ import annotations

import math

import pytest
import torch

from ceph.model.codec import gaussians
from ceph.training.loss import CRITERIA, adaptive_wing, cross_entropy, weighted_mean

KIND = {"cross-entropy": "distribution"}


def target_for(name, points):
    return gaussians(points, (16, 12), KIND.get(name, "heatmap"), 1.5, 4)


def right_answer(name, target):
    return target.clamp_min(1e-9).log() if name == "cross-entropy" else target.clamp(1e-6, 1 - 1e-6).logit()


POINTS = torch.tensor([[[13.0, 30.0], [40.0, 12.0]], [[22.5, 22.5], [5.0, 60.0]]])


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_each_criterion_gives_one_fp32_number_for_each_landmark_of_each_film(name):
    target = target_for(name, POINTS)
    pred = torch.randn(target.shape, requires_grad=True)
    loss = CRITERIA[name](pred, target, None)
    assert loss.shape == (2, 2)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert torch.isfinite(pred.grad).all()


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_the_right_answer_costs_less_than_a_wrong_one_and_is_stationary(name):
    target = target_for(name, POINTS)
    right = right_answer(name, target).requires_grad_()
    wrong = right_answer(name, target_for(name, POINTS.flip(1)))
    best = CRITERIA[name](right, target, None)
    assert (best < CRITERIA[name](wrong, target, None)).all()
    best.sum().backward()
    assert right.grad.abs().max() < 1e-2


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_pixel_weights_of_one_change_nothing_and_others_do(name):
    target, pred = target_for(name, POINTS), torch.randn(2, 2, 16, 12)
    plain = CRITERIA[name](pred, target, None)
    assert CRITERIA[name](pred, target, torch.ones(1)) == pytest.approx(plain, rel=1e-5)
    heavy = torch.ones(16, 12)
    heavy[:8] = 3.0
    assert (CRITERIA[name](pred, target, heavy) > plain).all()


def test_cross_entropy_is_log_pixels_for_a_flat_map():
    target = target_for("cross-entropy", POINTS)
    assert cross_entropy(torch.zeros(2, 2, 16, 12), target, None) == pytest.approx(torch.full((2, 2), math.log(192)))


def test_a_pixel_weight_of_two_counts_a_background_pixel_twice():
    target = torch.zeros(1, 1, 1, 2)
    target[..., 0] = 1
    pred = torch.zeros(1, 1, 1, 2)
    weights = torch.tensor([[[[1.0, 2.0]]]])
    assert cross_entropy(pred, target, weights).item() == pytest.approx(math.log(3))


def test_adaptive_wing_has_the_paper_s_values():
    # Wang et al. 2019, equation 3, written out for one pixel of the foreground, whose weight is 1 + 10.
    target = torch.ones(1, 1, 1, 1)
    alpha, omega, epsilon, theta = 2.1, 14.0, 1.0, 0.5
    power = alpha - 1
    slope = omega / (1 + (theta / epsilon) ** power) * power * (theta / epsilon) ** (power - 1) / epsilon
    offset = theta * slope - omega * math.log(1 + (theta / epsilon) ** power)
    for prob in (0.2, 0.9):
        gap = 1 - prob
        value = slope * gap - offset if gap >= theta else omega * math.log(1 + gap**power)
        pred = torch.tensor(prob).logit().view(1, 1, 1, 1)
        assert adaptive_wing(pred, target, None).item() == pytest.approx(11 * value, rel=1e-4)


def test_the_mean_counts_valid_points_only_and_ignores_the_scale_of_weights():
    loss = torch.tensor([[1.0, 2.0], [3.0, 100.0]])
    valid = torch.tensor([[True, True], [True, False]])
    assert weighted_mean(loss, valid, None).item() == pytest.approx(2.0)
    weights = torch.tensor([1.0, 3.0])
    once = weighted_mean(loss, valid, weights)
    assert once.item() == pytest.approx((1 + 6 + 3) / 5)
    assert weighted_mean(loss, valid, weights * 7).item() == pytest.approx(once.item())


def test_zero_one_weights_are_top_k_mining_exactly():
    loss, valid = torch.tensor([[1.0, 5.0, 3.0]]), torch.ones(1, 3, dtype=torch.bool)
    weights = torch.tensor([[0.0, 1.0, 1.0]])
    assert weighted_mean(loss, valid, weights).item() == 4.0


def test_nothing_valid_is_a_loss_of_zero_with_a_gradient_of_zero():
    loss = torch.ones(1, 2, requires_grad=True)
    value = weighted_mean(loss, torch.zeros(1, 2, dtype=torch.bool), None)
    value.backward()
    assert value.item() == 0
    assert torch.equal(loss.grad, torch.zeros(1, 2))
