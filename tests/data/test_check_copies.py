"""Films that are one film are found, however the copy was saved; different films are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ceph.data.check.copies import find_copies
from ceph.data.check.looks import THUMB
from ceph.data.formats.find import read
from ceph.data.images import read_film


def jpeg(film, quality):
    return cv2.imdecode(cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def scaled(film, factor):
    return cv2.resize(film, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def brighter(film, gain, bias):
    return np.clip(film.astype(float) * gain + bias, 0, 255).astype(np.uint8)


CHANGES = {
    "the same file": lambda film: film,
    "JPEG of quality 30": lambda film: jpeg(film, 30),
    "half the size": lambda film: scaled(film, 0.5),
    "larger": lambda film: scaled(film, 1.7),
    "squashed": lambda film: cv2.resize(film, (300, 300), interpolation=cv2.INTER_AREA),
    "brighter": lambda film: brighter(film, 1, 40),
    "darker": lambda film: brighter(film, 1, -40),
    "less contrast": lambda film: brighter(film, 0.5, 60),
    "gamma": lambda film: brighter((film / 255.0) ** 0.6, 255, 0),
    "inverted": lambda film: 255 - film,
    "smaller, brighter and JPEG": lambda film: jpeg(brighter(scaled(film, 0.5), 1.2, 30), 50),
}


def thumb(film):
    return cv2.resize(film, (THUMB, THUMB), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def films(tiny_set):
    return [read_film(sample.path) for sample in read(tiny_set).samples]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mirrored", [False, True], ids=["", "mirrored"])
def test_a_copy_is_found_and_no_other_film(films, change, mirrored):
    copy = CHANGES[change](films[3])
    found = find_copies([*map(thumb, films), thumb(copy[:, ::-1] if mirrored else copy)])
    assert [(c.first, c.second, c.mirrored) for c in found] == [(3, len(films), mirrored)]
    assert found[0].likeness > 0.65


def test_three_of_one_film_are_three_pairs_and_films_that_could_not_be_opened_are_passed_over(films):
    one = thumb(films[0])
    found = find_copies([one, None, one, thumb(films[1]), None, one])
    assert [(c.first, c.second) for c in found] == [(0, 2), (0, 5), (2, 5)]


@pytest.mark.parametrize(
    "thumbs", [[], [np.zeros((192, 192), np.uint8)], [None, None]], ids=["none", "one", "unreadable"]
)
def test_fewer_than_two_films_have_no_copies(thumbs):
    assert find_copies(thumbs) == []


def test_empty_films_are_like_nothing(films):
    flat = np.full((THUMB, THUMB), 7, np.uint8)
    assert find_copies([flat, flat + 1, thumb(films[0])]) == []
