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
    starred = [line.split()[0] for line in lines if line.rstrip().endswith("*")]
    assert starred == ["Go", "UMT"]
    order = [
        next(i for i, line in enumerate(lines) if name in line) for name in ("MRE ", "SDR 2.0", "Go", "`L3 ", "UMT")
    ]
    assert order == sorted(order), "the overall figures, then the landmarks, the largest gain first"


def test_the_sentences_name_what_is_better_and_what_is_worse():
    text = verdict(of((0.4, 1.8), seeds=(0,)))
    _, rates, landmarks, *notes = text.splitlines()
    better, worse, rest = landmarks.split(";")
    assert ("better" in better, "Go" in better, "worse" in worse, "UMT" in worse, "27" in rest) == (True,) * 5
    assert landmarks.startswith("Landmarks: hard [bold] is")
    assert "no difference" in rates
    assert all("one seed" in part for part in (better, worse, *notes))
    assert "one seed" not in verdict(of((0.4, 1.8)))


def test_where_nothing_is_shown_it_says_so():
    lines = verdict(of((1.0, 1.0))).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["MRE", "SDR", "Landmarks"]
    assert all("no difference shown" in line for line in lines)


@pytest.mark.parametrize(
    ("mre", "words"),
    [
        (one(-0.3, -0.1, 0.01), ("b is", "0.200 mm", "13.3 %", "lower", "between 0.100 and 0.300")),
        (one(0.1, 0.3, 0.01), ("b is", "0.200 mm", "13.3 %", "higher", "between 0.100 and 0.300")),
        (one(-0.1, 0.3, 0.01), ("no difference shown", "includes zero")),
        (one(0.1, 0.3, 0.07), ("no difference shown", "p = 0.070")),
    ],
)
@pytest.mark.parametrize("seeds", [((0,), (0, 1)), ((0, 1), (0, 1))])
def test_a_difference_is_shown_where_interval_and_test_agree(mre, words, seeds):
    comparison = Comparison("a", "b", "test", 40, 40, seeds, mre, (mre,), (mre,), ())
    sentence = verdict(comparison).splitlines()[0]
    for word in words:
        assert word in sentence
    assert ("one seed" in sentence) == (mre.shown and len(seeds[0]) == 1)


def test_rates_are_better_where_they_rise():
    rates = (one(2, 4, 0.01, "SDR 2.0"), one(-4, -2, 0.01, "SDR 4.0"))
    comparison = Comparison("a", "b", "test", 40, 40, ((0, 1), (0, 1)), one(-1, 1, 1), rates, rates[:1], ())
    better, worse = verdict(comparison).splitlines()[1].split(";")
    assert "better: SDR 2.0" in better
    assert "worse: SDR 4.0" in worse


def test_the_heading_says_films_units_and_seeds():
    who, what = heading(of((1, 1))).splitlines()
    assert who == "hard [bold] against base"
    for part in ("validation", "40 films", "20 independent", "seeds 0 1 2"):
        assert part in what
    assert heading(of((1, 1), seeds=(0, 1), other_seeds=(1, 5))).endswith("seeds 0 1 of base, 1 5 of hard [bold]")


def test_the_columns_bear_the_names_of_the_configs_whole():
    text = printed(comparison_table(of((1, 1), name="heavy-augmentation+multi-scale")))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert {"base", "heavy-aug", "mentation", "+multi-sc", "ale"} <= set(text.split())


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
    forest_plot(
        [Comparison("a", "b", "test", 1, 1, ((0,), (0,)), alone, (alone,), (alone,), ())], tmp_path / "plot.png"
    )


def test_other_pictures_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        forest_plot([of((1, 1))], tmp_path / "plot.gif")
    with pytest.raises(ConfigError, match="cannot write"):
        forest_plot([of((1, 1))], tmp_path / "nowhere" / "plot.png")
