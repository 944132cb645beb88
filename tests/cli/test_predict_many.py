"""A call of `ceph predict` that is stopped goes on where it was, and gives what it would have given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.cli.test_predict_cli import run  # noqa: F401 - a fixture
from tests.data.small_sets import noise_film

import ceph
from ceph.cli.app import main
from ceph.data.formats.find import read
from ceph.run.gate import Gate
from ceph.run.many import asking
from ceph.run.predictions import find_films

FEW = ["evaluate.batch_size=1"]  # so that a part is four films


class Killed(BaseException):
    """As SIGKILL: nobody catches it."""


@pytest.fixture
def films(tmp_path):
    for n in range(10):
        noise_film(tmp_path / "films" / f"{n}.png", n, (80, 64 + n))
    (tmp_path / "films/3.png").write_text("no image")
    return tmp_path / "films"


def predict(run, films, out, *more):  # noqa: F811
    return main(["predict", str(run), str(films), "--out", str(out), "--set", *FEW, *more])


def stopped(run, films, out, after):  # noqa: F811
    """A call that is killed when so many films are done, in the middle of a line."""

    def progress(done):
        if done == after:
            raise Killed

    trained = ceph.load(run, settings=FEW)
    with pytest.raises(Killed), asking(trained, find_films([films]), out, Gate("warn")) as asked:
        asked.find(progress)
    with (part := out.with_name(f"{out.name}.part")).open("ab") as file:
        file.write(b'{"film": "half a li')
    return part


@pytest.mark.parametrize("kind", ["json", "csv", "coco", "labelstudio", "cvat"])
def test_a_call_that_was_killed_goes_on_to_the_same_file(run, films, tmp_path, capsys, kind):  # noqa: F811
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert predict(run, films, whole, "--format", kind) == 1
    part = stopped(run, films, out, 8)
    assert not out.exists()
    capsys.readouterr()
    assert predict(run, films, out, "--format", kind) == 1
    text = capsys.readouterr()
    assert "predicted 9 of 10 films" in text.out
    assert "(8 films are from before)" in text.out
    assert "3.png: is no image" in text.err
    assert out.read_bytes() == whole.read_bytes()
    assert not part.exists()


def test_pages_of_labelme_are_gone_on_with_and_none_that_is_there_is_touched(run, films, capsys):  # noqa: F811
    part = stopped(run, films, films, 4)
    (films / "5.json").write_text("mine")
    assert predict(run, films, films, "--format", "labelme") == 1
    assert (films / "5.json").read_text() == "mine"
    (films / "5.json").unlink()
    assert len(read(films, mm_per_px=0.1).samples) == 8
    assert not part.exists()
    assert predict(run, films, films, "--format", "labelme") == 2
    assert "0.json is there already, and 7 others" in capsys.readouterr().err


def test_only_what_has_changed_since_is_found_anew(run, films, tmp_path, capsys, caplog):  # noqa: F811
    out = tmp_path / "points.csv"
    stopped(run, films, out, 8)
    noise_film(films / "1.png", 7, (90, 70))
    assert predict(run, films, out) == 1
    assert "(4 films are from before)" in capsys.readouterr().out
    stopped(run, films, out, 8)
    assert predict(run, films, out, "--set", "evaluate.scales=[1.0]") == 1
    assert "from before" not in capsys.readouterr().out
    assert "points.csv.part is of another run or of other settings: begun anew" in caplog.text


def test_the_worst_films_are_named_first_and_not_all_of_many(run, films, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr("ceph.run.doubt.LEAST", 2.0)  # so that all points are low
    monkeypatch.setattr("ceph.cli.predict.SHOWN", 3)
    assert predict(run, films, tmp_path / "points.csv") == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("look at these first: 261 of 261 points"))
    assert len(lines[at:]) == 5
    assert lines[-1] == "  and 6 more films; --overlays marks such points"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_ended_by_a_signal_is_gone_on_with(run, tmp_path, number):  # noqa: F811
    for n in range(300):
        noise_film(tmp_path / "films" / f"{n}.png", n, (80, 64))
    out, part = tmp_path / "points.csv", tmp_path / "points.csv.part"
    words = [sys.executable, "-m", "ceph", "predict", str(run), str(tmp_path / "films"), "--set", *FEW, "--out"]
    process = subprocess.Popen([*words, str(out)], stderr=subprocess.PIPE, text=True)
    while not part.exists() or part.stat().st_size < 20_000:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, number)
    said = process.communicate()[1]
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert ("of 300 films are done" in said) == (number == signal.SIGINT)
    assert not out.exists()
    assert "are from before" in subprocess.run([*words, str(out)], check=True, capture_output=True, text=True).stdout
    subprocess.run([*words, str(tmp_path / "whole.csv")], check=True, capture_output=True)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
