"""A measurement's formula: a text such as `angle(S, N, A) - angle(S, N, B)`, of few functions of points, and its value.

Points are (x, y) with x to the front of the face and y down (`facing_right`). Angles are degrees, lengths those of the
points. A formula is parsed, never executed: it holds names, numbers, + - * / and the functions of `FUNCTIONS`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ceph.data.formats.spelling import place_of
from ceph.errors import nearest

Floats = NDArray[np.float64]

POINT, DEGREES, LENGTH, NUMBER, ANY = "a point", "an angle", "a length", "a number", "any"
FRONT = ("N", "Or", "A", "B", "Pog", "ANS", "UIT", "LIT", "Sn", "Ls", "Li", "Pog`", "Pn")
BACK = ("S", "Po", "Go", "Ar", "Co", "PNS")
LONGEST = 400  # characters of a formula
_TICK = "__soft"  # stands for the ` of a symbol, which no name of Python may have


def _degrees(vector: Floats) -> Floats:
    return np.degrees(np.arctan2(vector[..., 1], vector[..., 0]))


def _length(vector: Floats) -> Floats:
    return np.hypot(vector[..., 0], vector[..., 1])


def _cross(a: Floats, b: Floats) -> Floats:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def turn(a: Floats, b: Floats, c: Floats, d: Floats) -> Floats:
    """The angle from the direction a to b to the direction c to d, -180..180, positive where the latter dips more."""
    return -np.mod(180 - (_degrees(d - c) - _degrees(b - a)), 360) + 180


def angle(a: Floats, vertex: Floats, b: Floats) -> Floats:
    """The angle at the second point, 0..180."""
    return np.abs(turn(vertex, a, vertex, b))


def along(a: Floats, b: Floats, c: Floats, d: Floats) -> Floats:
    """How far b lies beyond a, along the direction c to d."""
    return np.asarray(((b - a) * (d - c)).sum(axis=-1) / _length(d - c))


def off(point: Floats, a: Floats, b: Floats) -> Floats:
    """How far a point lies off the line a to b: positive in front of one drawn down, above one drawn to the front."""
    return -_cross(b - a, point - a) / _length(b - a)


def meet(a: Floats, b: Floats, c: Floats, d: Floats) -> Floats:
    """Where the lines through a, b and through c, d cross."""
    share = _cross(c - a, d - c) / _cross(b - a, d - c)
    return a + share[..., None] * (b - a)


class Function(NamedTuple):
    """A function of a formula: what it takes, what it gives, and what it means."""

    takes: tuple[str, ...]
    gives: str
    compute: Callable[..., Floats]
    meaning: str


FUNCTIONS: dict[str, Function] = {
    "angle": Function((POINT,) * 3, DEGREES, angle, "the angle at the second point, 0 to 180"),
    "turn": Function(
        (POINT,) * 4,
        DEGREES,
        turn,
        "from the direction first to second to the direction third to fourth, -180 to 180, positive clockwise "
        "with the face to the right: `turn(S, N, Go, Me)` grows as Go-Me dips",
    ),
    "distance": Function((POINT,) * 2, LENGTH, lambda a, b: _length(b - a), "between two points"),
    "along": Function(
        (POINT,) * 4, LENGTH, along, "how far the second point lies beyond the first, along third to fourth"
    ),
    "off": Function(
        (POINT,) * 3,
        LENGTH,
        off,
        "how far the first point lies off the line second to third: positive in front of a line drawn down, above one "
        "drawn to the front",
    ),
    "forward": Function(
        (POINT,) * 2, LENGTH, lambda a, b: b[..., 0] - a[..., 0], "how far the second is in front of the first"
    ),
    "sign": Function((LENGTH,), NUMBER, np.sign, "1, 0 or -1"),
    "mid": Function((POINT,) * 2, POINT, lambda a, b: (a + b) / 2, "the point halfway"),
    "meet": Function((POINT,) * 4, POINT, meet, "where the lines first-second and third-fourth cross"),
}

Compute = Callable[[Callable[[str], Floats]], Floats]


@dataclass(frozen=True)
class Formula:
    """A parsed formula: its text, the landmarks it needs, and what it gives (DEGREES, LENGTH or NUMBER)."""

    text: str
    landmarks: tuple[str, ...]
    gives: str
    compute: Compute

    def of(self, points: Floats, landmarks: Sequence[str]) -> Floats:
        """Values [...] of points [..., K, 2] that look to the right; NaN where one is missing. KeyError: not there."""
        at: Mapping[str, int] = {name: k for name in self.landmarks if (k := place_of(name, landmarks)) is not None}
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.compute(lambda name: points[..., at[name], :]), dtype=np.float64)


def parse(text: str) -> Formula:
    """The formula that a text is. Raises ValueError, saying what is wrong with it."""
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    try:
        tree = ast.parse(text.replace("`", _TICK).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"is no formula: {text}") from None
    names: dict[str, None] = {}
    gives, compute = _built(tree, names)
    if gives in (POINT, ANY):
        raise ValueError(f"is {POINT if gives == POINT else NUMBER}, and nothing that is measured: {text}")
    return Formula(text, tuple(names), gives, compute)


def _built(node: ast.expr, names: dict[str, None]) -> tuple[str, Compute]:
    """What a part of a formula gives, and how; the landmarks that it names are added to `names`."""
    if isinstance(node, ast.Name):
        name = node.id.replace(_TICK, "`")
        names[name] = None
        return POINT, lambda at: at(name)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        value = np.asarray(float(node.value))
        return ANY, lambda _at: value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        gives, inner = _built(node.operand, names)
        if gives != POINT:
            return gives, lambda at: -inner(at)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node.func.id, node.args, names)
    if isinstance(node, ast.BinOp):
        return _operation(node, names)
    raise ValueError(f"holds what no formula does: {ast.unparse(node).replace(_TICK, '`')}")


def _call(name: str, given: Sequence[ast.expr], names: dict[str, None]) -> tuple[str, Compute]:
    if name not in FUNCTIONS:
        raise ValueError(f"there is no function {name}; {nearest(name, FUNCTIONS)}")
    takes, gives, compute, _ = FUNCTIONS[name]
    parts = [_built(part, names) for part in given]
    if tuple(kind for kind, _ in parts) != takes:
        wanted = f"{len(takes)} points" if takes[0] == POINT else takes[0]
        raise ValueError(f"{name} is of {wanted}, not of ({', '.join(kind for kind, _ in parts)})")
    return gives, lambda at: compute(*(inner(at) for _, inner in parts))


def _operation(node: ast.BinOp, names: dict[str, None]) -> tuple[str, Compute]:
    (left, a), (right, b) = (_built(part, names) for part in (node.left, node.right))
    kinds, both = {left, right} - {ANY}, f"{left} and {right}"
    if POINT not in kinds:
        match node.op:
            case ast.Add() | ast.Sub():
                sign = 1 if isinstance(node.op, ast.Add) else -1
                if len(kinds) < 2:
                    return next(iter(kinds), ANY), lambda at: a(at) + sign * b(at)
            case ast.Mult():
                if len(kinds - {NUMBER}) < 2 and (left in (ANY, NUMBER) or right in (ANY, NUMBER)):
                    return next(iter(kinds - {NUMBER}), next(iter(kinds), ANY)), lambda at: a(at) * b(at)
            case ast.Div():
                if right in (ANY, NUMBER) or left == right:
                    return NUMBER if left == right and left != ANY else left, lambda at: a(at) / b(at)
    raise ValueError(f"{ast.unparse(node).replace(_TICK, '`')} combines {both}")


def facing_right(points: Floats, landmarks: Sequence[str]) -> Floats:
    """Points [..., K, 2] with those of a face that looks to the left mirrored, so that x runs to the front."""
    front, back = ([k for name in names if (k := place_of(name, landmarks)) is not None] for names in (FRONT, BACK))
    if not front or not back:
        return points
    with np.errstate(invalid="ignore"):
        left = _mean(points[..., front, 0]) < _mean(points[..., back, 0])
    return np.where(left[..., None, None], points * (-1.0, 1.0), points)


def _mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1))
