"""Points that any tool has found, out of one table: a line a point, as `ceph predict` writes it, or a line a film."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ceph.data.files import read_text
from ceph.data.formats.base import Findings, settle
from ceph.data.formats.cldetection_csv import points_of
from ceph.data.formats.locate import MAX_SET_BYTES, parts_of, shared_end
from ceph.data.formats.plain_csv import KNOWN, layout_of, long_columns
from ceph.data.formats.records import Marks
from ceph.data.formats.spelling import place_of
from ceph.data.formats.tables import Row, parse_rows
from ceph.data.names import shown
from ceph.data.types import Points, Sample
from ceph.errors import DataError, Problem, nearest

PIXELS = "points must be in pixels of the film as it is stored, x right, y down"


@dataclass
class PointTable:
    """The points of a table in film px, by film and landmark as the table calls them, and the row of each."""

    file: Path
    marks: dict[str, Marks] = field(default_factory=dict)
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def add(self, row: Row, film: str, points: Marks) -> None:
        """Add points of a film. Raises DataError for one that stands there twice."""
        if not film:
            row.fail("a line without a film")
        marks = self.marks.setdefault(film, {})
        for symbol, point in points.items():
            if symbol in marks:
                row.fail(f"{symbol} of {film} stands twice", hint="give one point for each landmark of a film")
            marks[symbol], self.rows[film, symbol] = point, row


def read_points(file: Path) -> PointTable:
    """The points of a table, long or wide, in film px. Raises DataError, naming the lines, where it is malformed."""
    columns, rows = parse_rows(read_text(file, limit=MAX_SET_BYTES), file, known=KNOWN)
    found, findings, long = PointTable(file), Findings(), long_columns(columns)
    film, points, _ = (long[0], [], True) if long else layout_of(columns, str(file))
    for row in rows:
        with findings.gather():
            if long and not row[long[1]]:
                row.fail("a point without a landmark's name")
            found.add(row, row[film], points_of(row, [(row[long[1]], *long[2:])] if long else points))
    findings.report()
    if not any(found.marks.values()):
        raise DataError(f"{file}: holds no points")
    return found


@dataclass(frozen=True, eq=False)
class OnFilms:
    """Points [F, K, 2] in film px on `samples` [F] and `landmarks` [K] of a set; NaN where the table has none.

    `strange_films` and `strange_landmarks` are those of the table that the set does not have.
    """

    samples: tuple[Sample, ...]
    landmarks: tuple[str, ...]
    points_px: Points
    strange_films: tuple[str, ...]
    strange_landmarks: tuple[str, ...]


def on_films(
    table: PointTable, samples: Sequence[Sample], landmarks: Sequence[str], *, refuse_outside: bool = True
) -> OnFilms:
    """The table's points on those films and landmarks of a set that it has, in the set's order.

    A film is meant by its id, or by its file with or without folders and ending; a landmark by any of its names. Raises
    DataError naming every point that lies outside its film (without `refuse_outside` there is none there), and what
    stands there under two names, and where table and set have no film or no landmark in common.
    """
    symbols = dict.fromkeys(symbol for marks in table.marks.values() for symbol in marks)
    columns = {symbol: k for symbol in symbols if (k := place_of(symbol, landmarks)) is not None}
    findings, find = Findings(), _finder(samples)
    meant: dict[int, str] = {}  # by place of the film
    points = np.full((len(samples), len(landmarks), 2), np.nan)
    for film, marks in table.marks.items():
        with findings.gather():
            if (n := find(film)) is None:
                continue
            if n in meant:
                raise DataError(f"{table.file}: {film} and {meant[n]} are both the film {samples[n].id}")
            meant[n] = film
            for symbol in (symbol for symbol in marks if symbol in columns):
                k, row, (height, width) = columns[symbol], table.rows[film, symbol], samples[n].size
                if not np.isnan(points[n, k, 0]):
                    row.fail(f"{film} has {landmarks[k]} under two names")
                points[n, k], _, outside = settle(np.array(marks[symbol]), (height, width))
                if outside and refuse_outside:
                    x, y = marks[symbol]
                    what = f"{symbol} of {film} is outside the film, at x {x:g}, y {y:g} of {width} x {height}"
                    findings.problems.append(Problem(what, place=row.place, hint=PIXELS))
    findings.report()
    if not meant or not columns:
        what, mine, its = ("landmark", symbols, landmarks) if meant else ("film", table.marks, [s.id for s in samples])
        one = next(iter(mine))
        raise DataError(
            f"{table.file}: no {what} of it is in the set: it calls them {', '.join(map(shown, list(mine)[:3]))}, ...",
            hint=nearest(one, its) or f"the set calls them {', '.join(list(its)[:3])}, ...",
        )
    known = set(meant.values())
    films, kept = sorted(meant), sorted(set(columns.values()))
    return OnFilms(
        tuple(samples[n] for n in films),
        tuple(landmarks[k] for k in kept),
        points[np.ix_(films, kept)],
        tuple(shown(film) for film in table.marks if film not in known),
        tuple(shown(symbol) for symbol in symbols if symbol not in columns),
    )


def _finder(samples: Sequence[Sample]) -> Callable[[str], int | None]:
    """A function from what a table calls a film to its place; it raises DataError where two films fit equally well."""
    by_id = {sample.id: n for n, sample in enumerate(samples)}
    by_file: dict[str, list[int]] = defaultdict(list)
    for n, sample in enumerate(samples):
        for name in dict.fromkeys((shown(sample.path.name), shown(sample.path.stem))):
            by_file[name].append(n)

    def find(name: str) -> int | None:
        if (called := shown(name)) in by_id:
            return by_id[called]
        parts = parts_of(called)
        found = by_file.get(parts[-1]) or by_file.get(parts[-1].rpartition(".")[0]) if parts else None
        if not found:
            return None
        folders = [shared_end(samples[n].path.parent.parts, parts[:-1]) for n in found]
        if folders.count(max(folders)) > 1:
            raise DataError(f"{called} may be several films of the set, {samples[found[0]].path} among them")
        return found[folders.index(max(folders))]

    return find
