"""shape-prior: plausible shapes cost nothing in any frame, others do in mm, and missing points are left out."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import ceph
from ceph.data.types import Batch
from ceph.errors import ConfigError
from ceph.hooks.verbs import Hooks
from ceph_plugins.shape_prior import ShapePrior, ShapePriorConfig, complete_shapes, fit

K, MODES = 12, 3
HALF = np.array([0.5, 0.0])  # px from the readers' mean to either
RNG = np.random.default_rng(4)
MEAN = RNG.normal(size=(K, 2))
MEAN = (MEAN - MEAN.mean(0)) / np.linalg.norm(MEAN - MEAN.mean(0))
FREE = np.stack([np.tile([1, 0], K), np.tile([0, 1], K), MEAN.ravel(), (MEAN[:, ::-1] * [-1, 1]).ravel()])
WAYS = np.linalg.qr(np.concatenate([FREE, RNG.normal(size=(MODES, 2 * K))]).T)[0][:, 4:]  # no similarity among them


def shapes_of(modes):
    """Shapes [..., K, 2] of size about 1, from amounts [..., MODES] of the ways in which these heads differ."""
    return MEAN + (np.asarray(modes) @ WAYS.T).reshape(*np.shape(modes)[:-1], K, 2)


def moved(shapes, turn_deg=30.0, scale=250.0, shift=(180.0, 90.0)):
    """Shapes as they may lie on a film, in px."""
    c, s = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    return scale * shapes @ np.array([[c, s], [-s, c]]) + shift


SD = np.array([0.08, 0.05, 0.03])
AMOUNTS = np.linalg.qr(RNG.normal(size=(30, MODES)))[0] * np.sqrt(29.5) * SD
TRAINING = moved(shapes_of(np.concatenate([AMOUNTS, -AMOUNTS])))  # their mean is MEAN, their modes are WAYS
MODEL = fit(TRAINING, 1 - 1e-9, 3.0)
SIMILARITY = st.tuples(st.floats(-180, 180), st.floats(20, 900), st.tuples(st.floats(-400, 400), st.floats(-400, 400)))


def tensor(points):
    return torch.from_numpy(np.asarray(points)).float()


def everywhere(points):
    return torch.ones(points.shape[:2], dtype=torch.bool)


def test_the_modes_are_those_in_which_the_shapes_differ():
    assert MODEL.basis.shape == (2 * K, 4 + MODES)
    torch.testing.assert_close(MODEL.basis.T @ MODEL.basis, torch.eye(4 + MODES), rtol=0, atol=1e-5)
    assert fit(TRAINING, 0.6, 3.0).basis.shape[1] < 4 + MODES
    assert MODEL.limit[:4].isinf().all()
    torch.testing.assert_close(MODEL.limit[4:], tensor(3 * SD))


@given(SIMILARITY, st.tuples(*[st.floats(-1, 1)] * MODES))
def test_a_shape_of_the_subspace_costs_nothing_in_any_frame(similarity, amounts):
    points = tensor(moved(shapes_of([amounts * SD]), *similarity))
    assert MODEL.implausible(points, everywhere(points)).abs().max() < 2e-4


@given(SIMILARITY, st.integers(100, 199))
def test_what_is_implausible_does_not_depend_on_the_frame(similarity, seed):
    shapes = shapes_of(np.zeros((1, MODES))) + np.random.default_rng(seed).normal(size=(1, K, 2)) * 0.05
    one, other = (
        MODEL.implausible(p, everywhere(p)).norm() for p in (tensor(moved(shapes)), tensor(moved(shapes, *similarity)))
    )
    assert one > 0.05
    assert float(other) == pytest.approx(float(one), rel=1e-3)


def test_beyond_the_limit_a_mode_costs_what_it_exceeds_it_by():
    for amount in (0.03, 0.2, 0.45):
        points = tensor(moved(shapes_of([[amount, 0, 0]])))
        laid_on_the_mean = amount / (1 + amount**2)  # least squares shrinks a shape that differs
        expected = max(0.0, laid_on_the_mean - 3 * SD[0])
        assert float(MODEL.implausible(points, everywhere(points)).norm()) == pytest.approx(expected, abs=1e-3)


def test_landmarks_that_are_not_valid_count_nowhere():
    points = tensor(moved(shapes_of([[0.05, -0.02, 0.01]])))
    valid = everywhere(points)
    valid[0, [2, 7]] = False
    wild = points.clone()
    wild[0, [2, 7]] = torch.tensor([1e4, -1e4])
    assert MODEL.implausible(wild, valid).abs().max() < 1e-3
    assert torch.equal(MODEL.implausible(wild, valid), MODEL.implausible(points, valid))
    assert MODEL.implausible(wild, ~valid ^ valid).abs().max() > 0.1


# --- the plugin -----------------------------------------------------------------------------------------------------


def made(run, **settings):
    plugin = ShapePrior(ShapePriorConfig(**{"warmup_epochs": 0, "variance": 1 - 1e-9, **settings}))
    hooks = Hooks({"shape-prior": plugin})
    hooks.tell("check_run", run=run)
    hooks.tell("run_start", run=run)
    return hooks


@pytest.fixture
def run(make_run):
    """A run on sixty films, the second of two readers one px to the right."""
    plain = make_run(tuple(f"L{k}" for k in range(K)), films=60)
    films = tuple(
        dataclasses.replace(s, points=np.stack([p - HALF, p + HALF]), valid=np.ones((2, K), dtype=bool))
        for s, p in zip(plain.samples, TRAINING, strict=True)
    )
    return dataclasses.replace(plain, samples=films)


def batch_of(points, valid=None, mm_per_px=0.25, epochs_done=0.0):
    points = tensor(points)
    films = len(points)
    valid = everywhere(points) if valid is None else valid
    index, spacing = torch.arange(films), torch.full((films,), mm_per_px)
    image, same = torch.zeros(films, 1, 8, 8), torch.eye(3, dtype=torch.float64).expand(films, 3, 3)
    return Batch(image, points * valid[..., None], valid, index, spacing, same, epochs_done=epochs_done)


def term(hooks, batch, points):
    terms = hooks.merge("loss_terms", batch=batch, pred=torch.zeros(len(points), K, 4, 4), points=points)
    hooks.check()
    return terms["shape_prior"]


def test_the_term_is_zero_for_plausible_points_and_grows_in_mm_linearly_when_they_are_far_off(run):
    hooks, batch = made(run, weight=1.0), batch_of(TRAINING[:4])
    assert float(term(hooks, batch, tensor(TRAINING[:4]))) < 1e-3
    off = np.zeros((4, K, 2))
    off[:, 5, 0] = 1.0  # px
    small, near, far, farther = (float(term(hooks, batch, tensor(TRAINING[:4] + f * off))) for f in (1, 2, 100, 200))
    assert near / small == pytest.approx(4, rel=0.1)
    assert farther / far == pytest.approx(2, rel=0.25)
    assert far < 100 * 0.25  # no more than the landmarks are off, in mm


def test_the_term_is_the_same_at_another_size_of_the_film(run):
    hooks, shape = made(run), TRAINING[:2] + RNG.normal(size=(2, K, 2)) * 4
    one = term(hooks, batch_of(TRAINING[:2], mm_per_px=0.2), tensor(shape))
    half = term(hooks, batch_of(TRAINING[:2] / 2, mm_per_px=0.4), tensor(shape / 2))
    torch.testing.assert_close(one, half, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("missing", [0, 3, 6, 7, 10, 11, 12])
def test_gradients_are_finite_and_only_for_valid_landmarks_of_films_with_half_of_them(run, missing):
    valid = torch.ones(2, K, dtype=torch.bool)
    valid[0, :missing] = False
    points = tensor(TRAINING[:2] + RNG.normal(size=(2, K, 2)) * 5).requires_grad_()
    term(made(run), batch_of(TRAINING[:2], valid), points).backward()
    assert points.grad.isfinite().all()
    counts = missing <= K / 2
    assert (points.grad[0].abs().sum(-1) > 0).tolist() == [counts and bool(v) for v in valid[0]]
    assert (points.grad[1].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("predicted", [torch.zeros(2, K, 2), torch.full((2, K, 2), 7.0), torch.rand(2, K, 2) * 400])
def test_points_of_an_untrained_network_give_finite_gradients(run, predicted):
    points = predicted.clone().requires_grad_()
    loss = term(made(run), batch_of(TRAINING[:2]), points)
    loss.backward()
    assert loss.isfinite()
    assert points.grad.isfinite().all()


def test_following_the_gradient_makes_a_shape_plausible(run):
    hooks, batch = made(run, weight=1.0), batch_of(TRAINING[:1])
    points = tensor(TRAINING[:1] + RNG.normal(size=(1, K, 2)) * 6).requires_grad_()
    first, optimizer = float(term(hooks, batch, points).detach()), torch.optim.Adam([points], lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        loss = term(hooks, batch, points)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * first


@pytest.mark.parametrize("warmup", [3, "37.5%"])  # of eight epochs
def test_there_is_no_term_during_the_warm_up(run, warmup):
    hooks, points = made(run, warmup_epochs=warmup), tensor(TRAINING[:2])
    arguments = {"pred": torch.zeros(2, K, 4, 4), "points": points}
    found = [
        hooks.merge("loss_terms", batch=batch_of(TRAINING[:2], epochs_done=done), **arguments) for done in (2.9, 3)
    ]
    assert [list(terms) for terms in found] == [[], ["shape_prior"]]


def test_the_model_is_fitted_to_the_complete_films_in_the_readers_mean(run):
    films = list(run.samples)
    unknown = np.ones((2, K), dtype=bool)
    unknown[0, 3] = False
    films[0] = dataclasses.replace(
        films[0], valid=unknown, points=np.where(unknown[..., None], films[0].points, np.nan)
    )
    unknown = unknown & (np.arange(K) != 3)
    films[1] = dataclasses.replace(
        films[1], valid=unknown, points=np.where(unknown[..., None], films[1].points, np.nan)
    )
    shapes = complete_shapes(films)
    assert len(shapes) == 59
    np.testing.assert_allclose(shapes[1], TRAINING[2])
    np.testing.assert_allclose(shapes[0, 3], TRAINING[0, 3] + HALF)  # the one reader who marked it


def test_too_few_complete_films_are_refused_and_the_landmark_that_is_missing_is_named(run):
    valid = np.ones((2, K), dtype=bool)
    valid[:, 4] = False
    gaps = tuple(dataclasses.replace(s, valid=valid) if i > 8 else s for i, s in enumerate(run.samples))
    with pytest.raises(ConfigError, match=r"9 of 60 training films(.|\n)*L4 is missing most, in 51"):
        made(dataclasses.replace(run, samples=gaps))


def test_a_run_trains_with_it(tiny, tmp_path):
    plugins = {"shape-prior": {"warmup_epochs": 1, "weight": 1.0}}
    assert ceph.train(tiny(plugins=plugins), out=tmp_path / "run").metrics["mre_mm"] > 0


@pytest.mark.parametrize(
    "wrong", [{"weight": -1}, {"variance": 0}, {"variance": 1.1}, {"limit": 0}, {"warmup_epochs": -1}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        ShapePriorConfig(**wrong)
