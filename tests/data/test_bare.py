"""Films without truth are loaded in order, broken ones in their place, and batched at every size in turn."""

from __future__ import annotations

import numpy as np
import torch
from tests.data.small_sets import noise_film

from ceph.data.bare import BareFilm, in_batches, load_bare
from ceph.data.dataset import bare_item
from ceph.data.images import read_film
from ceph.errors import DataError

SIZES = [(32, 32), (48, 32)]


def test_films_come_in_order_and_a_broken_one_is_its_error(tmp_path):
    paths = [noise_film(tmp_path / f"{n:02d}.png", n, (40 + n, 50)) for n in range(40)]
    paths[17].write_bytes(paths[17].read_bytes()[:300])
    loaded = list(load_bare(paths, SIZES, 3))
    assert [type(one) for one in loaded] == [BareFilm] * 17 + [DataError] + [BareFilm] * 22
    assert "17.png" in str(loaded[17])
    for n in (0, 16, 39):
        assert loaded[n].size == (40 + n, 50)
        for size, item in zip(SIZES, loaded[n].items, strict=True):
            assert torch.equal(item.image, bare_item(read_film(paths[n]), size, 3).image)


def test_reading_stops_when_nobody_wants_more(tmp_path):
    def films():
        for n in range(10_000):
            asked.append(n)
            yield np.full((40, 40), 7, np.uint8)

    asked: list[int] = []
    stream = load_bare(films(), SIZES, 1)
    next(stream)
    stream.close()
    assert len(asked) < 50


def test_batches_are_full_but_the_last_and_come_at_every_size():
    films = load_bare([np.full((40, 30), n, np.uint8) for n in range(5)], SIZES, 2)
    batches = list(in_batches(films, 2))
    assert [tuple(item.image.shape) for item in batches] == [(n, *size) for n in (2, 2, 1) for size in SIZES]
    assert [int(v) for item in batches[::2] for v in item.image.amax((1, 2))] == [0, 1, 2, 3, 4]
