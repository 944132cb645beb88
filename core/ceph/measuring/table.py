"""The table of measurements: the house's own, and a person's in a YAML file of the same shape."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from ceph.config.source import Node, parse_bytes
from ceph.config.words import show
from ceph.data.formats.spelling import key as meaning
from ceph.data.formats.spelling import place_of
from ceph.data.formats.symbols import SYMBOLS
from ceph.errors import ConfigError, Place, Problem, nearest
from ceph.measuring.formula import DEGREES, LENGTH, NUMBER, Formula, parse

FILE = Path(__file__).with_name("measurements.yaml")
UNITS = {"deg": DEGREES, "mm": LENGTH, "percent": NUMBER, "ratio": NUMBER}
NUMBERS, TEXTS, NEEDED = ("norm", "sd"), ("formula", "unit", "source"), ("formula", "unit")


@dataclass(frozen=True)
class Classes:
    """Names of classes and the rising limits between them, one fewer; a value at a limit is of the class above it."""

    names: tuple[str, ...]
    limits: tuple[float, ...]

    def of(self, value: float) -> str:
        """The name of a value's class."""
        return self.names[bisect_right(self.limits, value)]

    def between(self, low: float, high: float) -> tuple[str, ...]:
        """The classes that an interval reaches into, rising."""
        return self.names[bisect_right(self.limits, low) : bisect_right(self.limits, high) + 1]


@dataclass(frozen=True)
class Measurement:
    """One measurement: `of` are the analyses that have it, `norm` and `sd` those of `source`, None where it has none.

    `challenge` are the classes of the ISBI 2015 challenge, `place` is where the formula stands.
    """

    name: str
    formula: Formula
    unit: str
    norm: float | None = None
    sd: float | None = None
    source: str = ""
    of: tuple[str, ...] = ()
    classes: Classes | None = None
    challenge: Classes | None = None
    place: Place | None = None


@cache
def built_in() -> tuple[Measurement, ...]:
    """The house's own table."""
    return read_table(FILE)


def read_table(file: Path) -> tuple[Measurement, ...]:
    """The measurements of a YAML file. Raises ConfigError with every fault and its place."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from error
    source = parse_bytes(content, file.name if file == FILE else str(file))
    problems, found = list(source.problems), []
    if not source.broken and isinstance(source.root.value, Mapping):
        found = [one for name, node in source.root.value.items() if (one := _measurement(name, node, problems))]
    if problems:
        raise ConfigError(sorted(problems, key=lambda p: p.place or Place(str(file), 0, 0)))
    return tuple(found)


def with_own(own: Path | None) -> tuple[Measurement, ...]:
    """The house's table with those of a person's own file; one of a name that is there takes its place."""
    every = {one.name: one for one in built_in()}
    every |= {one.name: one for one in read_table(own)} if own else {}
    return tuple(every.values())


def measurable(table: Iterable[Measurement], landmarks: Sequence[str]) -> tuple[Measurement, ...]:
    """The measurements whose landmarks are all there, by any of their names.

    Raises ConfigError for a landmark that neither `landmarks` nor the symbols that are known have.
    """
    problems, found = [], []
    for one in table:
        missing = [name for name in one.formula.landmarks if place_of(name, landmarks) is None]
        for name in missing:
            if meaning(name) not in SYMBOLS:
                hint = nearest(name, {*landmarks, *SYMBOLS})
                problems.append(Problem(f"there is no landmark {name}", f"{one.name}.formula", one.place, hint))
        if not missing:
            found.append(one)
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def _measurement(name: str, node: Node, problems: list[Problem]) -> Measurement | None:
    """The measurement that a line of the file is; None where something is wrong with it, which is noted."""
    before = len(problems)

    def wrong(what: str, key: str = "", hint: str = "", at: Node | None = None) -> None:
        place = (at or node).place
        problems.append(Problem(what, f"{name}.{key}" if key else name, place, hint))

    keys = (*TEXTS, *NUMBERS, "of", "classes", "challenge")
    cells = node.value if isinstance(node.value, Mapping) else {}
    if not isinstance(node.value, Mapping):
        wrong(f"must be a mapping of {', '.join(NEEDED)} and more, not {show(node.plain())}")
    for key, cell in cells.items():
        if key not in keys:
            problems.append(Problem("is no key of a measurement", f"{name}.{key}", cell.key_place, nearest(key, keys)))
        elif key in TEXTS and not isinstance(cell.value, str):
            wrong(f"must be a text, not {show(cell.plain())}", key, at=cell)
        elif key in NUMBERS and (isinstance(cell.value, bool) or not isinstance(cell.value, int | float)):
            wrong(f"must be a number, not {show(cell.plain())}", key, at=cell)
    for key in NEEDED:
        if key not in cells and isinstance(node.value, Mapping):
            wrong(f"{key} is missing", hint='such as {formula: "angle(S, N, A)", unit: deg}')
    of = cells.get("of")
    if of is not None and not (isinstance(of.value, tuple) and all(isinstance(one.value, str) for one in of.value)):
        wrong("must be a list of names, such as [Steiner]", "of", at=of)
    classes = {key: _classes(cells[key]) for key in ("classes", "challenge") if key in cells}
    for key, made in classes.items():
        if made is None:
            hint = "such as [class III, 0, class I, 4, class II]"
            wrong("must be names with rising limits between them", key, hint, cells[key])
    if len(problems) > before:
        return None
    plain = {key: cell.plain() for key, cell in cells.items()}
    formula, unit = None, plain.pop("unit")
    if unit not in UNITS:
        wrong(f"is no unit: {unit}", "unit", nearest(unit, UNITS), cells["unit"])
    try:
        formula = parse(plain.pop("formula"))
    except ValueError as error:
        wrong(str(error), "formula", at=cells["formula"])
    if formula is not None and unit in UNITS and formula.gives != UNITS[unit]:
        wrong(f"the formula gives {formula.gives}, which is not in {unit}", "unit", at=cells["unit"])
    if formula is None or len(problems) > before:
        return None
    plain |= {"of": tuple(plain.get("of", ())), **classes}
    return Measurement(name, formula, unit, **plain, place=cells["formula"].place)


def _classes(node: Node) -> Classes | None:
    """The classes that a list of names and limits is, None where it is none."""
    items = node.plain()
    if not isinstance(items, list) or len(items) % 2 == 0:
        return None
    names, limits = items[::2], items[1::2]
    if not all(isinstance(name, str) for name in names):
        return None
    if any(isinstance(limit, bool) or not isinstance(limit, int | float) for limit in limits):
        return None
    rising = all(a < b for a, b in pairwise(limits))
    return Classes(tuple(names), tuple(map(float, limits))) if rising else None
