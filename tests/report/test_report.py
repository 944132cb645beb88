"""What a person sees: the worst landmark first, a line an epoch where there is no terminal."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from ceph.evaluation.metrics import summarise
from ceph.report.progress import Lines, Live, watcher_for
from ceph.report.tables import landmark_table

FIGURES = summarise(np.array([[1.0, 3.0, np.nan], [2.0, 5.0, np.nan]]), ("Go", "UMT", "Ar"), "mean")
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


def test_without_a_terminal_an_epoch_is_a_plain_line():
    console = Console(file=io.StringIO(), width=100)
    with watcher_for(console) as watcher:
        assert type(watcher) is Lines
        watcher.start(20, 0)
        watcher.step(1, 3, 16, 4.0)
        watcher.epoch(RECORD)
    assert console.file.getvalue() == "epoch   2/20  loss 4.123  train MRE 2.50 mm  val MRE 2.750 mm  SDR2 50.0 %\n"


def test_in_a_terminal_there_is_a_bar_with_loss_error_and_time_left():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with watcher_for(console) as watcher:
        assert type(watcher) is Live
        watcher.start(20, 0)
        watcher.epoch(RECORD)
        watcher.step(2, 3, 16, 4.0)
        watcher.bar.refresh()
        shown = console.file.getvalue()
    for part in ("3/20", "loss 4.000", "val MRE 2.75 mm", "best 2.75 mm", "ETA"):
        assert part in shown
