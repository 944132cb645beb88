"""What a person sees: the worst landmark first, a line an epoch where there is no terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from ceph.evaluation.metrics import summarise
from ceph.report.progress import Lines, Live, clock, watcher_for
from ceph.report.tables import landmark_table

FIGURES = summarise(np.array([[1.0, 3.0, np.nan], [2.0, 5.0, np.nan]]), ("Go", "UMT", "Ar"), "mean")


class Clock:
    """Stands still until it is moved."""

    now = 1000.0


@pytest.fixture
def time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("ceph.report.progress.monotonic", lambda: clock.now)
    return clock


RECORD = {"epoch": 1, "loss": 4.1234, "train_mre_mm": 2.5, "validation": FIGURES}


def printed(what, **settings):
    console = Console(file=io.StringIO(), width=100, **settings)
    console.print(what)
    return console.file.getvalue()


def test_the_table_begins_with_the_worst_landmark_and_ends_with_all():
    text = printed(landmark_table(FIGURES, "validation"))
    assert text.index("UMT") < text.index("Go") < text.index("Ar") < text.index("all")
    assert "4.00" in text
    assert "50.0" in text


def test_the_table_ends_with_the_intervals_where_they_are_known():
    figures = {**FIGURES, "interval_95": {"mre_mm": [1.2, 3.4], "sdr_percent": {"2.0": [30.0, 70.0]}}}
    assert "95 % over films: MRE 1.200 to 3.400 mm, SDR 2.0 30.0 to 70.0" in printed(landmark_table(figures, "test"))


def test_without_a_terminal_an_epoch_is_a_plain_line_that_says_when_the_run_ends(time):
    console = Console(file=io.StringIO(), width=100)
    with watcher_for(console) as watcher:
        assert type(watcher) is Lines
        watcher.start(20, 0)
        time.now += 120
        watcher.step(1, 3, 16, 4.0)
        watcher.epoch(RECORD)
        watcher.epoch({**RECORD, "epoch": 19})
    assert console.file.getvalue() == (
        "epoch   2/20  loss 4.123  train MRE 2.50 mm  val MRE 2.750 mm  SDR2 50.0 %  ETA 18:00\n"
        "epoch  20/20  loss 4.123  train MRE 2.50 mm  val MRE 2.750 mm  SDR2 50.0 %\n"
    )


def test_a_resumed_run_counts_only_its_own_epochs_for_the_time_left(time):
    watcher = Lines(Console(file=io.StringIO()))
    watcher.start(20, 10)
    assert watcher.left(10) == ""
    time.now += 60
    assert watcher.left(12) == "4:00"


def test_ci_gets_lines_even_where_it_pretends_to_be_a_terminal(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with watcher_for(Console(file=io.StringIO(), force_terminal=True)) as watcher:
        assert type(watcher) is Lines


def test_in_a_terminal_there_is_a_table_with_the_best_epoch_and_a_bar_with_the_time_left(monkeypatch, time):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with watcher_for(console) as watcher:
        assert type(watcher) is Live
        watcher.start(40, 0)
        time.now += 60
        for epoch in range(12):
            mre = 1.5 if epoch == 1 else 2.75
            watcher.epoch({**RECORD, "epoch": epoch, "validation": {**FIGURES, "mre_mm": mre}})
        watcher.step(12, 3, 16, 4.0)
        text = printed(watcher.render())
        watcher.display.refresh()
    best, *others = text.splitlines()[1:-1]
    assert best.split() == ["2", "4.123", "2.50", "1.500", "50.0", "%", "best"]
    assert [line.split()[0] for line in others] == ["6", "7", "8", "9", "10", "11", "12"]
    for part in ("epoch 13/40", "loss 4.000", "1:00 gone", "ETA 2:17"):
        assert part in text.splitlines()[-1]
    assert "1.500" in console.file.getvalue()


def test_a_run_whose_validation_has_no_truth_is_shown_with_dashes(monkeypatch):
    live = Live(Console(file=io.StringIO(), width=120))
    nothing = summarise(np.full((1, 1), np.nan), ("Go",), "mean")
    live.epochs = 2
    live.epoch({**RECORD, "validation": nothing})
    assert printed(live.render()).splitlines()[1].split()[3:5] == ["-", "-"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3723, "1:02:03"), (float("nan"), "")])
def test_times_are_read_like_a_clock(seconds, text):
    assert clock(seconds) == text
