"""Files of a data folder are opened safely: bounded, regular, and inside it."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from ceph.data.files import MAX_TEXT_BYTES, inside, listing, read_text
from ceph.errors import DataError


def test_large_missing_and_undecodable_files_are_refused_by_name(tmp_path):
    large, latin = tmp_path / "large.json", tmp_path / "latin.json"
    with large.open("wb") as stream:
        stream.truncate(200 * 2**20)
    latin.write_bytes(b'{"\xe9": 1}')
    with pytest.raises(DataError, match=r"large.json: 200 MB is too large"):
        read_text(large)
    with pytest.raises(DataError, match=r"latin.json: is not UTF-8 text \(byte 2\)"):
        read_text(latin)
    with pytest.raises(DataError, match=r"none.json: cannot be opened"):
        read_text(tmp_path / "none.json")
    assert MAX_TEXT_BYTES == 16 * 2**20


def test_a_small_file_takes_little_memory_however_large_the_limit(tmp_path):
    path = tmp_path / "small.json"
    path.write_text("{}")
    tracemalloc.start()
    try:
        assert read_text(path, limit=2**30) == "{}"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_pipe_named_like_an_annotation_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "001.json")
    assert listing(tmp_path, tmp_path, (".json",)) == {}
    with pytest.raises(DataError, match="no regular file"):
        read_text(tmp_path / "001.json")


def test_links_are_followed_inside_the_data_folder_only(tmp_path):
    root = tmp_path / "set"
    (root / "films").mkdir(parents=True)
    (root / "one.txt").write_text("1")
    (tmp_path / "secret.txt").write_text("2")
    (root / "films" / "in.txt").symlink_to(root / "one.txt")
    assert list(listing(root, root / "films", (".txt",))) == ["in"]
    (root / "films" / "out.txt").symlink_to("../../secret.txt")
    with pytest.raises(DataError, match="leads out of the data folder"):
        listing(root, root / "films", (".txt",))
    (root / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="loop"):
        inside(root, root / "loop" / "x")


def test_a_listing_is_sorted_and_passes_over_hidden_and_other_files(tmp_path):
    for name in ("b.txt", "a.TXT", "._a.txt", ".DS_Store", "c.csv"):
        (tmp_path / name).touch()
    (tmp_path / "d.txt").mkdir()
    assert list(listing(tmp_path, tmp_path, (".txt",))) == ["a", "b"]
    assert listing(tmp_path, tmp_path / "missing", (".txt",)) == {}
