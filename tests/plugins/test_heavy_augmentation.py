"""heavy-augmentation: one strength moves everything, points follow the film exactly, nothing flips or folds."""

import pickle

import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ceph.data.augment import Augmentation
from ceph.data.geometry import displace, resample, transform
from ceph.hooks.verbs import Hooks
from ceph_plugins.heavy_augmentation import HeavyAugmentation, HeavyAugmentationConfig, elastic_field, splines, tilt

SIZE = (480, 384)
STRENGTHS = [0.1, 0.5, 1.0, 2.0, 4.0]
STAGES = ("photometric", "occlusion")
FILM = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, SIZE).astype(np.uint8), (0, 0), 5)


def augmentation(**chosen):
    hooks = Hooks({"heavy": HeavyAugmentation(HeavyAugmentationConfig(**chosen))})
    return Augmentation(
        dict(hooks.each("warps")), {stage: dict(hooks.each("augmentations", stage=stage)) for stage in STAGES}
    )


def test_no_strength_leaves_everything_unchanged():
    still = augmentation(strength=0)
    matrix, field = still.draw_warp(3, SIZE)
    assert np.array_equal(matrix, np.eye(3))
    assert field is None
    assert np.array_equal(still.change_pixels(FILM, 3), FILM)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_films_keep_their_shape_and_type_and_change(strength):
    heavy = augmentation(strength=strength)
    changed = 0
    for seed in range(40):
        film = heavy.change_pixels(FILM, seed)
        assert film.shape == FILM.shape
        assert film.dtype == np.uint8
        changed += not np.array_equal(film, FILM)
    assert changed > 20


def test_a_film_is_changed_by_its_seed_alone():
    one, other = augmentation(), pickle.loads(pickle.dumps(augmentation()))
    other.change_pixels(FILM, 99)
    for seed in range(5):
        assert np.array_equal(one.change_pixels(FILM, seed), other.change_pixels(FILM, seed))
        assert all(
            np.array_equal(a, b) for a, b in zip(one.draw_warp(seed, SIZE), other.draw_warp(seed, SIZE), strict=True)
        )
    assert not np.array_equal(one.draw_warp(0, SIZE)[0], one.draw_warp(1, SIZE)[0])


def test_strength_scales_the_same_draw():
    calm, wild = (augmentation(strength=s, scale=0, perspective=0, rotate_deg=0) for s in (0.5, 1.0))
    for seed in range(5):
        (calm_matrix, calm_field), (wild_matrix, wild_field) = calm.draw_warp(seed, SIZE), wild.draw_warp(seed, SIZE)
        np.testing.assert_allclose(2 * (calm_matrix - np.eye(3)), wild_matrix - np.eye(3), atol=1e-9)
        np.testing.assert_allclose(2 * calm_field, wild_field, atol=1e-4)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_point_follows_its_blob(strength):
    heavy = augmentation(strength=strength)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    seen = 0
    for seed in range(12):
        point = np.random.default_rng(seed).uniform((60, 60), (SIZE[1] - 60, SIZE[0] - 60))
        blob = np.round(250 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 3**2))).astype(np.uint8)
        matrix, field = heavy.draw_warp(seed, SIZE)
        moved = displace(field, transform(matrix, point[None]))[0]
        if not (30 < moved[0] < SIZE[1] - 30 and 30 < moved[1] < SIZE[0] - 30):
            continue
        warped = resample(blob, matrix, SIZE, field).astype(float)
        found = np.array([(warped * x).sum(), (warped * y).sum()]) / warped.sum()
        assert np.linalg.norm(found - moved) < 0.1  # px
        seen += 1
    assert seen >= 6


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 4))
@settings(max_examples=60, deadline=None)
def test_no_map_mirrors_the_film_or_has_a_horizon_in_it(seed, strength):
    matrix, _ = augmentation(strength=strength, elastic=0).draw_warp(seed, SIZE)
    corners = np.array([[0, 0], [SIZE[1] - 1, 0], [SIZE[1] - 1, SIZE[0] - 1], [0, SIZE[0] - 1]], float)
    assert (corners @ matrix[2, :2] + matrix[2, 2] > 0.2).all()
    (ax, ay), (bx, by), (cx, cy) = (p - transform(matrix, corners)[0] for p in transform(matrix, corners)[1:])
    assert ax * by - ay * bx > 0
    assert bx * cy - by * cx > 0


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 200), st.sampled_from([(480, 384), (64, 64), (256, 320), (33, 100)]))
@settings(max_examples=60, deadline=None)
def test_the_elastic_field_is_too_gentle_to_fold(seed, amplitude_px, size):
    field = elastic_field(np.random.default_rng(seed), size, amplitude_px)
    assert field.shape == (*size, 2)
    assert field.dtype == np.float32
    assert np.abs(field).max() <= amplitude_px + 1e-3
    by_y, by_x = np.diff(field, axis=0)[:, :-1], np.diff(field, axis=1)[:-1]
    jacobian = np.stack([by_x, by_y], axis=-1)  # [H-1, W-1, 2, 2]
    assert np.linalg.norm(jacobian, axis=(-2, -1)).max() < 0.5


def test_splines_add_up_to_one_everywhere():
    for samples, cell in [(60, 12.0), (48, 12.0), (7, 1.4), (100, 3.3)]:
        table = splines(samples, cell)
        np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-6)
        assert (table >= 0).all()


def test_perspective_keeps_the_centre_and_changes_the_scale_towards_the_sides():
    matrix = tilt(0.1, 0.0, SIZE)
    centre = np.array([[(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2]])
    np.testing.assert_allclose(transform(matrix, centre), centre, atol=1e-9)
    sides = transform(matrix, centre + np.array([[-SIZE[1] / 2, 0], [SIZE[1] / 2, 0]])) - centre
    np.testing.assert_allclose(sides[:, 0], [-SIZE[1] / 2 / 0.9, SIZE[1] / 2 / 1.1])


def test_photometric_changes_are_of_pixels_only():
    transforms = HeavyAugmentation().augmentations("photometric")
    flat = [t for outer in transforms for t in (outer.transforms if isinstance(outer, A.OneOf) else [outer])]
    assert len(flat) == 8
    assert all(isinstance(t, A.ImageOnlyTransform) for t in flat)


def test_an_occluded_point_stays_where_it_is():
    points = np.random.default_rng(1).uniform(20, 300, (29, 2)).astype(np.float32)
    occlusions = HeavyAugmentation(HeavyAugmentationConfig(strength=4)).augmentations("occlusion")
    compose = A.Compose(occlusions, keypoint_params=A.KeypointParams("xy", remove_invisible=False))
    for seed in range(20):
        compose.set_random_seed(seed)
        np.testing.assert_array_equal(compose(image=FILM, keypoints=points)["keypoints"], points)


def test_each_part_can_be_switched_off():
    off = {"rotate_deg": 0, "scale": 0, "shift": 0, "perspective": 0, "elastic": 0, "photometric": 0, "occlusion": 0}
    assert augmentation(**off).warps == {}
    assert augmentation(**off).composes == []
    for part in off:
        alone = augmentation(**{key: value for key, value in off.items() if key != part})
        assert len(alone.warps) + len(alone.composes) == 1


@pytest.mark.parametrize("wrong", [{"strength": -1}, {"strength": 9}, {"rotate_deg": 90}, {"flip": True}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        HeavyAugmentationConfig(**wrong)
