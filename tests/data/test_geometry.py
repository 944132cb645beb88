"""Film pixels and network pixels agree: the same map moves the picture and its points."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceph.data.geometry import (
    displace,
    inverse,
    letterbox,
    letterbox_scale,
    local_scale,
    resample,
    resize,
    similarity,
    transform,
)

sizes = st.tuples(st.integers(40, 400), st.integers(40, 400))


def blob(size, point, sigma=2.0):
    y, x = np.mgrid[: size[0], : size[1]]
    bell = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * sigma**2))
    return (bell * 255).round().astype(np.uint8)


def centre_of(image):
    weights = image.astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


def test_resizing_keeps_the_corners_of_the_film_not_the_centres_of_its_pixels():
    # The film reaches from -0.5 to W - 0.5; twice the size, from -0.5 to 2 W - 0.5.
    assert transform(resize(2.0), np.array([[-0.5, 9.5]])) == pytest.approx(np.array([[-0.5, 19.5]]))


@given(film=sizes, size=sizes)
def test_the_letterbox_fits_the_whole_film_centred_and_unsquashed(film, size):
    matrix = letterbox(film, size)
    corners = transform(matrix, np.array([[-0.5, -0.5], [film[1] - 0.5, film[0] - 0.5]]))
    width, height = corners[1] - corners[0]
    assert width / height == pytest.approx(film[1] / film[0])
    assert width == pytest.approx(size[1]) or height == pytest.approx(size[0])
    assert corners.mean(0) == pytest.approx([(size[1] - 1) / 2, (size[0] - 1) / 2])
    assert width <= size[1] + 1e-6
    assert height <= size[0] + 1e-6
    assert local_scale(matrix, np.zeros(2)) == pytest.approx(letterbox_scale(film, size))


@given(
    film=sizes,
    angle=st.floats(-30, 30),
    zoom=st.floats(0.5, 2),
    x=st.floats(-50, 50),
    y=st.floats(-50, 50),
    point=st.tuples(st.floats(0, 400), st.floats(0, 400)),
)
def test_every_map_has_its_inverse(film, angle, zoom, x, y, point):
    matrix = similarity(angle, zoom, (x, y), (200, 160)) @ letterbox(film, (200, 160))
    there = transform(matrix, np.array([point]))
    assert transform(inverse(matrix), there)[0] == pytest.approx(np.array(point), abs=1e-6)


@given(
    angle=st.floats(-20, 20),
    zoom=st.floats(0.8, 1.25),
    x=st.floats(-8, 8),
    y=st.floats(-8, 8),
    tilt=st.floats(-3e-4, 3e-4),
)
def test_a_blob_follows_its_point_through_any_matrix(angle, zoom, x, y, tilt):
    film = np.array([61.0, 47.0])
    perspective = np.array([[1, 0, 0], [0, 1, 0], [tilt, -tilt, 1.0]])
    matrix = perspective @ similarity(angle, zoom, (x, y), (128, 112)) @ letterbox((96, 110), (128, 112))
    seen = resample(blob((96, 110), film), matrix, (128, 112))
    assert centre_of(seen) == pytest.approx(transform(matrix, film[None])[0], abs=0.1)


@given(seed=st.integers(0, 1000))
def test_a_blob_follows_its_point_through_a_smooth_field(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-2, 2, (4, 4, 2)).astype(np.float32)
    field = cv2.resize(coarse, (112, 128), interpolation=cv2.INTER_CUBIC)
    point = np.array([[55.0, 60.0]])
    seen = resample(blob((128, 112), point[0], 1.5), np.eye(3), (128, 112), field)
    moved = displace(field, point)
    assert centre_of(seen) == pytest.approx(moved[0], abs=0.1)


def test_points_that_are_missing_stay_missing():
    moved = transform(letterbox((100, 80), (50, 50)), np.array([[np.nan, np.nan], [1.0, 1.0]]))
    assert np.isnan(moved[0]).all()
    assert np.isfinite(moved[1]).all()
    assert np.isnan(displace(np.ones((8, 8, 2), np.float32), moved)[0]).all()


def test_outside_the_film_is_black():
    seen = resample(np.full((10, 10), 200, np.uint8), letterbox((10, 10), (10, 30)), (10, 30))
    assert seen[:, :9].max() == 0
    assert seen[:, 21:].max() == 0
    assert seen[5, 15] == 200
