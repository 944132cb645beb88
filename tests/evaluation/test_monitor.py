"""The figures that plugins give: numbers beside the core's, their direction, and the one that picks the best epoch."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ceph.errors import ConfigError
from ceph.evaluation.metrics import Figure, add_figures, flatten, higher_is_better, summarise
from ceph.run.evaluator import make_monitor


def figures_with(**added):
    figures = summarise(np.ones((2, 1)), ("A",), "mean")
    add_figures(figures, added)
    return figures


def test_what_plugins_measured_stands_as_plain_numbers_and_says_beside_them_what_is_better_when_larger():
    figures = figures_with(spread_mm=np.float32(0.5), sure=Figure(0.75, higher_is_better=True), off=Figure(2, False))
    assert figures["plugins"] == {"spread_mm": 0.5, "sure": 0.75, "off": 2.0}
    assert figures["higher_is_better"] == ["sure"]
    assert json.loads(json.dumps(figures)) == figures
    assert figures_with() == summarise(np.ones((2, 1)), ("A",), "mean")
    larger = [name for name in flatten(figures) if higher_is_better(name, figures)]
    assert larger == [
        *(f"sdr_percent.{t}" for t in ("2.0", "2.5", "3.0", "4.0")),
        *(f"per_landmark.A.sdr_percent.{t}" for t in ("2.0", "2.5", "3.0", "4.0")),
        "plugins.sure",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mre_mm", 1.0),
        ("sdr_percent.2.0", -100.0),
        ("plugins.sure", -0.75),
        ("plugins.spread_mm", 0.5),
        ("plugins.sdr_percent", 7.0),
    ],
)
def test_a_monitored_figure_is_smaller_where_it_is_better(name, expected):
    figures = figures_with(spread_mm=0.5, sure=Figure(0.75, higher_is_better=True), sdr_percent=7.0)
    assert make_monitor(name, ("A",))(figures) == expected


@pytest.mark.parametrize(
    ("name", "given", "hint"),
    [("plugins.sur", {"sure": 0.75}, "did you mean 'plugins.sure'?"), ("plugins.mre_mm", {}, "did you mean 'mre_mm'?")],
)
def test_a_monitored_figure_that_no_plugin_gives_is_an_error_after_the_first_evaluation(name, given, hint):
    monitor = make_monitor(name, ("A",))
    with pytest.raises(ConfigError, match=f"no plugin gives the figure '{name}'") as caught:
        monitor(figures_with(**given))
    assert caught.value.problems[0].key == "train.monitor"
    assert caught.value.problems[0].hint == hint


def test_a_figure_that_is_left_out_later_counts_as_the_worst_in_a_resumed_run_too():
    monitor = make_monitor("plugins.sure", ("A",))
    assert monitor(figures_with(sure=0.75)) == 0.75
    assert monitor(figures_with()) == math.inf
    assert make_monitor("plugins.sure", ("A",), evaluated=True)(figures_with()) == math.inf


def test_a_figure_without_truth_counts_as_the_worst_and_is_no_error():
    assert make_monitor("mre_mm", ("A",))(summarise(np.full((2, 1), np.nan), ("A",), "mean")) == math.inf
