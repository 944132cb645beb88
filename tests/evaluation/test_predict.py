"""A prediction loads ahead of the network, keeps the films' order, and passes a loader's error on."""

from __future__ import annotations

import threading

import pytest

from ceph.errors import DataError
from ceph.evaluation.predict import ahead


def test_batches_come_in_order_and_each_is_loaded_while_the_one_before_is_in_use():
    second_loaded = threading.Event()

    def films():
        yield ["first"]
        second_loaded.set()
        yield ["second"]

    batches = ahead(films())
    assert next(batches) == ["first"]
    assert second_loaded.wait(5)
    assert list(batches) == [["second"]]


def test_no_more_than_one_batch_is_loaded_ahead():
    loaded = []

    def films():
        for k in range(5):
            loaded.append(k)
            yield [k]

    for count, _ in enumerate(ahead(films()), start=1):
        assert len(loaded) <= count + 1


def test_a_film_that_cannot_be_read_raises_where_it_is_used():
    def films():
        yield ["first"]
        raise DataError("film.png: is empty")

    batches = ahead(films())
    assert next(batches) == ["first"]
    with pytest.raises(DataError, match="is empty"):
        next(batches)
