"""Points that belong to another film of the set are told by the films, with the film whose they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.data.small_sets import shared_data

from ceph.data.check.exchanged import LEAST_FILMS, find_exchanged
from ceph.data.check.looks import look_at
from ceph.data.formats.find import read
from ceph.data.synthetic import sets as synthetic


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A dozen drawn films, each of another head, and looks at them."""
    folder = tmp_path_factory.mktemp("drawn") / "set"
    synthetic.write(folder, films=12, height=330)
    data = read(folder)
    return data, look_at(data.samples)


def given(data, films, readers=slice(None)):
    """`data` in which points on each of the `films` are those of the next one; and the pairs of film and owner."""
    samples = list(data.samples)
    for film, owner in zip(films, np.roll(films, -1), strict=True):
        points, valid = data.samples[film].points.copy(), data.samples[film].valid.copy()
        points[readers], valid[readers] = data.samples[owner].points[readers], data.samples[owner].valid[readers]
        samples[film] = replace(data.samples[film], points=points, valid=valid)
    pairs = {(data.samples[f].id, data.samples[o].id) for f, o in zip(films, np.roll(films, -1), strict=True)}
    return replace(data, samples=tuple(samples)), pairs


def test_films_with_the_points_of_others_are_named_with_these(drawn):
    data, looks = drawn
    changed, pairs = given(data, [1, 5, 8])
    found = find_exchanged(changed, looks)
    assert {finding.films for finding in found} == pairs
    assert {finding.level for finding in found} == {"error"}


def test_points_in_their_place_are_not_named(drawn):
    assert find_exchanged(*drawn) == []


def test_the_reader_whose_points_were_exchanged_is_named(drawn):
    data, looks = drawn
    changed, pairs = given(data, [2, 7], readers=1)
    found = find_exchanged(changed, looks)
    assert {finding.films for finding in found} == pairs
    assert all("its points by junior fit the film" in finding.text for finding in found)


def test_a_film_that_cannot_be_opened_and_a_missing_point_do_no_harm(drawn):
    data, looks = drawn
    changed, pairs = given(data, [1, 5])
    first = changed.samples[0]
    gap = replace(first, points=first.points.copy(), valid=first.valid.copy())
    gap.points[:, 3], gap.valid[:, 3] = np.nan, False
    changed = replace(changed, samples=(gap, *changed.samples[1:]))
    assert {finding.films for finding in find_exchanged(changed, [*looks[:-1], None])} == pairs


def test_few_films_and_films_of_noise_tell_nothing(drawn):
    data, looks = drawn
    few, _ = given(replace(data, samples=data.samples[: LEAST_FILMS - 1]), [1, 5])
    assert find_exchanged(few, looks[: LEAST_FILMS - 1]) == []
    rng = np.random.default_rng(0)
    noise = [replace(look, image=rng.integers(0, 255, look.image.shape, dtype=np.uint8)) for look in looks]
    assert find_exchanged(data, noise) == []


def test_three_of_sixty_real_films_with_exchanged_points_are_found_and_no_other():
    data = read(shared_data() / "isbi2015", mm_per_px=0.25)
    some = replace(data, samples=tuple(s for s in data.samples if s.split == "train")[:60])
    changed, pairs = given(some, [10, 25, 40])
    assert {finding.films for finding in find_exchanged(changed, look_at(changed.samples))} == pairs
