"""How all benchmarks here measure: ways take turns in rounds, ratios are of medians, their bound is a bootstrap's.

A round runs every way once, one after the other, and each way begins a round in turn, so that what else the machine
does meets all alike. A first round counts for nothing. The bound is the 95th percentile of the ratio over 4000
resamples of the rounds. Every script prints Markdown rows.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch

RESAMPLES = 4000


@dataclass(frozen=True)
class Ratio:
    """The ratio of two medians, with the one-sided 95 % bounds below and above."""

    value: float
    lower: float
    upper: float


def in_turns(ways, rounds, *, warm=1):
    """Seconds of each unit, by name and round; `ways` maps names to functions that return how many units they did."""
    seconds = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + warm):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            done = ways[name]()
            # A way that times itself, because it prepares something first, returns (units, seconds).
            units, taken = done if isinstance(done, tuple) else (done, time.perf_counter() - began)
            if number >= warm:
                seconds[name].append(taken / units)
    return seconds


def ratio(upper, lower):
    """Median of `upper` over median of `lower`, seconds by round."""
    a, b = np.asarray(upper), np.asarray(lower)
    drawn = np.random.default_rng(0).integers(0, len(a), (RESAMPLES, len(a)))
    found = np.median(a[drawn], 1) / np.median(b[drawn], 1)
    return Ratio(float(np.median(a) / np.median(b)), *map(float, np.percentile(found, (5, 95))))


def slower_row(what, taken, floor, goal, digits=2):
    """A row whose goal is a greatest ratio: what, ms, ms of the floor, ratio, upper bound, goal."""
    r = ratio(taken, floor)
    a, b = (1000 * statistics.median(s) for s in (taken, floor))
    return f"| {what} | {a:.4g} | {b:.4g} | {r.value:.{digits}f} | {r.upper:.{digits}f} | <= {goal} |"


def faster_row(what, ours, theirs, goal, digits=1):
    """A row whose goal, if it has one, is a least ratio: what, ours ms, theirs ms, times faster, lower bound, goal."""
    r = ratio(theirs, ours)
    a, b = (1000 * statistics.median(s) for s in (ours, theirs))
    aim = f">= {goal}" if goal else "-"
    return f"| {what} | {a:.4g} | {b:.4g} | {r.value:.{digits}f} | {r.lower:.{digits}f} | {aim} |"


def head(*columns):
    """The head of a Markdown table, and the machine above it."""
    lead = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return f"{lead}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


SLOWER = ("what", "ms", "floor ms", "ratio", "95 % bound", "goal")
FASTER = ("what", "ours ms", "theirs ms", "times faster", "95 % bound", "goal")
