"""The truth is the mean over the readers who marked a landmark, or one reader's word."""

from __future__ import annotations

import numpy as np
import pytest

from ceph.data.truth import combine
from ceph.errors import ConfigError

READERS = ("senior", "junior")
NAN = np.nan
POINTS = np.array([[[0, 0], [2, 4], [NAN, NAN], [NAN, NAN]], [[4, 2], [NAN, NAN], [6, 8], [NAN, NAN]]], dtype=float)
VALID = ~np.isnan(POINTS).any(-1)


def test_the_mean_is_over_the_readers_who_marked_the_landmark():
    points, valid = combine(POINTS, VALID, "mean", READERS)
    assert valid.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(points, [[2, 1], [2, 4], [6, 8], [NAN, NAN]])


@pytest.mark.parametrize("reader", READERS)
def test_one_reader_is_taken_alone(reader):
    points, valid = combine(POINTS, VALID, reader, READERS)
    row = READERS.index(reader)
    np.testing.assert_array_equal(points, POINTS[row])
    np.testing.assert_array_equal(valid, VALID[row])


def test_what_a_reader_left_invalid_counts_for_nothing_whatever_is_stored_there():
    points = np.full((2, 1, 2), 5.0)
    valid = np.array([[True], [False]])
    points[1] = 1e9
    np.testing.assert_array_equal(combine(points, valid, "mean", READERS)[0], [[5, 5]])
    assert np.isnan(combine(points, valid, "junior", READERS)[0]).all()


def test_the_inputs_are_left_alone():
    before = POINTS.copy(), VALID.copy()
    points, valid = combine(POINTS, VALID, "senior", READERS)
    points += 1
    valid[:] = False
    np.testing.assert_array_equal(POINTS, before[0])
    np.testing.assert_array_equal(VALID, before[1])


def test_an_unknown_reader_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"data.truth: no reader 'Senior'.*\n.*did you mean 'senior'"):
        combine(POINTS, VALID, "Senior", READERS)
