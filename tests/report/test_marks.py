"""Names beside marks: none lies on another, or on a mark, where there is room; and which points are doubted."""

from __future__ import annotations

import numpy as np
import pytest

from ceph.report.marks import around, place_names, shared_areas
from ceph.run.doubt import doubtful


@pytest.mark.parametrize("seed", range(5))
def test_names_of_a_crowd_lie_apart(seed):
    points = [tuple(p) for p in np.random.default_rng(seed).normal(100, 8, (6, 2))]
    marks = around(points, 1.2)
    boxes = place_names(points, [15.0] * 6, 3.6, 2.0, marks)
    for i, box in enumerate(boxes):
        assert not shared_areas([box], [*boxes[:i], *marks]).any()


def test_a_point_is_doubtful_by_what_is_usual_for_its_landmark():
    scores, usual = np.array([0.30, 0.30, 0.001, 0.5]), np.array([0.7, 0.5, 0.001, 0.5])
    assert doubtful(scores, usual) == [2, 0]
    assert doubtful(scores, None) == [2]
