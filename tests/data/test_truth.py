"""The truth is the mean over the readers who marked a landmark, or one reader's word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ceph.data.truth import combine, reader_disagreement_mm
from ceph.data.types import Sample
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


def film(*readers):
    """A film at 0.5 mm a pixel; `readers` are the x of each landmark, NaN where one is not marked."""
    points = np.stack([np.array(readers, dtype=float), np.zeros((len(readers), len(readers[0])))], axis=-1)
    return Sample("a", "train", "a", "", (90, 80), 0.5, points, ~np.isnan(points[..., 0]), Path("a.png"))


def test_the_disagreement_of_readers_is_in_mm_over_films_and_pairs():
    alike = film([0, 0, 0], [2, 4, NAN])
    np.testing.assert_allclose(reader_disagreement_mm([alike, alike], 3), [1.0, 2.0, NAN])
    three = film([0, 0, 0], [2, 4, NAN], [8, 0, 0])
    np.testing.assert_allclose(reader_disagreement_mm([three], 3), [(1 + 4 + 3) / 3, 4 / 3, 0.0])
    np.testing.assert_allclose(reader_disagreement_mm([alike, film([0, 0, 0], [6, 4, 0])], 3), [2.0, 2.0, 0.0])
    assert np.isnan(reader_disagreement_mm([], 3)).all()
