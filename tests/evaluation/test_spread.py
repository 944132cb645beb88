"""The spread of a map about a point, in network px."""

from __future__ import annotations

import pytest
import torch

from ceph.evaluation.spread import spread_of
from ceph.model.codec import gaussians


def bells(*points, kind="distribution"):
    return gaussians(torch.tensor([points], dtype=torch.float32), (40, 60), kind, 2.0, 4)


@pytest.mark.parametrize("kind", ["distribution", "heatmap"])
def test_a_bell_spreads_as_wide_as_it_is_and_a_point_away_from_it_farther(kind):
    at = torch.tensor([[[100.0, 70.0], [100.0, 70.0]]])
    near, far = spread_of(bells((100.0, 70.0), (100.0, 110.0), kind=kind), at, (160, 240))[0].tolist()
    assert near == pytest.approx(1.099 * 2.0 * 4, rel=0.01)  # by hand: its lowest tenth does not count
    assert far == pytest.approx((40**2 + near**2) ** 0.5, rel=0.01)


def test_a_second_peak_makes_a_point_less_sure():
    one, other = bells((60.0, 70.0)), bells((180.0, 70.0))
    at = torch.tensor([[[60.0, 70.0]]])
    assert spread_of(0.7 * one + 0.3 * other, at, (160, 240)) > 3 * spread_of(one, at, (160, 240))


def test_an_empty_map_is_no_error():
    assert spread_of(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 2), (32, 32)).isfinite().all()
