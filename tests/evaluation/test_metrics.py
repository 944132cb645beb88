"""Errors, means and success rates as the field defines them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ceph.evaluation.metrics import flatten, higher_is_better, radial_errors_mm, summarise
from ceph.evaluation.predict import averaged


def test_an_error_is_the_distance_on_the_film_in_its_own_millimetres():
    found = np.array([[[3.0, 4.0]], [[3.0, 4.0]]])
    errors = radial_errors_mm(found, np.zeros((2, 1, 2)), np.array([[True], [True]]), np.array([0.1, 0.2]))
    assert errors[:, 0] == pytest.approx([0.5, 1.0])


def test_a_landmark_without_truth_has_no_error():
    errors = radial_errors_mm(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.array([[True, False]]), np.ones(1))
    assert errors[0, 0] == 0
    assert np.isnan(errors[0, 1])


def test_the_figures_of_a_split():
    errors = np.array([[1.0, 2.0], [3.0, np.nan]])
    figures = summarise(errors, ("A", "B"), "mean")
    assert figures["mre_mm"] == 2.0
    assert figures["sd_mm"] == 1.0
    assert figures["n_images"] == 2
    assert figures["n_points"] == 3
    assert figures["truth"] == "mean"
    # An error of exactly 2.0 mm counts as a success at 2.0 mm.
    assert figures["sdr_percent"] == pytest.approx({"2.0": 200 / 3, "2.5": 200 / 3, "3.0": 100.0, "4.0": 100.0})
    assert figures["per_landmark"]["A"] == {
        "mre_mm": 2.0,
        "sd_mm": pytest.approx(2**0.5),
        "sdr_percent": {"2.0": 50.0, "2.5": 50.0, "3.0": 100.0, "4.0": 100.0},
        "n": 2,
    }


def test_a_landmark_that_no_film_shows_has_no_figures():
    figures = summarise(np.array([[1.0, np.nan]]), ("A", "B"), "mean")
    assert figures["per_landmark"]["B"]["mre_mm"] is None
    assert figures["per_landmark"]["B"]["n"] == 0


def test_every_figure_has_a_dotted_name():
    flat = flatten(summarise(np.ones((2, 1)), ("A",), "mean"))
    assert flat["mre_mm"] == 1
    assert flat["sdr_percent.2.0"] == 100
    assert flat["per_landmark.A.sdr_percent.2.5"] == 100
    assert higher_is_better("sdr_percent.2.0")
    assert not higher_is_better("per_landmark.A.mre_mm")


def test_averaging_over_scales_keeps_the_place_and_the_sum():
    # A "network" that shows its input at stride 4, as a distribution.
    def shrink(_model, image):
        maps = nn.functional.avg_pool2d(image, 4)
        return maps / maps.flatten(2).sum(-1)[..., None, None]

    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(64.0), indexing="ij")
    image = torch.exp(-((x - 21.5) ** 2 + (y - 45.5) ** 2) / 72)[None, None]
    maps = averaged(nn.Identity(), image, shrink, (0.75, 1.0, 1.25), sums_to_one=True)
    assert maps.shape == (1, 1, 24, 16)
    assert maps.sum().item() == pytest.approx(1)
    centre = (maps.sum(2)[0, 0] * torch.arange(16)).sum().item(), (maps.sum(3)[0, 0] * torch.arange(24)).sum().item()
    assert centre == pytest.approx((5.0, 11.0), abs=0.1)
