"""What is written replaces what stood there in one move and through no link; what never ends is not read."""

from __future__ import annotations

import os

import pytest

from ceph.data.synthetic import sets as synthetic
from ceph.files import appending, building, read_bytes, replacing, write_text


@pytest.fixture
def victim(tmp_path):
    """A file of the user's that a stranger's links lead to."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "victim").write_text("mine")
    yield tmp_path / "home" / "victim"
    assert (tmp_path / "home" / "victim").read_text() == "mine"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, victim):
    place = tmp_path / "report.html"
    place.symlink_to(victim)
    write_text(place, "new")
    assert not place.is_symlink()
    assert place.read_text() == "new"


def test_the_names_of_files_being_written_are_new_each_time(tmp_path):
    names = set()
    for _ in range(3):
        with replacing(tmp_path / "a.txt"):
            names |= {path.name for path in tmp_path.iterdir()} - {"a.txt"}
    assert len(names) == 3


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(TypeError), replacing(tmp_path / "a.txt") as file:
        file.write("no bytes")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "before")]


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_nothing_is_added_to_a_file_through_a_link(tmp_path, victim, link):
    getattr(tmp_path / "log.txt", link)(victim)
    for word in ("one", "two"):
        with appending(tmp_path / "log.txt") as file:
            file.write(word.encode())
    assert (tmp_path / "log.txt").read_text() == "onetwo"


def test_what_never_ends_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"abc")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(OSError, match=r"no regular file|directory"):
            read_bytes(path, 9)
    assert read_bytes(tmp_path / "file", 2) == b"ab"


def test_a_folder_takes_its_place_whole_and_what_a_killed_call_left_is_named(tmp_path, caplog):
    (left := tmp_path / ".set.0a1b2c3d.part").mkdir()
    with pytest.raises(OSError, match="film"), building(tmp_path / "set") as work:
        (work / "film" / "of none").touch()
    assert [*tmp_path.iterdir()] == [left]
    assert str(left) in caplog.text
    synthetic.write(tmp_path / "set", films=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [left.name, "set"]
    assert caplog.text.count(left.name) == 2
