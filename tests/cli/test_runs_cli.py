"""`ceph runs`: a line a run, JSON for scripts, and wrong calls."""

from __future__ import annotations

import json

from tests.report.folders import write_run

from ceph.cli.app import main


def test_runs_are_lines_with_their_results_the_latest_first(tmp_path, capsys):
    write_run(tmp_path / "20260101-net-s0", started="2026-01-01T10:20:30+00:00", splits=("validation", "test1"))
    write_run(tmp_path / "new", started="2026-02-01T10:20:30+00:00", splits=(), epochs=1, state="interrupted")
    assert main(["runs", str(tmp_path)]) == 0
    header, first, second, note = capsys.readouterr().out.splitlines()
    assert header.split() == ["STARTED", "STATE", "EPOCHS", "VALIDATION", "test1", "RUN"]
    assert first.split() == ["2026-02-01", "10:20", "interrupted", "1/3", "3.00", "–", "new", "(hard-mining)"]
    assert second.split()[2:6] == ["finished", "3/3", "2.25", "2.25"]
    assert note.startswith("MRE in mm")


def test_json_has_every_run(tmp_path, capsys):
    write_run(tmp_path / "a")
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["name"], run["state"], run["plugins"], run["validation_mm"]) == ("a", "finished", ["hard-mining"], 2.25)


def test_a_folder_without_runs_is_said_to_have_none(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path}\n"
    assert main(["runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_folder_that_is_not_there_is_a_wrong_call(tmp_path, capsys):
    assert main(["runs", str(tmp_path / "no")]) == 2
    assert "is no folder" in capsys.readouterr().err
