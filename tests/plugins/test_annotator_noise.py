"""annotator-noise: the drawn truth lies between the readers, follows the seed alone, and respects who marked what."""

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.training.runs import last_weights, same_weights

import ceph
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph_plugins.annotator_noise import DRAWS, AnnotatorNoise, AnnotatorNoiseConfig

MODES = sorted(DRAWS)


def made(mode):
    return AnnotatorNoise(AnnotatorNoiseConfig(mode=mode))


def drawn(mode, sample, seed):
    arguments = {"sample": sample, "rng": np.random.default_rng(seed)}
    return Hooks({"annotator-noise": made(mode)}).one("truth", None, **arguments)


@pytest.fixture
def film(make_run):
    """`film(readers, landmarks, valid)`: a film marked at random places."""

    def make(readers=2, landmarks=5, valid=None):
        points = np.random.default_rng(3).uniform(0, 900, (readers, landmarks, 2))
        flags = np.ones((readers, landmarks), dtype=bool) if valid is None else np.array(valid)
        points[~flags] = np.nan
        return dataclasses.replace(make_run().samples[0], points=points, valid=flags)

    return make


@given(seed=st.integers(0, 2**32 - 1))
def test_a_point_of_mode_segment_is_on_the_segment_between_two_readers(seed):
    points = np.random.default_rng(1).uniform(0, 900, (2, 6, 2))
    found = DRAWS["segment"](points, np.ones((2, 6), dtype=bool), np.random.default_rng(seed))
    along, to = points[1] - points[0], found - points[0]
    share = (to * along).sum(-1) / (along**2).sum(-1)
    assert ((share >= -1e-12) & (share <= 1 + 1e-12)).all()
    np.testing.assert_allclose(to, share[:, None] * along, atol=1e-9)


def test_the_segment_is_covered_evenly():
    points = np.zeros((2, 4000, 2))
    points[1, :, 0] = 1.0
    share = np.sort(DRAWS["segment"](points, np.ones((2, 4000), dtype=bool), np.random.default_rng(0))[:, 0])
    assert np.abs(share - np.linspace(0, 1, 4000)).max() < 0.03  # Kolmogorov-Smirnov


def test_mode_reader_takes_a_whole_film_from_one_reader(film):
    sample = film()
    taken = {tuple((drawn("reader", sample, seed)[0] == sample.points[0]).all(-1)) for seed in range(20)}
    assert taken == {(True,) * 5, (False,) * 5}
    assert all((drawn("reader", sample, s)[0] == sample.points).all(-1).any(0).all() for s in range(20))


def test_mode_gaussian_has_the_readers_mean_and_sample_covariance():
    points = np.array([[[0.0, 0.0]], [[4.0, 2.0]], [[2.0, 4.0]]]).repeat(20_000, axis=1)
    found = DRAWS["gaussian"](points, np.ones(points.shape[:2], dtype=bool), np.random.default_rng(0))
    np.testing.assert_allclose(found.mean(0), points[:, 0].mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(found.T), np.cov(points[:, 0].T), atol=0.1)


@pytest.mark.parametrize("mode", MODES)
def test_a_landmark_of_one_reader_is_that_reader_s_and_one_of_none_is_unknown(film, mode):
    sample = film(valid=[[True, True, False, False, True], [True, False, True, False, True]])
    for seed in range(10):
        points, valid = drawn(mode, sample, seed)
        assert valid.tolist() == [True, True, True, False, True]
        np.testing.assert_array_equal(points[1], sample.points[0, 1])
        np.testing.assert_array_equal(points[2], sample.points[1, 2])
        assert np.isnan(points[3]).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_draw_follows_from_the_seed_alone_also_in_a_worker(film, mode):
    sample, plugin = film(readers=3), pickle.loads(pickle.dumps(made(mode)))
    before = sample.points.copy()
    one, again = (plugin.truth(sample=sample, rng=np.random.default_rng(7))[0] for _ in range(2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, drawn(mode, sample, 7)[0])
    assert any((drawn(mode, sample, seed)[0] != one).any() for seed in range(8, 12))
    np.testing.assert_array_equal(sample.points, before)


def test_a_set_without_two_readers_of_anything_is_refused(make_run):
    run = make_run()
    AnnotatorNoise().check_run(run=run)
    valid = np.zeros((2, 19), dtype=bool)
    valid[0, :9] = valid[1, 9:] = True
    alone = dataclasses.replace(run, samples=tuple(dataclasses.replace(s, valid=valid) for s in run.samples))
    with pytest.raises(ConfigError, match="two readers"):
        Hooks({"annotator-noise": AnnotatorNoise()}).tell("check_run", run=alone)


def test_runs_train_with_it_and_the_number_of_workers_does_not_matter(tiny, tmp_path):
    plugins = {"annotator-noise": {"mode": "reader"}}
    runs = [
        ceph.train(tiny(plugins=p, train={"epochs": 1}, data={"workers": w}), out=tmp_path / str(i)).folder
        for i, (p, w) in enumerate([({}, 0), (plugins, 0), (plugins, 1)])
    ]
    plain, here, there = map(last_weights, runs)
    assert same_weights(here, there)
    assert not same_weights(here, plain)


def test_wrong_settings_are_refused():
    with pytest.raises(ValidationError):
        AnnotatorNoiseConfig(mode="mean")


@pytest.mark.parametrize("mode", MODES)
def test_a_reading_that_was_copied_is_not_drawn_from(film, mode):
    sample = film(readers=2, landmarks=3)
    copied = dataclasses.replace(sample, copied=np.array([[False] * 3, [True, False, True]]))
    points = np.stack([drawn(mode, copied, seed)[0] for seed in range(8)])
    np.testing.assert_array_equal(points[:, [0, 2]], np.broadcast_to(sample.points[0, [0, 2]], (8, 2, 2)))
    assert len(np.unique(points[:, 1, 0])) > 1
