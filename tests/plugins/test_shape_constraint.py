"""shape-constraint: gross errors go where the other landmarks put them, all else stays; `best` keeps the model."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import ceph
from ceph.data.geometry import similarity, transform
from ceph.hooks.base import Origin
from ceph.model.codec import GaussianDecoder, gaussians
from ceph.training import checkpoint
from ceph_plugins.shape_constraint import ShapeCheck, ShapeConstraint, ShapeConstraintConfig, fit

STRIDE, SIZE, MAP = 4, (480, 384), (120, 96)
SPACING = 0.5  # mm of a network pixel
CORE = GaussianDecoder("distribution", 0.5, STRIDE, "dark")


def heads(films, seed=0, landmarks=19):
    """Points [N, K, 2] in mm of heads that differ in a few ways, turned, shifted and scaled a little."""
    shape = np.random.default_rng(1)
    mean, modes = shape.uniform(40, 150, (landmarks, 2)), shape.normal(0, 2, (4, landmarks, 2))
    rng = np.random.default_rng(seed)
    bent = (
        mean + np.einsum("nm,mki->nki", rng.normal(size=(films, 4)), modes) + rng.normal(0, 0.5, (films, landmarks, 2))
    )
    moves = [
        similarity(rng.normal(0, 5), rng.uniform(0.95, 1.05), tuple(rng.normal(0, 5, 2)), (240, 192)) for _ in bent
    ]
    return np.stack([transform(m, p) for m, p in zip(moves, bent, strict=True)])


def maps_of(points):
    return gaussians(torch.from_numpy(points / SPACING).float(), MAP, "distribution", 0.5, STRIDE)


@pytest.fixture(scope="module")
def model():
    return fit(heads(80))


def constrained(model):
    return ShapeCheck(model, least_mm=5.0, spreads=3.5)


def decoded(maps, station=None):
    """Points and scores after the core's decoder, and after the station where there is one."""
    found = CORE.decode(maps, SIZE)
    return found if station is None else station.constrain(*found, maps, CORE.decode, SIZE, None)


def errors_mm(found, points):
    return np.linalg.norm(found[0].numpy() * SPACING - points, axis=-1)


def test_the_others_say_where_a_landmark_is(model):
    points = heads(40, seed=2)
    found = model.expected(points, np.ones(points.shape[:2]))
    off = np.linalg.norm(found.points - points, axis=-1)
    assert np.median(off) < 1.5  # the noise is 0.5 mm a coordinate; the landmark itself is 2 mm a mode off the mean
    np.testing.assert_allclose(np.sqrt(np.median(off**2, axis=0) / np.log(2)), model.spread_mm, rtol=0.6)
    assert (found.agree > 0.99).all()


def test_a_displaced_landmark_moves_no_other_ones_expectation(model):
    points = heads(10, seed=3)
    wrong = points.copy()
    wrong[:, 4] += (40, -25)
    trust = np.ones(points.shape[:2])
    right, found = model.expected(points, trust), model.expected(wrong, trust)
    np.testing.assert_allclose(found.points, right.points, atol=1.0)
    assert (found.agree < 1).all()


@pytest.mark.parametrize("move", [similarity(90, 1.0, (0, 0), SIZE), similarity(0, 3.0, (500, -80), SIZE)])
def test_expectations_turn_and_scale_with_the_film(model, move):
    points = heads(5, seed=4)
    trust = np.ones(points.shape[:2])
    right, found = model.expected(points, trust), model.expected(np.stack([transform(move, p) for p in points]), trust)
    np.testing.assert_allclose(found.points, np.stack([transform(move, p) for p in right.points]), atol=1e-6)
    np.testing.assert_allclose(found.px_per_mm / right.px_per_mm, np.sqrt(np.linalg.det(move[:2, :2])))


def test_what_is_in_its_place_stays_to_the_last_bit(model):
    pred = maps_of(heads(12, seed=5))
    for ours, core in zip(decoded(pred, constrained(model)), decoded(pred), strict=True):
        assert torch.equal(ours, core)


def test_the_second_peak_of_a_map_is_found_where_the_others_put_it(model):
    points = heads(12, seed=6)
    ghost = np.clip(points + np.where(np.arange(19)[:, None] == 7, 50, 0), 5, 180)
    pred = 0.7 * maps_of(ghost) + 0.3 * maps_of(points)
    plain, found = decoded(pred), decoded(pred.clone(), constrained(model))
    assert (errors_mm(plain, points)[:, 7] > 20).all()
    assert errors_mm(found, points).max() < SPACING * STRIDE / 2
    assert (found[1][:, 7] < 0.31).all()
    assert torch.equal(found[1][:, :7], plain[1][:, :7])


def test_a_map_without_a_second_peak_gives_a_plausible_place_and_a_score_near_zero(model):
    points = heads(12, seed=7)
    pred = maps_of(points)
    pred[:, 2] = 0
    pred[:, 2, 1, 1] = 1  # a letter in the corner
    found = decoded(pred, constrained(model))
    assert errors_mm(found, points)[:, 2].max() < 10
    assert found[1][:, 2].max() < 1e-3
    assert torch.isfinite(found[0]).all()


def test_several_gross_errors_of_one_film_are_mended(model):
    points = heads(6, seed=8)
    ghost = points.copy()
    ghost[:, [1, 5, 9, 13, 17]] = np.random.default_rng(0).uniform(5, 180, (6, 5, 2))
    found = decoded(0.6 * maps_of(ghost) + 0.4 * maps_of(points), constrained(model))
    assert errors_mm(found, points).max() < 6.0  # nearer ghosts are plausible


def test_points_that_do_not_agree_are_left_alone(model):
    pred = maps_of(np.random.default_rng(0).uniform(5, 180, (4, 19, 2)))
    same = torch.zeros(1, 19, *MAP)
    same[..., 60, 48] = 1
    for maps in (pred, same, torch.full_like(same, float("nan"))):
        found, core = decoded(maps, constrained(model)), decoded(maps)
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(found, core, strict=True))


def films_of(run, points):
    """The run with a film for each of `points` [N, K, 2] in mm."""
    spacing = run.samples[0].mm_per_px
    made = [
        dataclasses.replace(run.samples[0], points=p[None] / spacing, valid=np.ones((1, len(p)), dtype=bool), id=str(i))
        for i, p in enumerate(points)
    ]
    return dataclasses.replace(run, samples=tuple(made))


def built(run, state=None):
    station = ShapeConstraint(ShapeConstraintConfig()).build_constraint(run=run)
    if state is not None:
        station.load_state_dict(state)
    return station


def test_the_model_comes_back_from_the_state(make_run):
    run = films_of(make_run(), heads(60))
    points = heads(3, seed=9)
    pred = 0.7 * maps_of(points + np.where(np.arange(19)[:, None] == 3, 30, 0)) + 0.3 * maps_of(points)
    one = built(run)
    other = built(dataclasses.replace(run, samples=()), one.state_dict())
    for a, b in zip(decoded(pred.clone(), one), decoded(pred.clone(), other), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("films", "landmarks"), [(29, 19), (40, 4)])
def test_too_little_for_a_model_is_said_and_changes_nothing(make_run, caplog, films, landmarks):
    with caplog.at_level(logging.WARNING, "ceph"):
        station = built(films_of(make_run(tuple("ABCDEFGHIJKLMNOPQRS")[:landmarks]), heads(films, landmarks=landmarks)))
        assert "make no shape model" in caplog.text
        station.load_state_dict(station.state_dict())
    assert "was trained without a shape model" in caplog.text
    pred = maps_of(heads(2, seed=1, landmarks=landmarks) + np.where(np.arange(landmarks)[:, None] == 1, 40, 0))
    assert all(torch.equal(a, b) for a, b in zip(decoded(pred, station), decoded(pred), strict=True))


def test_films_with_missing_landmarks_teach_nothing(make_run):
    run = films_of(make_run(), heads(60))
    points = run.samples[0].points.copy()
    points[:, 3] = np.nan
    torn = dataclasses.replace(run.samples[0], points=points, valid=~np.isnan(points[..., 0]))
    one, other = built(run), built(dataclasses.replace(run, samples=(*run.samples, torn)))
    assert all(torch.equal(part, other.state_dict()[name]) for name, part in one.state_dict().items())


def test_of_a_union_of_sets_the_landmarks_that_enough_films_have_together_are_held_against_each_other(make_run, caplog):
    run = films_of(make_run(), heads(60))
    torn = []
    for n, sample in enumerate(run.samples):
        points = sample.points.copy()
        points[:, 2 if n < 30 else 15] = np.nan  # of two sets each lacks one
        torn.append(dataclasses.replace(sample, points=points, valid=~np.isnan(points[..., 0])))
    with caplog.at_level(logging.WARNING, "ceph"):
        one = built(dataclasses.replace(run, samples=tuple(torn)))
    assert "left alone: Or" in caplog.text
    points = heads(6, seed=6)
    ghost = np.clip(points + np.isin(np.arange(19), [2, 7])[:, None] * 50, 5, 180)
    pred = 0.7 * maps_of(ghost) + 0.3 * maps_of(points)
    for station in (one, built(dataclasses.replace(run, samples=()), one.state_dict())):
        off = errors_mm(decoded(pred.clone(), station), points)
        assert off[:, 7].max() < 1 < 20 < off[:, 2].min()
        assert off[:, [k for k in range(19) if k != 2]].max() < 1


def test_a_model_cut_to_some_landmarks_has_the_spreads_of_one_that_is_fitted_to_them():
    points, some = heads(300), np.array([3, 17, 0, 5, 9, 12, 8])
    whole, cut, fitted = fit(points), fit(points).of(some), fit(points[:, some])
    assert (cut.spread_mm > 1.3 * whole.spread_mm[some]).any()  # fewer others leave more open
    np.testing.assert_allclose(cut.spread_mm, fitted.spread_mm, rtol=0.15)
    seen, trust = heads(20, seed=2)[:, some], np.ones((20, 7))
    np.testing.assert_allclose(cut.expected(seen, trust).points, fitted.expected(seen, trust).points, atol=1.0)


def starting_from(run, landmarks, state, films=4):
    """The run with few films, from weights of a run that knew `landmarks`."""
    origin = Origin(tuple(landmarks), {"mm_per_px": 0.5, "constraint": {"shape-constraint": state}})
    return dataclasses.replace(films_of(run, heads(films)), origin=origin)


def test_too_few_films_go_on_with_the_shapes_of_the_run_that_they_start_from(make_run, caplog):
    run = make_run()
    order = np.random.default_rng(0).permutation(19)
    theirs = [run.landmarks[k] for k in order]  # another order, and one of ours lacks
    theirs[3], known = "new", np.delete(np.arange(19), order[3])
    before = ShapeCheck(fit(heads(80)[:, order]), 5.0, 3.5).state_dict()
    with caplog.at_level(logging.INFO, "ceph"):
        station = built(starting_from(run, theirs, before))
    lost = run.landmarks[order[3]]
    assert "4 films with all of 19 landmarks" in caplog.text
    assert "that of the run that it starts from is taken" in caplog.text
    assert f"left alone: {lost}" in caplog.text
    points = heads(6, seed=6)
    ghost = np.clip(points + np.isin(np.arange(19), [order[3], order[0]])[:, None] * 50, 5, 180)
    pred = 0.7 * maps_of(ghost) + 0.3 * maps_of(points)
    for one in (station, built(dataclasses.replace(run, samples=()), station.state_dict())):
        off = errors_mm(decoded(pred.clone(), one), points)
        assert off[:, known].max() < 1 < 20 < off[:, order[3]].min()


@pytest.mark.parametrize(("films", "shared", "knows"), [(4, 19, False), (4, 4, True), (60, 19, True)])
def test_own_films_come_first_and_a_start_that_knows_no_shape_of_ours_changes_nothing(
    make_run, caplog, films, shared, knows
):
    run = make_run()
    state = ShapeCheck(fit(heads(80)), 5.0, 3.5).state_dict() if knows else {}
    theirs = (*run.landmarks[:shared], *"abcdefghijklmno"[: 19 - shared])
    found, plain = (
        built(each).state_dict() for each in (starting_from(run, theirs, state, films), films_of(run, heads(films)))
    )
    assert ("points stay as they are" in caplog.text) == (films == 4) == (not found)
    assert found.keys() == plain.keys()
    assert all(torch.equal(part, plain[name]) for name, part in found.items())


def test_a_run_keeps_the_model_and_evaluates_with_it_and_one_that_starts_from_it_too(
    tiny, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("ceph_plugins.shape_constraint.LEAST_FILMS", 5)
    run = ceph.train(tiny(train={"epochs": 1}, plugins={"shape-constraint": {}}), out=tmp_path / "run")
    trained = ceph.load(run.folder)
    assert trained.evaluator.stations.constraint.model.mean.shape == (29, 2)
    assert trained.evaluate()[0]["mre_mm"] == run.metrics["mre_mm"]
    monkeypatch.setattr("ceph_plugins.shape_constraint.LEAST_FILMS", 1000)
    few = tiny(train={"epochs": 1}, plugins={"shape-constraint": {}})
    folder = ceph.train(few, out=tmp_path / "few", init_from=run.folder).folder
    shapes = [checkpoint.load(folder / "checkpoints", name)["stations"] for name in (checkpoint.BEST, checkpoint.LAST)]
    with caplog.at_level(logging.INFO, "ceph"):
        ceph.resume(folder, epochs=2)
    shapes.append(checkpoint.load(folder / "checkpoints", checkpoint.LAST)["stations"])
    for kept in (each["constraint"]["shape-constraint"] for each in shapes):
        np.testing.assert_allclose(kept["covariance"], trained.evaluator.stations.constraint.model.covariance)
        assert all(torch.equal(part, shapes[0]["constraint"]["shape-constraint"][name]) for name, part in kept.items())
    assert "that of the run that it starts from is taken" in caplog.text
    assert "points stay as they are" not in caplog.text


@pytest.mark.parametrize("wrong", [{"spreads": 0}, {"least_mm": -1}, {"limit": 3}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        ShapeConstraintConfig(**wrong)
