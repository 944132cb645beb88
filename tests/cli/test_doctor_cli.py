"""`ceph doctor` as a person calls it: a table or JSON, and exit code 1 only where something will not work."""

from __future__ import annotations

import json

import pytest

from ceph.cli.app import main
from ceph.tools import doctor


@pytest.fixture
def quick_checks(monkeypatch):
    """Only the checks that cost nothing; each is tested by itself in tests/test_doctor.py."""
    names = ("versions", "cache", "disk", "opencv", "shared memory")
    monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name] for name in names})


def test_where_all_is_well_each_line_says_ok(quick_checks, capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "ok" in out
    assert "ceph-trainer 0.1.0, Python 3." in out
    assert "FAILS" not in out


def test_what_will_not_work_is_said_with_its_remedy_and_exit_code(quick_checks, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CEPH_CACHE", str(tmp_path / "file" / "cache"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAILS" in out
    assert "-> set CEPH_CACHE to a folder that can be written" in out
    assert "1 fail, " in out
    assert main(["doctor", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["ok"] is False
    (failed,) = [one for one in content["findings"] if one["state"] == "fail"]
    assert failed.keys() == {"check", "state", "what", "remedy"}


def test_every_check_has_a_name_of_its_own_and_is_looked_at():
    found = doctor.examine()
    assert {one.check for one in found} == set(doctor.CHECKS)
    assert not [one for one in found if "cannot be looked at" in one.what]
