"""Points in percent, fractions, or with x and y swapped are suspected; real and synthetic films are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.data.small_sets import shared_data

from ceph.data.formats.find import read
from ceph.data.plausible import doubts


@pytest.fixture(scope="module")
def films(tiny_set):
    return read(tiny_set)


def enlarged(sample):
    """The film at twice its size."""
    return replace(sample, points=sample.points * 2, size=(sample.size[0] * 2, sample.size[1] * 2))


CHANGES = {
    "percent": lambda points, size: points * 100 / np.array(size[::-1]),
    "fractions": lambda points, size: points / np.array(size[::-1]),
    "swapped": lambda points, size: points[..., ::-1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_doubtful_film_is_named_with_its_readers_and_the_others_are_not(films, change):
    samples = [enlarged(sample) for sample in films.samples]
    victim = samples[3]
    samples[3] = replace(victim, points=CHANGES[change](victim.points, victim.size))
    (doubt,) = doubts(samples, films.landmarks, films.readers)
    assert change in doubt
    assert doubt.count(str(victim.path)) == len(films.readers)
    assert not any(str(sample.path) in doubt for sample in samples if sample is not samples[3])


def test_many_doubtful_films_are_counted(films):
    samples = [replace(s, points=CHANGES["fractions"](s.points, s.size)) for s in films.samples]
    (doubt,) = doubts(samples, films.landmarks, films.readers)
    assert doubt.endswith(f"and {len(samples) * len(films.readers) - 5} more")


def test_films_without_these_landmarks_or_points_are_not_suspected(films):
    sample = films.samples[0]
    nothing = replace(sample, points=np.full_like(sample.points, np.nan))
    assert doubts([nothing], films.landmarks, films.readers) == []
    assert doubts([sample], [f"p{k}" for k in range(len(films.landmarks))], films.readers) == []


@pytest.mark.shared
def test_no_real_film_is_suspected():
    data = read(shared_data() / "isbi2015", mm_per_px=0.25)
    assert doubts(data.samples, data.landmarks, data.readers) == []
    turned = [replace(sample, points=sample.points[..., ::-1]) for sample in data.samples]
    (doubt,) = doubts(turned, data.landmarks, data.readers)
    assert f"and {len(turned) * len(data.readers) - 5} more" in doubt
