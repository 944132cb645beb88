"""Several sets are one: landmarks and readers by name, films by the set's name, equal films in one group."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data.small_sets import write_aariz, write_isbi

from ceph.config.load import from_values
from ceph.data.formats.find import read
from ceph.data.several import join, on_landmarks
from ceph.errors import ConfigError, DataError
from ceph.run.assembly import make_hooks
from ceph.run.films import plain_truth, read_data


@pytest.fixture
def aariz(tmp_path):
    return write_aariz(tmp_path / "aariz", {"train": 2, "test": 1})


def test_landmarks_are_the_union_and_a_set_that_lacks_one_is_not_valid_there(tmp_path):
    one = read(write_aariz(tmp_path / "aariz", {"train": 1}))
    other = read(write_isbi(tmp_path / "isbi"), mm_per_px=0.1)
    both = join({"a": one, "i": other})
    assert both.landmarks[: len(one.landmarks)] == one.landmarks
    assert set(both.landmarks) == {*one.landmarks, *other.landmarks}
    assert both.readers == ("senior", "junior")
    assert [s.id for s in both.samples] == [
        *(f"a-{s.id}" for s in one.samples),
        *(f"i-{s.id}" for s in other.samples),
    ]
    for data, name in ((one, "a"), (other, "i")):
        columns = [both.landmarks.index(symbol) for symbol in data.landmarks]
        rest = [k for k in range(len(both.landmarks)) if k not in columns]
        found = [s for s in both.samples if s.set == name]
        for sample, before in zip(found, data.samples, strict=True):
            rows = [both.readers.index(reader) for reader in data.readers]
            np.testing.assert_array_equal(sample.points[np.ix_(rows, columns)], before.points)
            np.testing.assert_array_equal(sample.valid[np.ix_(rows, columns)], before.valid)
            assert not sample.valid[:, rest].any()
            assert np.isnan(sample.points[:, rest]).all()
            assert (sample.group, sample.split, sample.path) == (f"{name}-{before.group}", before.split, before.path)


def test_films_with_equal_pixels_are_one_group_over_all_sets(tmp_path):
    first = write_aariz(tmp_path / "first", {"train": 2, "valid": 1})
    second = write_aariz(tmp_path / "second", {"train": 3}, suffix=".bmp")  # the same noise, in other files
    both = join({"a": read(first), "b": read(second)})
    groups = {s.id: s.group for s in both.samples}
    assert groups["a-train001"] == groups["b-train001"]
    assert groups["a-train000"] == groups["b-train000"] == groups["a-valid000"]  # by their noise; of one set, too
    assert len({groups["a-train000"], groups["a-train001"], groups["b-train002"]}) == 3


def test_a_test_film_of_one_set_in_another_split_of_another_is_an_error_that_names_both(tmp_path):
    first = write_aariz(tmp_path / "first", {"test": 1})
    second = write_aariz(tmp_path / "second", {"train": 1})
    with pytest.raises(DataError) as caught:
        join({"one": read(first), "two": read(second)})
    text = str(caught.value)
    assert "train000.png, in train of the set two" in text
    assert "test000.png, in test of the set one" in text
    assert "data.path" in text


def test_a_config_lists_sets_each_with_its_truth_and_spacing(tmp_path):
    aariz = write_aariz(tmp_path / "first", {"train": 2})
    second = write_aariz(tmp_path / "second", {"valid": 1}, mm_per_px=None, readers=("junior",))
    sets = [
        {"name": "a", "path": str(aariz), "truth": "senior"},
        {"name": "b", "path": str(second), "mm_per_px": 0.3},
    ]
    resolved = from_values({"data": {"path": sets, "landmarks": ["S", "N"], "truth": "junior"}})
    data = read_data(resolved.config, make_hooks(resolved))
    assert data.landmarks == ("S", "N")
    truth = plain_truth(resolved.config, data)
    for sample in data.samples:
        points, valid, reader = truth(sample, 0)
        row = data.readers.index("senior" if sample.set == "a" else "junior")
        np.testing.assert_array_equal(points, sample.points[row])
        assert valid.all()
        assert set(reader) == {row}
        assert sample.mm_per_px == (0.1 if sample.set == "a" else 0.3)
    sets[1]["truth"] = "senior"
    resolved = from_values({"data": {"path": sets}})
    with pytest.raises(ConfigError, match="no reader 'senior' in the set b"):
        read_data(resolved.config, make_hooks(resolved))


def test_a_set_is_laid_on_a_run_s_landmarks_and_the_others_are_named(aariz, caplog):
    data = on_landmarks(read(aariz), ("N", "Xy", "S"))
    assert data.landmarks == ("N", "Xy", "S")
    before = read(aariz).samples[0]
    sample = data.samples[0]
    columns = [read(aariz).landmarks.index(symbol) for symbol in ("N", "S")]
    np.testing.assert_array_equal(sample.points[:, [0, 2]], before.points[:, columns])
    assert not sample.valid[:, 1].any()
    assert "the set does not have them: Xy" in caplog.text
    assert "the run does not know them: A, ANS" in caplog.text
    with pytest.raises(ConfigError, match="share no landmark"):
        on_landmarks(read(aariz), ("Xy",))


def test_a_films_table_may_lie_elsewhere(aariz, tmp_path):
    table = tmp_path / "tables" / "films.csv"
    table.parent.mkdir()
    table.write_text("film,group\ntrain000,patient-1\ntrain001,patient-1\n")
    resolved = from_values({"data": {"path": str(aariz), "films_table": str(table)}})
    data = read_data(resolved.config, make_hooks(resolved))
    assert [s.group for s in data.samples] == ["patient-1", "patient-1", "test000"]
    assert [s.group for s in read(aariz).samples] == ["train000", "train001", "test000"]
    table.write_text("film,grp\n")
    with pytest.raises(DataError, match="films.csv"):
        read_data(resolved.config, make_hooks(resolved))
    table.unlink()
    with pytest.raises(ConfigError, match="data.films_table"):
        read_data(resolved.config, make_hooks(resolved))
