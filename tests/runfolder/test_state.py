"""state.json tells what a run does or how it ended, whoever killed it; a folder of another format is one line."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext, suppress

import pytest

from ceph.cli.app import main
from ceph.errors import CephError, Interrupted
from ceph.runfolder import State, locked, read_state, recorded, standing, write_json, write_state


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "finished"),
        (Interrupted("stopped by a signal"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (CephError("the loss is not finite"), "failed"),
        (KeyError("a fault of ours"), "failed"),
    ],
)
def test_a_run_stands_as_it_ended(tmp_path, error, state):
    with suppress(type(error)) if error else nullcontext(), recorded(tmp_path):
        assert read_state(tmp_path).state == "running"
        if error is not None:
            raise error
    found = read_state(tmp_path)
    assert (found.state, found.why) == (state, str(error or ""))
    assert found.seconds is not None


def test_a_killed_run_was_running_and_is_interrupted_and_its_time_is_not_known_any_more(tmp_path):
    code = (
        "import sys; from pathlib import Path; from ceph.runfolder import locked, recorded; run = Path(sys.argv[1])\n"
        "with locked(run), recorded(run): print('on', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        assert standing(tmp_path).state == "running"
        process.kill()
    assert read_state(tmp_path).state == "running"
    assert standing(tmp_path).state == "interrupted"
    with recorded(tmp_path):
        pass
    assert (read_state(tmp_path).state, read_state(tmp_path).seconds) == ("finished", None)


def test_the_seconds_of_a_run_add_up(tmp_path):
    write_state(tmp_path, State("interrupted", seconds=100.0))
    with recorded(tmp_path):
        pass
    assert 100 <= read_state(tmp_path).seconds < 110


def test_the_files_of_a_run_are_known_without_torch():
    code = "import sys, ceph.runfolder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


CALLS = {
    "evaluate": ["evaluate", "RUN"],
    "predict": ["predict", "RUN", "film.png"],
    "report": ["report", "RUN"],
    "suggest": ["suggest", "RUN"],
    "compare": ["compare", "RUN", "RUN"],
    "resume": ["run", "--resume", "RUN"],
    "init-from": ["run", "--init-from", "RUN", "--set", "data.size=[64,64]", "--set", "model.backbone=test_resnet"],
}


@pytest.mark.parametrize("format_", [None, 0, 99, "x"])
@pytest.mark.parametrize("call", CALLS)
def test_a_folder_of_another_format_is_one_line_with_what_to_do(tmp_path, tiny_set, capsys, monkeypatch, call, format_):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "old"
    run.mkdir()
    (run / "config.yaml").write_text("train:\n  seed: 1\n")
    write_json(run / "environment.json", {"versions": {"ceph-trainer": "0.0.1"}})
    if format_ is not None:
        write_json(run / "state.json", {"format": format_})
    words = [str(run) if word == "RUN" else word for word in CALLS[call]]
    more = ["--data", str(tiny_set), "--set", "model.weights=none", "--out", "new"] if call == "init-from" else []
    assert main([*words, *more]) == 2
    err = capsys.readouterr().err
    assert err.count("error:") == 1
    assert f"{run} is a run of another version of ceph" in err
    assert "ceph-trainer 0.0.1" in err
    assert "Traceback" not in err


def test_the_page_refuses_a_folder_of_another_format(tmp_path, capsys):
    pytest.importorskip("uvicorn", reason="needs the extra `web`")
    (tmp_path / "config.yaml").write_text("")
    assert main(["view", str(tmp_path), "--no-open"]) == 2
    assert "another version of ceph" in capsys.readouterr().err


def test_a_lock_that_is_a_link_empties_no_file_and_what_a_kill_left_is_swept(tmp_path):
    (tmp_path / "victim").write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").symlink_to(tmp_path / "victim")
    (run / ".last.safetensors.0123.new").write_text("half")
    with locked(run):
        assert [path.name for path in run.iterdir()] == [".lock"]
    assert (tmp_path / "victim").read_text() == "mine"


def test_checkpoints_that_lie_elsewhere_by_a_link_are_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path)
    with pytest.raises(CephError, match="is a link"), locked(tmp_path / "run"):
        pass
