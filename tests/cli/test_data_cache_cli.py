"""`ceph data cache` counts what is kept and deletes only that, also beside a process that builds it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.data.small_sets import noise_film
from tests.data.test_cache import BUILD

from ceph.cli.app import main
from ceph.data.cache import FilmCache, clear, digest, kept, pyramid_level
from ceph.data.images import read_film


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache, holding two sizes of one film and one of another."""
    monkeypatch.setenv("CEPH_CACHE", str(tmp_path / "cache"))
    paths = [noise_film(tmp_path / f"{k}.png", seed=k, size=(200, 160)) for k in range(2)]
    for path, scale in ((paths[0], 1.0), (paths[0], 0.5), (paths[1], 1.0)):
        FilmCache(tmp_path / "cache" / "films").level(path, digest(path), scale)
    return tmp_path / "cache" / "films"


def test_films_and_sizes_are_counted(cache, capsys):
    held = kept(cache)
    assert (held.films, held.levels) == (2, 3)
    assert held.size == sum(path.stat().st_size for path in cache.rglob("*.npy"))
    assert main(["data", "cache"]) == 0
    assert capsys.readouterr().out == f"{cache}: 2 films at 3 sizes, {held.size / 1e6:.1f} MB\n"


@pytest.mark.parametrize("arguments", [[], ["--folder"]])
def test_clear_deletes_decoded_films_and_nothing_else(cache, capsys, arguments):
    mine = cache / "notes.npy"
    mine.write_text("not a film")
    (cache / "levels-0" / "ab").mkdir(parents=True)
    (cache / "levels-0" / "ab" / f"ab{'0' * 30}-L0.npy").write_text("of an older version")
    folder = [*arguments, str(cache)] if arguments else []
    assert main(["data", "cache", "clear", *folder]) == 0
    assert "deleted 2 films at 3 sizes" in capsys.readouterr().out
    assert [path for path in cache.rglob("*") if path.is_file()] == [mine]
    assert main(["data", "cache", *folder]) == 0
    assert "0 films at 0 sizes, 0.0 MB" in capsys.readouterr().out


def test_a_cache_that_is_not_there_is_empty(tmp_path, capsys):
    assert main(["data", "cache", "--folder", str(tmp_path / "none")]) == 0
    assert "0 films" in capsys.readouterr().out


def test_clearing_beside_two_processes_that_build_changes_no_film(tmp_path):
    films = [noise_film(tmp_path / f"{k}.bmp", seed=k) for k in range(30)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        for worker in (one, other):
            assert worker.stdout.readline() == "ready\n"
        for worker in (one, other):
            worker.stdin.write("go\n")
            worker.stdin.flush()
        while one.poll() is None or other.poll() is None:
            clear(tmp_path / "cache")
        sums = [int(worker.communicate(timeout=60)[0]) for worker in (one, other)]
    assert sums == [sum(int(pyramid_level(read_film(film), 0.5).sum()) for film in films)] * 2
