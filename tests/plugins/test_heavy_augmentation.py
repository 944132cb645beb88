"""heavy-augmentation: one strength moves everything, points follow the film exactly, nothing flips or folds."""

import pickle

import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ceph.data.augment import Augmentation
from ceph.data.cache import FilmCache
from ceph.data.dataset import Films
from ceph.data.geometry import displace, resample, transform
from ceph.data.plan import Entry
from ceph.data.types import Sample
from ceph.data.warps import DefaultWarp
from ceph.hooks.verbs import Hooks
from ceph_plugins.heavy_augmentation import (
    Artefacts,
    HeavyAugmentation,
    HeavyAugmentationConfig,
    bar,
    brackets,
    collimation,
    elastic_field,
    head_holder,
    paint,
    ruler,
    splines,
    tapes,
    ticks,
    tilt,
)

SIZE = (480, 384)
STRENGTHS = [0.1, 0.5, 1.0, 2.0, 4.0]
STAGES = ("photometric", "occlusion")
ARTEFACTS = [tapes, ruler, collimation, brackets, head_holder]
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


@pytest.mark.parametrize("size", [(480, 384), (352, 288), (608, 480)])
def test_a_dot_on_a_film_is_where_its_point_says_after_loading(tmp_path, size):
    film, at = (960, 774), np.array([[300.3, 420.8], [470.0, 500.4], [350.6, 610.1], [420.2, 350.7]])
    y, x = np.mgrid[: film[0], : film[1]]
    samples = []
    for number, point in enumerate(at):
        dot = 250 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 6**2))
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.round(dot).astype(np.uint8))
        name, valid = str(number), np.ones((1, 1), dtype=bool)
        samples.append(
            Sample(name, "train", name, "", film, 0.25, point[None, None], valid, tmp_path / f"{number}.png")
        )
    warps = {"core": [DefaultWarp()], "heavy": HeavyAugmentation().warps()}
    truth = lambda sample, rng: (sample.points[0], sample.valid[0])  # noqa: E731
    films = Films(samples, [s.id for s in samples], truth, FilmCache(None), Augmentation(warps, {}))
    down, right = np.mgrid[: size[0], : size[1]]
    off = []
    for seed in range(24):
        item = films[Entry(seed % 4, size, seed)]
        image, point = item.image.numpy().astype(float), item.points[0].numpy()
        if min(*point, size[1] - point[0], size[0] - point[1]) > 20:  # the whole dot is in the image
            off.append(np.array([(image * right).sum(), (image * down).sum()]) / image.sum() - point)
    assert len(off) > 18
    assert np.linalg.norm(off, axis=1).max() < 0.1  # px
    assert np.abs(np.mean(off, axis=0)).max() < 0.02  # no bias


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 4))
def test_no_map_mirrors_the_film_or_has_a_horizon_in_it(seed, strength):
    matrix, _ = augmentation(strength=strength, elastic=0).draw_warp(seed, SIZE)
    corners = np.array([[0, 0], [SIZE[1] - 1, 0], [SIZE[1] - 1, SIZE[0] - 1], [0, SIZE[0] - 1]], float)
    assert (corners @ matrix[2, :2] + matrix[2, 2] > 0.2).all()
    (ax, ay), (bx, by), (cx, cy) = (p - transform(matrix, corners)[0] for p in transform(matrix, corners)[1:])
    assert ax * by - ay * bx > 0
    assert bx * cy - by * cx > 0


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 200), st.sampled_from([(480, 384), (64, 64), (256, 320), (33, 100)]))
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
    transforms = HeavyAugmentation(HeavyAugmentationConfig(artefacts=0)).augmentations("photometric")
    flat = [t for outer in transforms for t in (outer.transforms if isinstance(outer, A.OneOf) else [outer])]
    assert len(flat) == 8
    assert all(isinstance(t, A.ImageOnlyTransform) for t in flat)


def layers(draw, seed, size=SIZE, amount=1.0):
    return draw(np.random.default_rng(seed), size, amount)


@pytest.mark.parametrize("draw", ARTEFACTS)
@pytest.mark.parametrize("size", [(480, 384), (384, 480), (64, 64), (33, 100)])
def test_an_artefact_is_drawn_at_any_size_and_leaves_most_of_the_film(draw, size):
    shares = []
    for seed in range(40):
        found = layers(draw, seed, size)
        assert all(cover.shape == size and cover.dtype == np.uint8 and 0 <= grey <= 255 for cover, grey in found)
        shares.append(np.mean(np.maximum.reduce([cover for cover, _ in found]) > 0))
    assert max(shares) < 0.35
    assert np.mean(np.array(shares) > 0) > 0.9


@pytest.mark.parametrize("draw", ARTEFACTS)
def test_an_artefact_changes_what_it_covers_and_nothing_else(draw):
    for seed in range(10):
        artefact = pickle.loads(pickle.dumps(Artefacts({draw: 1.0}, 1.0)))
        artefact.set_random_seed(seed)
        found = artefact.get_params_dependent_on_data({"shape": SIZE}, {})["layers"]
        touched = np.maximum.reduce([cover for cover, _ in found]) > 0
        artefact.set_random_seed(seed)
        painted = artefact(image=FILM)["image"]
        assert painted.dtype == np.uint8
        np.testing.assert_array_equal(painted[~touched], FILM[~touched])


def test_paint_mixes_by_opacity():
    film = np.full((1, 4), 100, dtype=np.uint8)
    mixed = paint(film, np.array([[0, 51, 128, 255]], dtype=np.uint8), 200)
    assert np.abs(mixed.astype(int) - [[100, 120, 150, 200]]).max() <= 1
    assert (mixed[0, 0], mixed[0, 3]) == (100, 200)


def test_a_bar_lies_where_it_should_to_a_fraction_of_a_pixel():
    cover = np.zeros((60, 80), dtype=np.uint8)
    bar(cover, (40.3, 30.6), (0.8, 0.6), 24, 6, 1.0)
    y, x = np.mgrid[:60, :80]
    assert np.allclose([(cover * x).sum() / cover.sum(), (cover * y).sum() / cover.sum()], (40.3, 30.6), atol=0.1)
    assert abs(cover.sum() / 255 - (24 + 1) * (6 + 1)) < 10  # px; cv2 counts the outline in


def test_the_marks_of_a_scale_are_evenly_spaced_and_every_fifth_is_longer():
    cover = np.zeros((40, 200), dtype=np.uint8)
    ticks(cover, (10, 5), (1, 0), 21, 8.0, 20)
    assert np.flatnonzero(cover[8] > 200).tolist() == list(range(10, 171, 8))
    assert np.flatnonzero(cover[24] > 200).tolist() == list(range(10, 171, 40))


def test_collimation_darkens_or_whitens_borders_and_spares_the_middle():
    for seed in range(60):
        ((cover, grey),) = layers(collimation, seed, amount=4.0)
        assert grey < 25 or grey > 234
        assert not cover[160:320, 128:256].any()
        assert cover[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_tapes_lie_at_each_border_and_grow_with_the_amount():
    borders, depth = set(), {}
    for amount in (0.5, 2.0):
        covers = [layers(tapes, seed, amount=amount)[0][0] > 0 for seed in range(60)]
        depth[amount] = np.mean([cover.sum() for cover in covers])
        for cover in covers:
            sides = np.array([cover[0].any(), cover[:, 0].any(), cover[-1].any(), cover[:, -1].any()])
            borders.add(int(np.argmax([cover[0].sum(), cover[:, 0].sum(), cover[-1].sum(), cover[:, -1].sum()])))
            assert sides.any()
    assert borders == {0, 1, 2, 3}
    assert depth[2.0] > 1.5 * depth[0.5]


def test_brackets_are_as_bright_as_metal_and_as_small_as_teeth():
    for seed in range(30):
        ((cover, grey),) = layers(brackets, seed)
        assert grey >= 235
        count, _, stats, _ = cv2.connectedComponentsWithStats((cover > 190).astype(np.uint8))
        assert count > 3
        assert stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max() < 110  # px; all joined by a bright wire


def test_artefacts_come_more_often_with_strength():
    def share(strength):
        heavy = augmentation(strength=strength, photometric=0, occlusion=0)
        return np.mean([not np.array_equal(heavy.change_pixels(FILM, seed), FILM) for seed in range(150)])

    assert 0.2 < share(0.5) < 0.5 < share(1.0) < 0.7 < share(2.0)


def test_artefacts_are_painted_before_the_film_is_exposed_and_blurred():
    names = [type(t).__name__ for t in HeavyAugmentation().augmentations("photometric")]
    assert names[0] == "Artefacts"
    assert names.count("Artefacts") == 1


def test_an_occluded_point_stays_where_it_is():
    points = np.random.default_rng(1).uniform(20, 300, (29, 2)).astype(np.float32)
    occlusions = HeavyAugmentation(HeavyAugmentationConfig(strength=4)).augmentations("occlusion")
    compose = A.Compose(occlusions, keypoint_params=A.KeypointParams("xy", remove_invisible=False))
    for seed in range(20):
        compose.set_random_seed(seed)
        np.testing.assert_array_equal(compose(image=FILM, keypoints=points)["keypoints"], points)


def test_each_part_can_be_switched_off():
    parts = "rotate_deg scale shift perspective elastic photometric artefacts occlusion"
    off = dict.fromkeys(parts.split(), 0)
    assert augmentation(**off).warps == {}
    assert augmentation(**off).composes == []
    for part in off:
        alone = augmentation(**{key: value for key, value in off.items() if key != part})
        assert len(alone.warps) + len(alone.composes) == 1


@pytest.mark.parametrize("wrong", [{"strength": -1}, {"strength": 9}, {"rotate_deg": 90}, {"flip": True}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        HeavyAugmentationConfig(**wrong)
