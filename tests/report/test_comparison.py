"""What a comparison says: no more than its table holds, in 80 columns, and the same in the picture."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from ceph.errors import ConfigError
from ceph.evaluation.comparison import Comparison, Difference, differences
from ceph.evaluation.scores import Group
from ceph.evaluation.statistics import Estimate
from ceph.report.comparison import comparison_table, forest_plot, heading, verdict

LANDMARKS = (*(f"`L{k}" for k in range(27)), "Go", "UMT")


def of(change, seeds=(0, 1, 2), other_seeds=None, films=40, name="hard [bold]"):
    rng = np.random.default_rng(0)
    difficulty = rng.lognormal(0.2, 0.4, (1, films, 1))
    base, other = (difficulty * rng.lognormal(0, 0.3, (len(seeds), films, 29)) for _ in range(2))
    factor = np.ones(29)
    factor[-2:] = change
    groups = Group("base", (), seeds, base), Group(name, (), other_seeds or seeds, other * factor)
    return differences(*groups, np.arange(films) // 2, LANDMARKS, split="validation")


def one(low, high, p, name="MRE"):
    value = (low + high) / 2
    return Difference(name, 1.5, 1.5 + value, Estimate(value, low, high, p), p, 40)


def printed(what):
    console = Console(file=io.StringIO(), width=80)
    console.print(what)
    return console.file.getvalue()


def test_the_table_fits_80_columns_and_marks_what_is_shown():
    comparison = of((0.4, 1.8), seeds=(0,))
    lines = printed(comparison_table(comparison)).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    starred = [line.split()[1] for line in lines if line.rstrip(" │").endswith("*")]
    assert starred == ["Go", "UMT"]
    order = [
        next(i for i, line in enumerate(lines) if name in line) for name in ("MRE ", "SDR 2.0", "Go", "`L3 ", "UMT")
    ]
    assert order == sorted(order), "the overall figures, then the landmarks, the largest gain first"


def test_the_sentences_name_what_is_better_and_what_is_worse():
    text = verdict(of((0.4, 1.8), seeds=(0,)))
    assert "Landmarks: B is better: Go; worse: UMT; no difference shown for the other 27." in text
    assert "SDR: no difference shown: none of 4 survives Holm's correction." in text
    assert "Note: one seed: the interval does not cover what another seed would do." in text


def test_where_nothing_is_shown_it_says_so():
    text = verdict(of((1.0, 1.0)))
    assert text.splitlines() == [
        "MRE: no difference shown: the interval includes zero.",
        "SDR: no difference shown: none of 4 survives Holm's correction.",
        "Landmarks: no difference shown: none of 29 survives Holm's correction.",
    ]


@pytest.mark.parametrize(
    ("mre", "sentence"),
    [
        (one(-0.3, -0.1, 0.01), "MRE: B is 0.200 mm (13.3 %) lower, between 0.100 and 0.300 mm."),
        (one(0.1, 0.3, 0.01), "MRE: B is 0.200 mm (13.3 %) higher, between 0.100 and 0.300 mm."),
        (one(-0.1, 0.3, 0.01), "MRE: no difference shown: the interval includes zero."),
        (one(0.1, 0.3, 0.07), "MRE: no difference shown: the sign-flip test gives p = 0.070."),
    ],
)
def test_a_difference_is_shown_where_interval_and_test_agree(mre, sentence):
    comparison = Comparison("a", "b", "test", 40, 40, ((0, 0),), mre, (mre,), (mre,), ())
    assert verdict(comparison).splitlines()[0] == sentence


def test_rates_are_better_where_they_rise():
    rates = (one(2, 4, 0.01, "SDR 2.0"), one(-4, -2, 0.01, "SDR 4.0"))
    comparison = Comparison("a", "b", "test", 40, 40, ((0, 0),), one(-1, 1, 1), rates, rates[:1], ())
    assert "SDR: B is better: SDR 2.0; worse: SDR 4.0." in verdict(comparison)


def test_the_heading_says_films_units_and_seeds():
    assert heading(of((1, 1))).splitlines() == [
        "A: base",
        "B: hard [bold]",
        "validation: 40 films (20 independent units); seeds 0 1 2",
    ]
    assert heading(of((1, 1), seeds=(0, 1), other_seeds=(1, 5))).endswith("seeds 1 0 of A, 1 5 of B")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_has_every_landmark(tmp_path, suffix):
    file = tmp_path / f"plot{suffix}"
    forest_plot([of((0.4, 1.8)), of((1, 1), name="costs $5 and $6")], file)
    if suffix == ".png":
        assert file.read_bytes().startswith(b"\x89PNG")
    else:
        words = re.findall(r"<!-- (.*?) -->", file.read_text())
        for name in (*LANDMARKS, "MRE", "SDR 2.0"):
            assert words.count(name) == 2


def test_a_picture_of_an_infinite_interval_can_be_drawn(tmp_path):
    alone = one(-np.inf, np.inf, 1.0)
    forest_plot([Comparison("a", "b", "test", 1, 1, ((0, 0),), alone, (alone,), (alone,), ())], tmp_path / "plot.png")


def test_other_pictures_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        forest_plot([of((1, 1))], tmp_path / "plot.gif")
    with pytest.raises(ConfigError, match="cannot write"):
        forest_plot([of((1, 1))], tmp_path / "nowhere" / "plot.png")
