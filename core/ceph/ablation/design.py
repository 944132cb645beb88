"""Which cells an ablation has, and which contrasts between them are the effects of its plugins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

Design = Literal["leave-one-out", "add-one", "full"]
DESIGNS: tuple[Design, ...] = ("leave-one-out", "add-one", "full")
NONE = "none"


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells (by name) whose weights sum to zero: what `label` changes."""

    label: str
    cells: Mapping[str, float]


@dataclass(frozen=True)
class Family:
    """Contrasts that are read side by side, so that their p-values are adjusted for their number.

    `title` follows the contrast's label: `hard-mining`, `alone against none`.
    """

    title: str
    contrasts: tuple[Contrast, ...]


def cell_name(plugins: Iterable[str]) -> str:
    """`hard-mining+weighted-loss`: the plugins of a cell, sorted; `none` without any."""
    return "+".join(sorted(plugins)) or NONE


def cell_plugins(name: str) -> frozenset[str]:
    """What `cell_name` named."""
    return frozenset() if name == NONE else frozenset(name.split("+"))


def cells(design: Design, plugins: Collection[str]) -> tuple[str, ...]:
    """The names of a design's cells, those with fewer plugins first."""
    everything = frozenset(plugins)
    sets = {
        "add-one": {frozenset(), *(frozenset({p}) for p in everything)},
        "leave-one-out": {everything, *(everything - {p} for p in everything)},
        "full": set(_subsets(everything)),
    }[design]
    return tuple(cell_name(s) for s in sorted(sets, key=lambda s: (len(s), sorted(s))))


def families(design: Design, plugins: Collection[str]) -> tuple[Family, ...]:
    """The effects that a design shows."""
    names = sorted(plugins)
    if design == "add-one":
        return (Family("alone against none", tuple(against(p, [p], []) for p in names)),)
    if design == "leave-one-out":
        contrasts = tuple(against(p, names, [n for n in names if n != p]) for p in names)
        return (Family("beside all the others", contrasts),)
    main = Family("over all settings of the others", tuple(_factorial((p,), names) for p in names))
    pairs = tuple(_factorial(pair, names) for pair in combinations(names, 2))
    return (main, Family("as an interaction", pairs)) if pairs else (main,)


def against(label: str, plugins: Iterable[str], others: Iterable[str]) -> Contrast:
    """The cell with `plugins` less the cell with `others`."""
    return Contrast(label, {cell_name(plugins): 1.0, cell_name(others): -1.0})


def _factorial(factors: Sequence[str], names: Sequence[str]) -> Contrast:
    """The mean over the settings of the other plugins of on - off, or of the difference of such differences."""
    others = [n for n in names if n not in factors]
    scale = 0.5 ** len(others)
    weights = {
        cell_name({*on, *rest}): scale * (-1.0) ** (len(factors) - len(on))
        for on in _subsets(factors)
        for rest in _subsets(others)
    }
    return Contrast(" x ".join(factors), weights)


def _subsets(plugins: Collection[str]) -> list[frozenset[str]]:
    return [frozenset(chosen) for size in range(len(plugins) + 1) for chosen in combinations(sorted(plugins), size)]
