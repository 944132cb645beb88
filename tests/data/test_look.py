"""A window shows the film about a point, exactly, through the draw of its image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceph.data.augment import Augmentation, default_augmentation
from ceph.data.cache import FilmCache, digests
from ceph.data.dataset import Films, film_points
from ceph.data.plan import Entry
from ceph.data.types import Sample
from ceph.data.warps import DefaultWarp, Warp

FINE = 0.025 + (int(cv2.__version__.split(".")[0]) < 5) / 64  # px; OpenCV 4 places pixels to 1 / 32
FILM, NETWORK, MM = (480, 360), (160, 128), 0.2


class Waves(Warp):
    """A smooth displacement of up to half a pixel, and a change of perspective."""

    def matrix(self, rng, size):
        return np.array([[1, 0, 0], [0, 1, 0], [*rng.uniform(-5e-5, 5e-5, 2), 1]])

    def displacement(self, rng, size):
        y, x = np.mgrid[: size[0], : size[1]]
        start = rng.uniform(0, 6)
        return 0.5 * np.stack([np.sin(x / 40 + start), np.cos(y / 40 + start)], -1)


def film_of(folder, image):
    path = folder / "film.png"
    cv2.imwrite(str(path), image)
    points = np.full((1, 1, 2), 50.0)
    return Sample("film", "train", "film", "m", FILM, MM, points, np.ones((1, 1), bool), path)


def looked(sample, centre, mm, px, *, seed=0, augmentation=None):
    """The item, and what `look` showed in it."""
    seen = []

    def extras(sample, truth, look, seed):
        seen.append(look(np.array(centre), mm, px))
        return {}

    def truth(sample, seed):
        return sample.points[0], sample.valid[0]

    films = Films((sample,), digests([sample.path]), truth, FilmCache(None), augmentation, extras)
    return films[Entry(0, NETWORK, seed)], seen[0]


@given(
    seed=st.integers(0, 2**32),
    px=st.integers(40, 48),
    step=st.floats(0.6, 4),
    at=st.tuples(st.floats(110, 250), st.floats(110, 370)),
)
def test_the_middle_of_a_window_is_the_point_to_a_fortieth_of_a_pixel(tmp_path_factory, seed, px, step, at):
    y, x = np.mgrid[: FILM[0], : FILM[1]]
    bell = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * (2.5 * step) ** 2)) * 250
    sample = film_of(tmp_path_factory.mktemp("film"), (bell + 0.5).astype(np.uint8))
    changes = Augmentation({"core": [DefaultWarp()], "waves": [Waves()]}, {})
    _, window = looked(sample, at, px * step * MM, px, seed=seed, augmentation=changes)
    rows, columns = np.mgrid[:px, :px] - (px - 1) / 2
    middle = np.array([(columns * window).sum(), (rows * window).sum()]) / window.sum()
    assert np.abs(middle).max() < FINE * max(1, 1 / step)  # px of the window, or of the film where these are larger


@pytest.mark.parametrize("seed", range(6))
def test_a_window_at_the_network_s_scale_is_that_part_of_its_image(tmp_path, seed):
    noise = np.random.default_rng(0).uniform(0, 255, FILM).astype(np.float32)
    smooth = (cv2.GaussianBlur(noise, None, 9) - 127) * 10 + 127
    sample = film_of(tmp_path, smooth.clip(0, 255).astype(np.uint8))
    warps, photometric = default_augmentation()
    changes = Augmentation({"core": warps, "waves": [Waves()]}, {"photometric": {"core": photometric}})
    item, _ = looked(sample, (50, 50), 10, 8, seed=seed, augmentation=changes)
    field = changes.draw_warp(seed, NETWORK)[1]
    at = film_points(np.array([64.0, 80.0]) + field[80, 64], item.film_to_network.numpy())  # seen at (64, 80)
    item, window = looked(sample, at, 33 * item.mm_per_px.item(), 33, seed=seed, augmentation=changes)
    image = item.image.numpy()[80 - 16 : 80 + 17, 64 - 16 : 64 + 17]
    assert np.abs(window * 255 - image).max() <= 6
    assert image.std() > 10


def test_occlusions_are_left_out_and_a_window_keeps_its_draw(tmp_path):
    import albumentations as A

    sample = film_of(tmp_path, np.full(FILM, 100, np.uint8))
    _, photometric = default_augmentation()
    hides = {"occlusion": {"hides": [A.RandomBrightnessContrast((1, 1), (0, 0), p=1)]}}
    own = {"photometric": {"core": photometric}}
    changes = Augmentation({}, {**own, **hides})
    item, window = looked(sample, (180, 240), 10, 24, seed=3, augmentation=changes)
    assert item.image.max() == 255
    _, plain = looked(sample, (180, 240), 10, 24, seed=3, augmentation=Augmentation({}, own))
    assert np.array_equal(window, plain)
    assert window[0, 0] != pytest.approx(100 / 255, abs=0.02)


def test_outside_the_film_is_its_border_and_about_an_unknown_point_nothing(tmp_path):
    image = np.zeros(FILM, np.uint8)
    image[:, :8] = 51
    _, windows = looked(film_of(tmp_path, image), [[[-100.0, 240.0]], [[np.nan, np.nan]]], 5, 16)
    assert windows.shape == (2, 1, 16, 16)
    assert windows.dtype == np.float32
    assert np.all(windows[0] == np.float32(0.2))
    assert not windows[1].any()
