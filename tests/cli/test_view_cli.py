"""`ceph view` as a person calls it: an address to open, an end with Ctrl-C, and clear words where it cannot start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from ceph.cli.app import main
from ceph.runfolder import State, write_state


@pytest.fixture
def run(tmp_path, tiny_set):
    """A run that has not trained yet: what is there from its first second on."""
    from ceph.config.load import from_values

    (tmp_path / "run").mkdir()
    text = from_values({"data": {"path": str(tiny_set)}, "plugins": {}}).dump({})
    (tmp_path / "run" / "config.yaml").write_text(text)
    write_state(tmp_path / "run", State("running"))
    return tmp_path / "run"


@pytest.mark.slow
def test_it_prints_an_address_serves_there_and_ends_with_ctrl_c(run):
    pytest.importorskip("uvicorn", reason="needs the extra `web`")
    code = "import sys; from ceph.cli.app import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "view", str(run), "--no-open"],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}runs", timeout=30) as answer:
            assert b'"name":"run"' in answer.read()
        process.send_signal(signal.SIGINT)
        _, faults = process.communicate(timeout=30)
        assert (process.returncode, faults) == (0, "")
    finally:
        process.kill()
        process.communicate()


def test_films_that_have_moved_are_said_so_at_once(run, tmp_path, tiny_set, monkeypatch, capsys):
    pytest.importorskip("uvicorn", reason="needs the extra `web`")
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(tiny_set), "/nowhere/films"))
    assert main(["view", str(run), "--no-open"]) == 0
    assert "its films are not to be seen: '/nowhere/films' cannot be opened" in capsys.readouterr().err
    assert main(["view", str(run), "--no-open", "--data", str(tiny_set)]) == 0
    assert capsys.readouterr().err == ""


def test_what_is_no_run_is_said_so(tmp_path, capsys):
    assert main(["view", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_without_the_extra_the_call_that_installs_it_is_said(run, monkeypatch, capsys):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "uvicorn" else real(name, *a))
    assert main(["view", str(run)]) == 2
    assert capsys.readouterr().err == ("error: ceph view needs uvicorn\n  hint: pip install 'ceph-trainer[web]'\n")
