"""Offsets of another place: they turn and grow with the head, bear one bad film, and are refused where none is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ceph.evaluation.offsets import errors_by_others, expected, learn, mean_shape, mirrored, turned, turns, ways
from ceph.evaluation.stations import HeadOffsets

K = 19
RNG = np.random.default_rng(0)
SHAPE = RNG.normal(0, 40, (K, 2))
SHAPE -= SHAPE.mean(axis=0)
HABIT = RNG.normal(0, 2, (K, 2)) * (np.arange(K) % 2)[:, None]  # every other landmark is meant otherwise
SCATTER = np.linspace(0.4, 2.5, K)[:, None]


def clinic(films, seed, habit=HABIT):
    """Found and marked points [N, K, 2] in mm of heads that lie and grow as they like."""
    rng = np.random.default_rng(seed)
    turn = np.exp(rng.normal(0, 0.1, films) + 1j * rng.normal(0, 0.2, films))
    found = turned(SHAPE + rng.normal(0, 1.5, (films, K, 2)), turn) + rng.normal(100, 5, (films, 1, 2))
    return found, found + turned(habit + rng.normal(0, SCATTER, (films, K, 2)), turn)


def moves(found, marked):
    return turned(marked - found, turns(found, SHAPE))


def all_of(points):
    return np.ones(points.shape[:2], dtype=bool)


def test_many_films_give_the_offset_itself_in_the_frame_of_the_head():
    seen = moves(*clinic(400, 1))
    learned = learn(seen, all_of(seen))
    assert np.abs(learned.offsets_mm - HABIT).max() < 0.35
    assert not learned.strange.any()
    assert np.allclose(learned.scatter_mm / SCATTER[:, 0], 0.9, atol=0.1)  # the scale of a t law, below the deviation


def test_of_five_films_offsets_come_nearer_than_their_means():
    errors = []
    for seed in range(20):
        seen = moves(*clinic(5, seed))
        ours = learn(seen, all_of(seen)).offsets_mm
        errors.append([np.linalg.norm(each - HABIT, axis=-1).mean() for each in (ours, seen.mean(axis=0))])
    ours, means = np.mean(errors, axis=0)
    assert ours < 0.85 * means


def test_a_mean_shape_of_films_that_lack_landmarks_is_that_of_whole_ones():
    found, _ = clinic(80, 3)
    whole, torn = mean_shape(found), found.copy()
    torn[:40, 12:] = np.nan
    torn[40:, :4] = np.nan
    there = mean_shape(torn)
    assert np.linalg.norm(there - turned(whole[None], turns(whole[None], there))[0], axis=-1).max() < 1.2
    assert abs(np.angle(turns(found, whole)).mean()) < 0.01  # it stands as heads usually do
    torn[:, 7] = np.nan
    assert np.isnan(mean_shape(torn)[7]).all()


@pytest.mark.parametrize("how", ["shifted", "scattered"])
def test_a_film_of_five_mislabelled_by_20_mm_is_named_and_teaches_nothing(how):
    for seed in range(10):
        seen = moves(*clinic(5, seed))
        angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, K if how == "scattered" else 1)
        seen[2] += 20 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        learned = learn(seen, all_of(seen))
        others = np.delete(seen, 2, axis=0)
        assert learned.strange.tolist() == [False, False, True, False, False]
        assert np.linalg.norm(learned.offsets_mm - learn(others, all_of(others)).offsets_mm, axis=-1).max() < 0.3


def test_landmarks_that_few_films_have_or_none_are_learned_as_far_as_they_go():
    seen = moves(*clinic(6, 3))
    valid = all_of(seen)
    valid[:, 0], valid[1:, 1] = False, False
    learned = learn(np.where(valid[..., None], seen, 0), valid)
    assert learned.films[:3].tolist() == [0, 1, 6]
    assert (learned.offsets_mm[0] == 0).all()
    assert np.isnan(learned.scatter_mm[0])
    assert np.isfinite(learned.offsets_mm).all()


def test_what_is_expected_is_a_gain_where_there_is_one_and_none_where_there_is_not():
    films, shape = clinic(6, 5), mean_shape(clinic(6, 5)[0])
    gain = expected(*errors_by_others(*films, all_of(films[0]), shape, np.zeros(6, dtype=bool)))
    assert gain.shown
    assert gain.gain_mm == pytest.approx(gain.before_mm - gain.after_mm)
    assert gain.low_mm < gain.gain_mm < gain.high_mm
    shown = 0
    for seed in range(40):
        films = clinic(6, seed, habit=0 * HABIT)
        shown += expected(*errors_by_others(*films, all_of(films[0]), shape, np.zeros(6, dtype=bool))).shown
    assert shown <= 4


def test_a_head_that_faces_the_other_way_is_seen():
    _, marked = clinic(5, 7)
    there = np.arange(K) < 10
    assert not any(mirrored(points, there, SHAPE) for points in marked)
    assert all(mirrored(points * [-1, 1], there, SHAPE) for points in marked)


def test_the_station_moves_points_as_the_offsets_say():
    found, _ = clinic(4, 8)
    station = HeadOffsets(torch.from_numpy(SHAPE), torch.from_numpy(HABIT))
    points, scores = station.shift(torch.from_numpy(found), torch.ones(4, K), torch.eye(3).expand(4, 3, 3))
    back = turned((points.numpy() - found), turns(found, SHAPE))
    assert np.allclose(back, np.broadcast_to(HABIT, back.shape), atol=0.2)  # the two similarities are no inverses
    assert (scores == 1).all()


def test_offsets_along_the_way_in_which_the_run_errs_are_kept():
    rng, along = np.random.default_rng(9), np.array([0.6, 0.8])
    held_out = rng.normal(0, 0.3, (60, K, 2)) + rng.normal(0, 1.5, (60, K, 1)) * along
    held_out[:3] += 30
    valid = all_of(held_out)
    valid[:, 0] = False
    usual = ways(np.where(valid[..., None], held_out, 0), valid)
    assert np.allclose(usual[0], np.eye(2))  # of which nothing is known
    direction = np.linalg.eigh(usual[1:])[1][..., -1]
    assert (np.abs(direction @ along) > 0.97).all()
    errors = []
    for seed in range(20):
        habit = np.random.default_rng(seed).normal(0, 1.5, (K, 1)) * along
        seen = moves(*clinic(5, seed, habit))
        errors.append(
            [np.linalg.norm(learn(seen, all_of(seen), by).offsets_mm - habit, axis=-1).mean() for by in (usual, None)]
        )
    ours, alike = np.mean(errors, axis=0)
    assert ours < 0.93 * alike
