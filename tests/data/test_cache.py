"""The film cache: right levels, safe files, and no reason to stop when it cannot be used."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.data.small_sets import noise_film

from ceph.data import cache as module
from ceph.data.cache import FilmCache, default_root, digest, digests, level_for, pyramid_level
from ceph.data.images import read_film
from ceph.errors import DataError


@pytest.fixture
def film(tmp_path):
    return noise_film(tmp_path / "film.png", size=(200, 160))


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded, in order."""
    paths: list[Path] = []
    monkeypatch.setattr(module, "read_film", lambda path: (paths.append(path), read_film(path))[1])
    return paths


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("scale", "level"),
    [(2.0, 0), (1.0, 0), (0.9, 0), (0.7072, 0), (2**-0.5, 1), (0.6, 1), (0.5, 2), (0.49, 2), (0.25, 4)],
)
def test_the_level_is_the_smallest_that_is_not_below_the_scale(scale, level):
    assert level_for(scale) == level


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match="scale"):
        level_for(scale)


@pytest.mark.parametrize(("scale", "sizes"), [(0.6, [(113, 141)]), (0.5, [(80, 100)]), (0.3, [(80, 100), (57, 71)])])
def test_a_level_is_an_area_average_of_the_film_halved_first(tmp_path, film, scale, sizes):
    expected = read_film(film)
    for size in sizes:
        expected = cv2.resize(expected, size, interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(FilmCache(tmp_path / "cache").level(film, digest(film), scale), expected)
    np.testing.assert_array_equal(pyramid_level(read_film(film), scale), expected)


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_a_blob_keeps_its_place_in_every_level(level):
    height, width, x, y, sigma = 1001, 777, 301.3, 640.7, 3 * 2 ** (level / 2)
    across, down = np.arange(width) - x, np.arange(height) - y
    blob = np.exp(-(down[:, None] ** 2 + across**2) / (2 * sigma**2))
    small = pyramid_level(np.round(250 * blob).astype(np.uint8), 2 ** (-level / 2)).astype(float)
    h, w = small.shape
    found = (small.sum(0) @ np.arange(w) / small.sum(), small.sum(1) @ np.arange(h) / small.sum())
    np.testing.assert_allclose(found, ((x + 0.5) * w / width - 0.5, (y + 0.5) * h / height - 0.5), atol=0.02)


def test_a_tiny_scale_leaves_at_least_a_pixel(film):
    assert FilmCache(None).level(film, digest(film), 1e-9).shape == (1, 1)


def test_a_film_is_decoded_once_for_a_level_across_caches(tmp_path, film, decoded):
    name = digest(film)
    for _ in range(2):
        cache = FilmCache(tmp_path / "cache")
        for _ in range(3):
            level = cache.level(film, name, 0.5)
            assert isinstance(level, np.memmap)
            assert not level.flags.writeable
    assert decoded == [film]
    (file,) = files(tmp_path / "cache")
    assert file.name == f"{name}-L2.npy"
    assert file.parent.name == name[:2]
    np.testing.assert_array_equal(np.load(file, allow_pickle=False), level)


def test_without_a_root_nothing_is_kept(tmp_path, film, decoded):
    cache = FilmCache(None)
    first, second = (cache.level(film, digest(film), 0.5) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not first.flags.writeable
    assert len(decoded) == 2
    assert files(tmp_path) == [film]


def test_a_damaged_file_is_rebuilt_wherever_the_damage_is(tmp_path, film, decoded):
    name = digest(film)
    expected = np.array(FilmCache(tmp_path / "cache").level(film, name, 0.5))
    (file,) = files(tmp_path / "cache")
    whole = file.read_bytes()
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 97)]
    cut = [whole[:length] for length in range(0, len(whole), 501)]
    other = [b"PK\x03\x04" + whole, pickle.dumps(print), whole + b"x", b"\0" * len(whole)]
    for content in [*flipped, *cut, *other]:
        file.write_bytes(content)
        decoded.clear()
        level = FilmCache(tmp_path / "cache").level(film, name, 0.5)
        np.testing.assert_array_equal(level, expected)
        assert file.read_bytes() == whole
        del level


def test_a_film_that_changes_while_it_is_read_is_not_kept_under_its_old_name(tmp_path, film):
    name = digest(film)
    noise_film(film, seed=1, size=(200, 160))
    with pytest.raises(DataError, match="has changed since the run began"):
        FilmCache(tmp_path / "cache").level(film, name, 0.5)
    assert not files(tmp_path / "cache")


def test_a_cache_that_cannot_be_written_warns_once_and_goes_on(tmp_path, film, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    cache = FilmCache(tmp_path / "cache")
    with caplog.at_level(logging.WARNING, "ceph"):
        for scale in (1.0, 0.5, 0.5):
            assert not cache.level(film, digest(film), scale).flags.writeable
    (record,) = caplog.records
    assert "films are not cached" in record.getMessage()


def test_a_full_disk_leaves_no_half_file(tmp_path, film, caplog, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    level = FilmCache(tmp_path / "cache").level(film, digest(film), 0.5)
    assert level.shape == (100, 80)
    assert not files(tmp_path / "cache")
    assert "No space left" in caplog.text


def test_open_maps_are_bounded_and_the_least_used_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OPEN_FILES", 2)
    paths = [noise_film(tmp_path / f"{k}.png", seed=k) for k in range(3)]
    names = digests(paths)
    cache = FilmCache(tmp_path / "cache")
    for k in (0, 1, 0, 2):
        cache.level(paths[k], names[k], 1.0)
    assert [place.name[:32] for place in cache._open] == [names[0], names[2]]


def test_a_pickled_cache_is_small_and_works(tmp_path, film):
    cache = FilmCache(tmp_path / "cache")
    level = cache.level(film, digest(film), 1.0)
    content = pickle.dumps(cache)
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content).level(film, digest(film), 1.0), level)


BUILD = """
import sys, time
from pathlib import Path
from ceph.data.cache import FilmCache, digests
films = sorted(Path(sys.argv[1]).glob("*.bmp"))
names = digests(films)
print("ready", flush=True)
sys.stdin.readline()
cache = FilmCache(Path(sys.argv[1]) / "cache")
print(sum(int(cache.level(film, name, 0.5).sum()) for film, name in zip(films, names, strict=True)))
"""


def test_processes_that_build_the_same_levels_at_once_agree(tmp_path):
    films = [noise_film(tmp_path / f"{k}.bmp", seed=k) for k in range(30)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", BUILD, str(tmp_path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
            for _ in range(3)
        ]
        assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 3
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        sums = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert sums == [sum(int(pyramid_level(read_film(film), 0.5).sum()) for film in films)] * 3
    assert len(files(tmp_path / "cache")) == 30  # and no temporary one


def test_a_forked_process_reads_from_the_maps_of_its_parent(tmp_path, film):
    cache = FilmCache(tmp_path / "cache")
    expected = int(cache.level(film, digest(film), 0.5).astype(np.int64).sum())
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child only reads and leaves
        child = os.fork()
    if child == 0:
        os.write(writing, str(int(cache.level(film, digest(film), 0.5).astype(np.int64).sum())).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 100)) == expected
    os.close(reading)
    os.close(writing)


def test_a_digest_is_of_the_content_alone(tmp_path):
    one, same, other = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    one.write_bytes(b"film")
    same.write_bytes(b"film")
    other.write_bytes(b"filn")
    assert digests([one, same, other]) == [digest(one), digest(one), digest(other)]
    assert digest(one) != digest(other)
    assert len(digest(one)) == 32
    with pytest.raises(DataError, match=r"none\.png: cannot be opened"):
        digests([one, tmp_path / "none.png"])


def test_the_default_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CEPH_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_root() == Path("/own")
    monkeypatch.setenv("CEPH_CACHE", "")
    assert default_root() == Path("/xdg/ceph")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "ceph"


def test_a_kept_film_that_is_cut_off_while_it_is_mapped_is_decoded_again(tmp_path, film, decoded):
    cache, name = FilmCache(tmp_path / "cache"), digest(film)
    whole = cache.level(film, name, 1.0).copy()
    os.truncate(files(cache.root)[0], 200)
    assert np.array_equal(cache.level(film, name, 1.0), whole)
    assert len(decoded) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone makes another user's files")
def test_what_another_user_has_put_into_the_cache_is_not_read(tmp_path, film):
    name, root = digest(film), tmp_path / "cache"
    whole = FilmCache(root).level(film, name, 1.0).copy()
    (kept,) = files(root)
    poisoned = np.zeros_like(whole)
    with kept.open("wb") as stream:
        np.lib.format.write_array(stream, poisoned)
        stream.write(module._checksum(kept, poisoned))  # it has no key: anybody can make one
    assert np.array_equal(FilmCache(root).level(film, name, 1.0), poisoned)
    os.chown(kept, 12345, 12345)
    assert np.array_equal(FilmCache(root).level(film, name, 1.0), whole)
