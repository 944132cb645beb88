"""What goes on around a run: films that go away, other locales, a strict umask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from tests.report.folders import write_run

import ceph
from ceph.errors import DataError
from ceph.files import write_text
from ceph.runfolder import read_state
from ceph.training import checkpoint

AWAY = """
from pathlib import Path
from ceph.plugin import Plugin, hookimpl

class Away(Plugin):
    @hookimpl
    def epoch_start(self, epoch):
        films = Path({films!r})
        if epoch == 1:
            films.rename(films.with_name("away"))
"""


def test_films_that_go_away_in_mid_run_are_one_error_and_a_run_that_can_go_on(tiny, tiny_set, tmp_path):
    films, run = tmp_path / "films", tmp_path / "run"
    shutil.copytree(tiny_set, films)
    (tmp_path / "away.py").write_text(AWAY.format(films=str(films)))
    config = tiny(data={"path": str(films), "cache": "none"}, plugins={"away": {"from": str(tmp_path / "away.py")}})
    with pytest.raises(DataError, match=r"films.*cannot be opened"):
        ceph.train(config, out=run)
    assert read_state(run).state == "failed"
    assert checkpoint.load_last(run / "checkpoints")[1] == ""


@pytest.mark.parametrize("settings", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C"}])
def test_a_terminal_of_another_encoding_is_written_to_all_the_same(tmp_path, settings):
    write_run(tmp_path / "lö")
    command = [sys.executable, "-m", "ceph", "runs", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, env={**os.environ, **settings}, check=True).stdout
    assert b"hard-mining" in shown
    assert ("lö" if len(settings) == 1 else "l?").encode() in shown


def test_what_is_written_under_a_strict_umask_is_nobody_elses(tmp_path):
    before = os.umask(0o077)
    try:
        write_text(tmp_path / "a", "mine")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
