"""The gate: films that are no lateral cephalogram as it should be are told by their points and scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.test_radius import heads

from ceph.data.geometry import resample, shift
from ceph.evaluation.gate import WAYS, best_way, judge, learn, put_right, read, turned_back, ways_to_try

MM = 0.25
FILM = (640, 640)  # H, W
SURE = np.full(6, 0.9)


@pytest.fixture(scope="module")
def usual():
    truth = heads(40, scatter=0.5)
    truth[:, 2] += [15, 0]  # no mirror image of itself
    return learn(truth, np.full((40, 6), 0.9))


def on_film(usual, scale=1.0, turn_deg=0.0, flip=False, shift_px=(320.0, 320.0)):
    """Points of a mean head, in film px."""
    points = usual.shape.mean * [-1 if flip else 1, 1] * scale / MM
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    return points @ [[c, s], [-s, c]] + shift_px


@pytest.mark.parametrize(
    ("points", "scores", "told"),
    [
        ({}, SURE, ""),
        ({"turn_deg": 12.0, "scale": 1.05}, SURE, ""),
        ({"flip": True}, SURE, "does not read"),
        ({"turn_deg": 90.0}, SURE, "does not read"),
        ({}, SURE * 0.2, "does not read"),
        ({"scale": 1.5}, SURE, "a head 1.50 times as large as usual by its 0.25 mm per px"),
        ({"shift_px": (20.0, 320.0)}, SURE, "is cropped: "),
    ],
)
def test_films_are_told_by_their_points(usual, points, scores, told):
    reading = read(on_film(usual, **points), scores, usual)
    assert told in judge(reading, usual, FILM, MM)
    assert bool(judge(reading, usual, FILM, MM)) == bool(told)


def test_points_anywhere_are_no_head_and_a_few_wrong_ones_are(usual):
    rng = np.random.default_rng(0)
    assert judge(read(rng.uniform(0, 640, (6, 2)), SURE, usual), usual, FILM, None)
    points, scores = on_film(usual), SURE.copy()
    points[1], scores[1] = (600, 20), 0.02
    assert not judge(read(points, scores, usual), usual, FILM, MM)


def test_a_size_counts_only_where_a_spacing_is_claimed(usual):
    assert not judge(read(on_film(usual, scale=1.3), SURE, usual), usual, FILM, None)


def test_doubtful_points_near_the_edge_are_taken_to_lie_outside(usual):
    reading = read(on_film(usual), SURE, usual)
    right = reading.places_px[:, 0].max()
    film, last = (640, int(right) + 20), reading.places_px[:, 0] > 250
    assert not judge(reading, usual, film, MM)
    assert last.sum() >= 3
    near = replace(reading, doubtful=last, places_px=np.where(last[:, None], [film[1] - 10, 300], reading.places_px))
    assert "is cropped" in judge(near, usual, film, MM)


def test_the_way_in_which_a_film_reads_is_found_and_a_film_that_reads_as_it_lies_is_let_be(usual):
    plain, good = read(on_film(usual, flip=True), SURE * 0.3, usual), read(on_film(usual), SURE, usual)
    none = read(np.random.default_rng(1).uniform(0, 640, (6, 2)), SURE * 0.2, usual)
    assert best_way(plain, {"inverted": none, "mirrored": good}) == "mirrored"
    assert best_way(plain, {"inverted": none}) == ""
    assert best_way(good, {"inverted": good}) == ""
    assert ways_to_try(good) == []
    assert ways_to_try(read(on_film(usual), SURE * 0.6, usual)) == [["inverted"]]
    assert sorted(way for ways in ways_to_try(plain) for way in ways) == sorted(WAYS)


@pytest.mark.parametrize("way", WAYS)
def test_points_of_a_film_that_was_put_right_are_turned_back(way):
    film = np.zeros((30, 50), np.uint8)
    film[4, 11] = 255
    right = put_right(film, way)
    inverted = WAYS[way][2]
    y, x = np.argwhere((255 - right if inverted else right) == 255)[0]
    assert turned_back(np.array([[x, y]]), way, film.shape).tolist() == [[11, 4]]


def test_ways_say_how_a_film_lies():
    film = resample(np.pad(np.full((9, 9), 255, np.uint8), 20), shift(8, 3), (49, 49))
    assert np.array_equal(put_right(np.rot90(film, -1), "turned by a quarter to the right"), film)
    assert np.array_equal(put_right(np.rot90(film[:, ::-1], -1), "mirrored and turned by a quarter to the right"), film)


def test_few_films_say_nothing_of_what_is_usual():
    assert learn(heads(9), np.full((9, 6), 0.9)) is None
