"""readers: habits of readers and of sets are told apart from the place they share, and one of them is spoken."""

import dataclasses

import numpy as np
import pytest
import torch

import ceph
from ceph.errors import ConfigError
from ceph.evaluation.offsets import turned, turns
from ceph.runfolder import read_predictions
from ceph_plugins.readers import Readers, ReadersConfig, fit

K, MM = 19, 0.25
RNG = np.random.default_rng(0)
SHAPE = RNG.normal(0, 40, (K, 2))
SHAPE -= SHAPE.mean(axis=0)
HABITS = RNG.normal(0, 1.5, (3, K, 2))  # of two readers of one set, and of the one of another
HABITS -= HABITS[:2].mean(axis=0)


def heads(films, seed):
    """Places [N, K, 2] in mm that all mean, and how each head is turned against the mean one [N]."""
    rng = np.random.default_rng(seed)
    turn = np.exp(rng.normal(0, 0.05, films) + 1j * rng.normal(0, 0.2, films))
    return turned(SHAPE + rng.normal(0, 1, (films, K, 2)), turn) + rng.normal(100, 5, (films, 1, 2)), turn


def films_of(run, sets):
    """The run with films of `sets`, {name: (films, rows of HABITS)}, read by these; and the places [N, K, 2] in mm."""
    made, places = [], []
    for name, (count, rows) in sets.items():
        there, turn = heads(count, len(name))
        for n, place in enumerate(there):
            points = np.full((3, K, 2), np.nan)
            for row in rows:
                scatter = np.random.default_rng([n, row]).normal(0, 0.3, (1, K, 2))
                points[row] = (place + turned(HABITS[[row]] + scatter, turn[[n]])[0]) / MM
            valid = np.isfinite(points[..., 0])
            made.append(dataclasses.replace(run.samples[0], points=points, valid=valid, set=name, id=f"{name}{n}"))
        places.append(there)
    run = dataclasses.replace(run, samples=tuple(made), readers=("ann", "bob", "cid"))
    return run, np.concatenate(places)


@pytest.fixture
def one_set(make_run):
    return films_of(make_run(), {"": (60, [0, 1])})


@pytest.fixture
def two_sets(make_run):
    return films_of(make_run(), {"first": (60, [0, 1]), "second": (20, [2])})


def off_mm(points, others):
    return np.linalg.norm(points - others, axis=-1).mean()


def test_habits_of_two_readers_are_found_and_what_trains_lies_between_them(one_set):
    run, places = one_set
    plugin = Readers()
    plugin.build_offsets(run=run)
    assert np.abs(plugin.habits.own[0, :2] - HABITS[:2]).max() < 0.3
    np.testing.assert_allclose(plugin.habits.own.sum(axis=1), 0, atol=1e-9)
    points, valid = plugin.truth(sample=run.samples[7])
    assert valid.all()
    assert off_mm(points * MM, places[7]) < 0.4


def test_a_landmark_that_one_reader_alone_has_marked_trains_without_his_habit(one_set):
    run, places = one_set
    sample = run.samples[3]
    points, valid = sample.points.copy(), sample.valid.copy()
    points[0, :9], valid[0, :9] = np.nan, False
    points[:, 12], valid[:, 12] = np.nan, False
    plugin = Readers()
    plugin.build_offsets(run=run)
    found, known = plugin.truth(sample=dataclasses.replace(sample, points=points, valid=valid))
    assert known.tolist() == [k != 12 for k in range(K)]
    assert np.isnan(found[12]).all()
    assert off_mm(found[:9] * MM, places[3, :9]) < 0.6 < off_mm(points[1, :9] * MM, places[3, :9])


@pytest.mark.parametrize(("like", "row"), [("ann", 0), ("bob", 1)])
def test_a_reader_is_spoken_wherever_the_head_lies_and_a_loaded_run_speaks_alike(one_set, like, row):
    run, places = one_set
    turn = turns(places, SHAPE)
    plugin = Readers(ReadersConfig(like=like))
    station = plugin.build_offsets(run=run)
    again = Readers(ReadersConfig(like=like)).build_offsets(run=dataclasses.replace(run, samples=(), readers=()))
    again.load_state_dict(station.state_dict())
    spoken, _ = station.shift(torch.from_numpy(places / MM), torch.ones(len(places), K), None)
    assert torch.equal(spoken, again.shift(torch.from_numpy(places / MM), torch.ones(len(places), K), None)[0])
    meant = places + turned(np.broadcast_to(HABITS[row], places.shape), 1 / turn)
    assert off_mm(spoken.numpy() * MM, meant) < 0.2 < off_mm(places, meant)


def shown(plugin, run, places):
    """What an epoch shows whose network finds the place itself: truth less found, in mm of each film."""
    truths = np.stack([plugin.truth(sample=sample)[0] * MM for sample in run.samples])
    return torch.from_numpy(truths - places).float()


def test_habits_of_sets_are_learned_from_what_the_network_finds_and_count_from_the_next_epoch(two_sets):
    run, places = two_sets
    plugin = Readers(ReadersConfig(like="second"))
    station = plugin.build_offsets(run=run)
    before = plugin.truth(sample=run.samples[-1])[0]
    plugin.epoch_start()
    plugin.epoch_end(samples=run.samples, moves_mm=shown(plugin, run, places))
    np.testing.assert_array_equal(plugin.truth(sample=run.samples[-1])[0], before)
    other = Readers(ReadersConfig(like="second"))
    other.build_offsets(run=run)
    other.load_state_dict(plugin.state_dict())  # as a run that is resumed between two epochs
    for each in (plugin, other):
        each.epoch_start()
        apart = each.habits.of_set[1] - each.habits.of_set[0]
        assert np.abs(apart - HABITS[2]).max() < 0.4
        np.testing.assert_allclose(each.habits.of_set.sum(axis=0), 0, atol=1e-9)
    np.testing.assert_array_equal(plugin.habits.of_set, other.habits.of_set)
    assert list(plugin.habits.voices) == ["mean", "first", "second", "ann", "bob", "cid"]
    moved = station.shift(torch.tensor(places), torch.ones(len(places), K), None)[0].numpy() - places
    assert np.linalg.norm(moved, axis=-1).mean() == pytest.approx(
        np.linalg.norm(HABITS[2] / 2, axis=-1).mean(), rel=0.1
    )


def test_what_only_one_set_has_is_nobodys_habit(two_sets):
    run, places = two_sets
    torn = []
    for sample in run.samples:
        points, valid = sample.points.copy(), sample.valid.copy()
        if sample.set == "second":
            points[:, 10:], valid[:, 10:] = np.nan, False
        torn.append(dataclasses.replace(sample, points=points, valid=valid))
    run = dataclasses.replace(run, samples=tuple(torn))
    plugin = Readers()
    plugin.build_offsets(run=run)
    moves = shown(plugin, run, places)
    plugin.epoch_end(samples=run.samples, moves_mm=moves)
    plugin.epoch_start()
    assert not plugin.habits.of_set[:, 10:].any()
    assert plugin.habits.of_set[:, :10].any()


def test_sets_are_drawn_evenly_unless_weights_say_otherwise(one_set, two_sets):
    assert Readers().sample_weights(samples=one_set[0].samples) is None
    samples = two_sets[0].samples
    of_first = np.array([sample.set == "first" for sample in samples])
    for weights, share in (({}, 0.5), ({"second": 3}, 0.25)):
        found = Readers(ReadersConfig(weights=weights)).sample_weights(samples=samples)
        assert found[of_first].sum() / found.sum() == pytest.approx(share)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"like": "anne"}, "no reader or set 'anne'.*ann"), ({"weights": {"frist": 1}}, "no set 'frist'")],
)
def test_a_name_that_nobody_bears_is_refused_with_the_nearest(two_sets, settings, said):
    with pytest.raises(ConfigError, match=said) as caught:
        Readers(ReadersConfig(**settings)).check_run(run=two_sets[0])
    assert "first" in str(caught.value) or "ann" in str(caught.value)


def test_one_reader_and_sets_without_common_landmarks_are_refused(make_run, two_sets):
    alone, _ = films_of(make_run(), {"": (8, [1])})
    with pytest.raises(ConfigError, match="two readers"):
        Readers().check_run(run=alone)
    run, _ = two_sets
    apart = []
    for sample in run.samples:
        valid = sample.valid.copy()
        valid[:, slice(0, 8) if sample.set == "first" else slice(8, None)] = False
        points = np.where(valid[..., None], sample.points, np.nan)
        apart.append(dataclasses.replace(sample, points=points, valid=valid))
    with pytest.raises(ConfigError, match="set second shares fewer than two landmarks"):
        fit(apart, run.readers)


def test_a_finished_run_speaks_as_whom_prediction_asks_for(tiny, tmp_path):
    run = ceph.train(tiny(plugins={"readers": {}}, train={"epochs": 1}), out=tmp_path / "run").folder
    points = {}
    for like in ("mean", "senior", "junior"):
        ceph.load(run, settings=[f"plugins.readers.like={like}"]).evaluate("validation")
        points[like] = read_predictions(run, "validation").points_px
    assert (points["senior"] != points["mean"]).any()
    np.testing.assert_allclose((points["senior"] + points["junior"]) / 2, points["mean"], atol=1e-3)
    ceph.load(run, settings=["data.truth=senior"]).evaluate("validation")  # who scores is who is spoken as
    np.testing.assert_array_equal(read_predictions(run, "validation").points_px, points["senior"])
    with pytest.raises(ConfigError, match="senoir"):
        ceph.load(run, settings=["plugins.readers.like=senoir"]).evaluate("validation")
