"""A film, its points and its millimetres arrive in the network's frame together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from ceph.data.augment import Augmentation, default_augmentation
from ceph.data.cache import FilmCache, digests
from ceph.data.dataset import Films, bare_item, collate, film_points, to_batch
from ceph.data.loader import Loader, _received, in_order
from ceph.data.plan import Entry, plan_epoch
from ceph.data.types import Sample
from ceph.data.warps import DefaultWarp, Warp
from ceph.training.memory import explain

DOT = np.array([[71.0, 118.0], [30.0, 40.0]])


def dotted_film(size=(240, 180)):
    y, x = np.mgrid[: size[0], : size[1]]
    bells = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 6.0**2)) for px, py in DOT]
    return (sum(bells) * 250).clip(0, 255).astype(np.uint8)


@pytest.fixture
def films(tmp_path):
    path = tmp_path / "film.png"
    cv2.imwrite(str(path), dotted_film())
    points = np.stack([DOT, DOT])
    sample = Sample("film", "train", "film", "m", (240, 180), 0.5, points, np.ones((2, 2), bool), path)

    def make(augmentation=None, valid=True):
        def truth(sample, rng):
            return sample.points[0], np.full(2, valid)

        return Films((sample,), digests([path]), truth, FilmCache(None), augmentation)

    return make


def brightest_near(image, point, radius=8):
    x, y = np.rint(point).astype(int)
    window = image[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].astype(float)
    rows, columns = np.mgrid[: window.shape[0], : window.shape[1]]
    total = window.sum()
    return np.array(
        [(columns * window).sum() / total + max(0, x - radius), (rows * window).sum() / total + max(0, y - radius)]
    )


@pytest.mark.parametrize("size", [(120, 96), (96, 120), (240, 180), (64, 64)])
def test_the_point_lies_on_its_dot_at_every_size(films, size):
    item = films()[Entry(0, size, 0)]
    assert item.image.shape == size
    for point in item.points.numpy():
        assert brightest_near(item.image.numpy(), point) == pytest.approx(point, abs=0.15)


@pytest.mark.parametrize("seed", range(12))
def test_the_point_follows_its_dot_through_the_default_warp(films, seed):
    item = films(Augmentation({"core": [DefaultWarp()]}, {}))[Entry(0, (120, 96), seed)]
    for point, valid in zip(item.points.numpy(), item.valid.numpy(), strict=True):
        inside = 10 < point[0] < 85 and 10 < point[1] < 109
        if valid and inside:
            assert brightest_near(item.image.numpy(), point) == pytest.approx(point, abs=0.3)


def test_millimetres_survive_any_scale(films):
    item = films(Augmentation({"core": [DefaultWarp()]}, {}))[Entry(0, (120, 96), 3)]
    network = np.linalg.norm(item.points[0] - item.points[1]) * item.mm_per_px.item()
    assert network == pytest.approx(np.linalg.norm(DOT[0] - DOT[1]) * 0.5, rel=1e-4)


def test_network_points_map_back_to_the_film(films):
    item = films()[Entry(0, (120, 96), 0)]
    assert film_points(item.points.double().numpy(), item.film_to_network.numpy()) == pytest.approx(DOT, abs=1e-3)


def test_a_point_that_a_warp_moves_out_of_the_image_is_no_longer_valid(films):
    class Away(Warp):
        def matrix(self, rng, size):
            return np.array([[1, 0, 500.0], [0, 1, 0], [0, 0, 1]])

    item = films(Augmentation({"away": [Away()]}, {}))[Entry(0, (120, 96), 0)]
    assert not item.valid.any()
    assert torch.equal(item.points, torch.zeros(2, 2))


def test_a_missing_landmark_stays_missing(films):
    assert not films(valid=False)[Entry(0, (120, 96), 0)].valid.any()


def test_the_same_seed_draws_the_same_film_and_another_one_does_not(films):
    warps, photometric = default_augmentation()
    own = films(Augmentation({"core": warps}, {"photometric": {"core": photometric}}))
    one, same, other = (own[Entry(0, (64, 48), seed)].image for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_one_plugin_s_draws_do_not_depend_on_another_s():
    class Noisy(Warp):
        def matrix(self, rng, size):
            rng.uniform(size=100)

    alone, _ = Augmentation({"core": [DefaultWarp()]}, {}).draw_warp(7, (64, 48))
    beside, _ = Augmentation({"a": [Noisy()], "core": [DefaultWarp()], "z": [Noisy()]}, {}).draw_warp(7, (64, 48))
    assert np.array_equal(alone, beside)


def test_a_loader_gives_the_plan_s_batches_as_floats_between_0_and_1(films):
    own = films()
    plan = plan_epoch(1, 1, seed=0, epoch=0, size=(64, 48))
    (item,) = Loader(own, 0).load(plan.part(0, 1))
    batch = to_batch(item, torch.device("cpu"), epoch=2, step=9)
    assert batch.image.shape == (1, 1, 64, 48)
    assert batch.image.dtype == torch.float32
    assert 0.5 < batch.image.max() <= 1
    assert (batch.epoch, batch.step) == (2, 9)


def test_evaluation_sees_every_film_once_in_order():
    batches = in_order(10, 4, [(64, 48)])
    assert [[entry.film for entry in batch] for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_evaluation_at_several_sizes_sees_each_batch_at_each_size_in_turn():
    batches = in_order(3, 2, [(64, 48), (96, 72)])
    assert [(batch[0].film, batch[0].size, len(batch)) for batch in batches] == [
        (0, (64, 48), 2),
        (0, (96, 72), 2),
        (2, (64, 48), 1),
        (2, (96, 72), 1),
    ]


def test_a_film_without_truth_lands_as_one_with_truth_does(films):
    bare = bare_item(dotted_film(), (120, 96), 2)
    item = films()[Entry(0, (120, 96), 0)]
    assert torch.equal(bare.image, item.image)
    assert torch.equal(bare.film_to_network, item.film_to_network)
    assert collate([bare]).valid.sum() == 0


@pytest.mark.parametrize(
    "fault", [ConnectionResetError(104, "reset by peer"), EOFError(), FileNotFoundError(2, "gone")]
)
def test_a_worker_that_dies_while_it_hands_a_batch_over_is_told_of_as_a_dead_worker(fault):
    def batches():
        yield "first"
        raise fault

    received = _received(batches())
    assert next(received) == "first"
    with pytest.raises(RuntimeError) as caught:
        next(received)
    assert "a loader worker died while training" in str(explain(caught.value, "training"))


def test_a_fault_of_what_a_worker_ran_stays_what_it_is():
    def batches():
        raise FileNotFoundError("Caught FileNotFoundError in DataLoader worker process 0.")
        yield

    with pytest.raises(FileNotFoundError):
        next(_received(batches()))
