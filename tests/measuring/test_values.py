"""Every measurement of the table against a calculation by hand, by slopes, triangles, complex numbers; and signs."""

from __future__ import annotations

import re
from math import acos, atan, cos, degrees, dist, hypot, radians

import numpy as np
import pytest

from ceph.measuring.formula import facing_right, parse
from ceph.measuring.table import Classes, built_in, measurable

# A head that looks to the right, in mm, y down; no line of it is level or upright.
HEAD = {
    "S": (60, 60), "N": (130, 66), "Or": (120, 92), "Po": (38, 88), "A": (128, 124), "B": (117, 160), "Pog": (116, 175),
    "Me": (108, 182), "Gn": (113, 180), "Go": (52, 148), "LIT": (126, 141), "UIT": (130, 144), "Ls": (144, 136),
    "Li": (140, 151), "Sn": (141, 121), "Pog`": (128, 176), "PNS": (80, 112), "ANS": (134, 117), "Ar": (47, 92),
    "Co": (50, 84), "Pn": (156, 113), "N`": (138, 68), "LPM": (108, 142), "UPM": (109, 139), "LMT": (98, 140),
    "UMT": (99, 137), "UIA": (121, 121), "LIA": (115, 161), "G": (137, 56), "Cm": (149, 119),
}  # fmt: skip
P = {name: complex(*xy) for name, xy in HEAD.items()}


def at(name):
    a, _, b = name.partition("+")
    return (P[a] + P[b]) / 2 if b else P[a]


def dip(a, b):
    """How far a line to the front dips below the level, by its slope."""
    step = at(b) - at(a)
    assert step.real > 0
    return degrees(atan(step.imag / step.real))


def lean(a, b):
    """How far a line drawn down leans back from the upright, by its slope."""
    step = at(b) - at(a)
    assert step.imag > 0
    return degrees(atan(-step.real / step.imag))


def corner(a, v, b):
    """The angle at v, by the law of cosines."""
    va, vb, ab = (dist(HEAD[p], HEAD[q]) for p, q in ((v, a), (v, b), (a, b)))
    return degrees(acos((va**2 + vb**2 - ab**2) / (2 * va * vb)))


def span(a, b):
    return hypot(HEAD[a][0] - HEAD[b][0], HEAD[a][1] - HEAD[b][1])


def ahead(point, a, b):
    """How far a point is in front of a line drawn down: the gap at its own height, foreshortened."""
    p, begin, step = at(point), at(a), at(b) - at(a)
    gap = p.real - (begin.real + (p.imag - begin.imag) * step.real / step.imag)
    return gap * cos(radians(lean(a, b)))


def beyond(a, b, c, d):
    """How far b is beyond a, once the film is turned so that c-d is level."""
    turned = (at(b) - at(a)) / (at(d) - at(c))
    return turned.real * abs(at(d) - at(c))


OCC = ("UMT+LMT", "UIT+LIT")
SN, FH, NL, ML, OP = dip("S", "N"), dip("Po", "Or"), dip("PNS", "ANS"), dip("Go", "Me"), dip(*OCC)
U1, L1 = -lean("UIA", "UIT"), lean("LIT", "LIA")  # how far an edge stands forward of its root
BY_HAND = {
    "SNA": corner("S", "N", "A"),
    "SNB": corner("S", "N", "B"),
    "ANB": corner("A", "N", "B"),  # A is in front of B here
    "Wits": beyond("B", "A", "UMT+LMT", "UPM+LPM"),
    "facial angle": 90 - lean("N", "Pog") + FH,
    "angle of convexity": 180 - corner("N", "A", "Pog"),  # A is in front of N-Pog here
    "AB plane": lean("N", "Pog") - lean("A", "B"),
    "convexity of A": ahead("A", "N", "Pog"),
    "maxillary depth": 90 - lean("N", "A") + FH,
    "A to N perpendicular": beyond("N", "A", "Po", "Or"),
    "Pog to N perpendicular": beyond("N", "Pog", "Po", "Or"),
    "APDI": 90 - lean("A", "B") + NL,
    "SN-GoGn": dip("Go", "Gn") - SN,
    "SN-GoMe": ML - SN,
    "FMA": ML - FH,
    "SN-NL": NL - SN,
    "NL-ML": ML - NL,
    "FH-NL": NL - FH,
    "Y axis": 90 + lean("S", "Gn") - FH,
    "SN-occlusal": OP - SN,
    "FH-occlusal": OP - FH,
    "ODI": 90 + lean("A", "B") - ML + NL - FH,
    "saddle angle": corner("N", "S", "Ar"),
    "articular angle": corner("S", "Ar", "Go"),
    "gonial angle": corner("Ar", "Go", "Me"),
    "sum of the three": corner("N", "S", "Ar") + corner("S", "Ar", "Go") + corner("Ar", "Go", "Me"),
    "upper gonial angle": corner("Ar", "Go", "N"),
    "lower gonial angle": corner("N", "Go", "Me"),
    "S-Go to N-Me": 100 * span("S", "Go") / span("N", "Me"),
    "ANS-Me to N-Me": 100 * span("ANS", "Me") / span("N", "Me"),
    **{name: span(*name.split("-")) for name in ("S-N", "S-Ar", "Ar-Go", "Go-Me", "S-Go", "N-Me")},
    **{name: span(*name.split("-")) for name in ("ANS-Me", "Co-A", "Co-Gn")},
    "Co-Gn less Co-A": span("Co", "Gn") - span("Co", "A"),
    "U1-SN": 90 + U1 + SN,
    "U1-FH": 90 + U1 + FH,
    "U1-NL": 90 + U1 + NL,
    "U1-NA angle": U1 + lean("N", "A"),
    "U1-NA": ahead("UIT", "N", "A"),
    "L1-NB angle": L1 - lean("N", "B"),
    "L1-NB": ahead("LIT", "N", "B"),
    "U1-L1": 180 - U1 - L1,
    "IMPA": 90 + L1 - ML,
    "FMIA": 90 - L1 + FH,
    "L1-occlusal": L1 - OP,
    "U1-APog": ahead("UIT", "A", "Pog"),
    "L1-APog": ahead("LIT", "A", "Pog"),
    "L1-APog angle": L1 - lean("A", "Pog"),
    "U1 to A vertical": beyond("A", "UIT", "Po", "Or"),
    "overjet": beyond("LIT", "UIT", *OCC),
    "MW": span("LIT", "UIT"),  # the upper edge is in front here
    "E-line upper lip": ahead("Ls", "Pn", "Pog`"),
    "E-line lower lip": ahead("Li", "Pn", "Pog`"),
    "upper lip to Sn-Pog`": ahead("Ls", "Sn", "Pog`"),
    "lower lip to Sn-Pog`": ahead("Li", "Sn", "Pog`"),
    "G-Sn-Pog`": 180 - corner("G", "Sn", "Pog`"),
    "nasolabial angle": corner("Cm", "Sn", "Ls"),
    "N`-Sn-Pog`": corner("N`", "Sn", "Pog`"),
    "H angle": corner("N`", "Pog`", "Ls"),
}  # fmt: skip
POINTS = np.array(list(HEAD.values()), dtype=float)


@pytest.mark.parametrize("one", built_in(), ids=lambda one: one.name)
def test_a_value_is_what_a_hand_calculates_also_on_a_mirrored_film(one):
    expected = pytest.approx(BY_HAND[one.name], abs=1e-9)
    assert one.formula.of(POINTS, tuple(HEAD)) == expected
    mirrored = facing_right(POINTS * (-1, 1) + (400, 20), tuple(HEAD))
    assert one.formula.of(mirrored, tuple(HEAD)) == expected


def test_the_table_has_no_measurement_that_is_not_checked():
    assert {one.name for one in built_in()} == set(BY_HAND)


def test_signs_are_those_of_the_field():
    """A crossbite is negative, a B in front of A is, and a lip behind its line."""
    moved = dict(HEAD, UIT=(120, 144), B=(131, 160), Li=(120, 151))
    points = np.array(list(moved.values()), dtype=float)
    values = {one.name: float(one.formula.of(points, tuple(HEAD))) for one in built_in()}
    assert all(values[name] < 0 for name in ("MW", "ANB", "Wits", "overjet", "E-line lower lip"))
    assert values["AB plane"] > 0


def test_only_what_the_landmarks_allow_is_measured_by_any_of_their_names():
    names = {one.name for one in measurable(built_in(), ("Sella", "Nasion", "A point"))}
    assert names == {"SNA", "S-N"}
    points = np.array([HEAD["S"], HEAD["N"], HEAD["A"]], dtype=float)
    sna = next(one for one in built_in() if one.name == "SNA")
    assert sna.formula.of(points, ("Sella", "Nasion", "A point")) == pytest.approx(BY_HAND["SNA"])
    assert np.isnan(sna.formula.of(np.array([HEAD["S"], HEAD["N"], (np.nan, np.nan)]), ("S", "N", "A")))


def test_where_lines_cross_is_a_point_of_a_formula():
    gonion = parse("distance(meet(Ar, Go, Me, Gn), Go)")
    x = np.array([(0, 0), (0, 10), (10, 20), (20, 20)], dtype=float)  # the ramus x = 0 and the border y = 20
    assert gonion.of(x, ("Ar", "Go", "Me", "Gn")) == pytest.approx(10)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("angel(S, N, A)", "there is no function angel; did you mean 'angle'?"),
        ("angle(S, N)", "angle is of 3 points, not of (a point, a point)"),
        ("angle(S, N, A) + distance(S, N)", "combines an angle and a length"),
        ("distance(S, N) * distance(S, N)", "combines a length and a length"),
        ("mid(S, N)", "is a point"),
        ("__import__('os').system('true')", "holds what no formula does"),
        ("S.x", "holds what no formula does"),
        ("angle(S, N, A", "is no formula"),
        ("3", "is a number"),
    ],
)
def test_a_formula_that_means_nothing_is_refused(text, fault):
    with pytest.raises(ValueError, match=re.escape(fault)):
        parse(text)


def test_a_value_at_a_limit_is_of_the_class_above_and_an_interval_names_all_it_reaches():
    classes = Classes(("III", "I", "II"), (0.0, 4.0))
    assert [classes.of(value) for value in (-0.1, 0, 3.9, 4)] == ["III", "I", "I", "II"]
    assert classes.between(-1, 5) == ("III", "I", "II")
    assert classes.between(1, 2) == ("I",)
