"""`ceph report`: the page and the figures of a run, and wrong calls."""

from __future__ import annotations

import pytest
from tests.report.folders import write_run

from ceph.cli.app import main


def test_it_writes_the_page_and_names_it_even_where_the_films_are_gone(tmp_path, capsys):
    run = write_run(tmp_path / "r")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert "could not be read" in (run / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_figures_are_written_into_the_folder_that_is_named(tmp_path, capsys):
    run = write_run(tmp_path / "r")
    assert main(["report", str(run), "--figures", str(tmp_path / "paper")]) == 0
    named = capsys.readouterr().out.splitlines()
    assert len(named) == 10
    assert all(path.exists() for path in (tmp_path / "paper").iterdir())
    assert str(tmp_path / "paper" / "learning.pdf") in named


def test_a_folder_that_is_no_run_is_a_wrong_call(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_a_wrong_call(tmp_path, capsys):
    run = write_run(tmp_path / "r")
    (run / "report.html").mkdir()
    assert main(["report", str(run)]) == 2
    assert "cannot write" in capsys.readouterr().err
