"""predictions-<split>.csv, the points that a run has found on a split, and stages-<split>.csv, those that it moved.

All are in pixels of the original films.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph.data.files import read_text
from ceph.data.names import bare, guarded
from ceph.errors import DataError
from ceph.files import replacing, write_text
from ceph.runfolder.place import writing

Floats = NDArray[np.float64]

HEADER = ["image_id", "symbol", "x_px", "y_px", "score", "true_x_px", "true_y_px", "error_mm"]
RADIUS, PRESENCE, ABSENT = "radius_mm", "presence", "absent"  # further columns, each where any of it is known
FURTHER = (RADIUS, PRESENCE, ABSENT)
STAGES_HEADER = ["image_id", "symbol", "stage", "x_px", "y_px", "score"]
MAX_BYTES = 2**28
_NAME = "predictions-"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Points and truth [F, K, 2] in film px, scores [F, K], errors [F, K] in mm; NaN where there is no truth.

    `radii_mm` [F, K] are those within which the truth should lie, `presence` [F, K] how sure it is that landmarks are
    on their films, NaN unknown; None where none is known. `absent` [F, K] are those that the set says are not there.
    """

    ids: tuple[str, ...]
    landmarks: tuple[str, ...]
    points_px: Floats
    scores: Floats
    truth_px: Floats
    errors_mm: Floats
    radii_mm: Floats | None = None
    presence: Floats | None = None
    absent: NDArray[np.bool_] | None = None

    @property
    def further(self) -> dict[str, tuple[Floats, str]]:
        """The further columns that are written: numbers [F, K], NaN where a cell is empty, and how they are written."""
        absent = None if self.absent is None else np.where(self.absent, 1.0, np.nan)
        every = {RADIUS: (self.radii_mm, ".3f"), PRESENCE: (self.presence, ".4f"), ABSENT: (absent, ".0f")}
        return {name: (v, form) for name, (v, form) in every.items() if v is not None and not np.isnan(v).all()}


def predictions_file(folder: Path, split: str) -> Path:
    """Where the predictions of a split lie, or will."""
    return folder / f"{_NAME}{split}.csv"


def predicted_splits(folder: Path) -> list[str]:
    """The splits that have predictions, validation first."""
    names = [path.stem.removeprefix(_NAME) for path in folder.glob(f"{_NAME}*.csv")]
    return sorted(names, key=lambda name: (name != "validation", name))


def write_predictions(folder: Path, split: str, found: Predictions) -> None:
    """Write the predictions of a split, in one move. Raises CephError where that cannot be."""
    path = predictions_file(folder, split)
    with writing(path), replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", errors="backslashreplace")
        rows = csv.writer(text)
        further = found.further
        rows.writerow([*HEADER, *further])
        for n, film in enumerate(found.ids):
            for k, symbol in enumerate(found.landmarks):
                x, y = found.points_px[n, k]
                row = [guarded(film), guarded(symbol), f"{x:.3f}", f"{y:.3f}", f"{found.scores[n, k]:.4f}"]
                if math.isnan(found.errors_mm[n, k]):
                    row += ["", "", ""]
                else:
                    true_x, true_y = found.truth_px[n, k]
                    row += [f"{true_x:.3f}", f"{true_y:.3f}", f"{found.errors_mm[n, k]:.4f}"]
                row += ["" if math.isnan(v[n, k]) else format(v[n, k], form) for v, form in further.values()]
                rows.writerow(row)
        text.flush()
        text.detach()


def read_predictions(folder: Path, split: str) -> Predictions:
    """The predictions of a split. Raises DataError, naming file and line, where they are missing or malformed."""
    file = predictions_file(folder, split)
    cells: dict[tuple[str, str], tuple[float, ...]] = {}
    for line, row in _rows(file, further=FURTHER):
        film, symbol = map(bare, row[:2])
        if (film, symbol) in cells:
            raise _wrong(file, line, f"{symbol} of {film} stands there twice")
        own = [_number(file, line, name, text) for name, text in zip(HEADER[2:5], row[2:5], strict=True)]
        truth = row[5 : len(HEADER)]
        if any(truth) and not all(truth):
            raise _wrong(file, line, "the truth and its error must be given together, or not at all")
        known = [
            _number(file, line, name, text) if text else math.nan for name, text in zip(HEADER[5:], truth, strict=True)
        ]
        if known[2] < 0:
            raise _wrong(file, line, f"error_mm must not be negative: {row[7]}")
        more = [
            _number(file, line, name, text) if text else math.nan
            for name, text in zip(FURTHER, row[len(HEADER) :], strict=True)
        ]
        cells[film, symbol] = (*own, *known, *more)
    ids, landmarks = (tuple(dict.fromkeys(key[part] for key in cells)) for part in (0, 1))
    missing = next(((i, k) for i in ids for k in landmarks if (i, k) not in cells), None)
    if not cells or missing:
        raise DataError(f"{file}: {f'{missing[1]} of {missing[0]} is missing' if missing else 'holds no predictions'}")
    values = np.array([[cells[i, k] for k in landmarks] for i in ids])
    found = values[..., :2], values[..., 2], values[..., 3:5], values[..., 5]
    radii_mm, presence, absent = (None if np.isnan(v).all() else v for v in np.moveaxis(values[..., 6:], -1, 0))
    return Predictions(ids, landmarks, *found, radii_mm, presence, None if absent is None else absent == 1)


def unseen_points(folder: Path, films: Sequence[str], landmarks: Sequence[str]) -> Floats:
    """What a run has found on those of `films` that did not train it: [F, K, 2] in film px, NaN where nothing is kept.

    Raises DataError where predictions are malformed.
    """
    rows, columns = ({name: place for place, name in enumerate(names)} for names in (films, landmarks))
    points = np.full((len(films), len(landmarks), 2), np.nan)
    for split in predicted_splits(folder):
        if split == "train":
            continue
        found = read_predictions(folder, split)
        for n, film in enumerate(found.ids):
            for k, symbol in enumerate(found.landmarks):
                if film in rows and symbol in columns:
                    points[rows[film], columns[symbol]] = found.points_px[n, k]
    return points


def stages_file(folder: Path, split: str) -> Path:
    """Where what stations of decoding moved on a split lies, or will; there is none where nothing could."""
    return folder / f"stages-{split}.csv"


def write_stages(
    folder: Path,
    split: str,
    ids: Sequence[str],
    landmarks: Sequence[str],
    stages: Mapping[str, tuple[Floats, Floats]],
) -> None:
    """Write which points a station of decoding moved; `stages`: points [F, K, 2] and scores [F, K] after each.

    Of each such point a row says where the decoder put it, and one after each stage that moved it where it then was.
    """
    path = stages_file(folder, split)
    with writing(path):
        if len(stages) < 2:
            path.unlink(missing_ok=True)
            return
        rows: list[Sequence[str]] = [STAGES_HEADER]
        for n, film in enumerate(ids):
            for k, symbol in enumerate(landmarks):
                track = [
                    (guarded(film), guarded(symbol), stage, *map("{:.3f}".format, points[n, k]), f"{scores[n, k]:.4f}")
                    for stage, (points, scores) in stages.items()
                ]
                moved = [after for before, after in pairwise(track) if before[3:5] != after[3:5]]
                rows += [track[0], *moved] if moved else []
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(path, text.getvalue())


def read_stages(folder: Path, split: str) -> dict[tuple[str, str], list[tuple[str, float, float]]]:
    """By film and symbol: (stage, x_px, y_px) of each point that decoding moved. Raises DataError."""
    file = stages_file(folder, split)
    found: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for line, (film, symbol, stage, x, y, _score) in _rows(file, STAGES_HEADER):
        at = _number(file, line, "x_px", x), _number(file, line, "y_px", y)
        found.setdefault((bare(film), bare(symbol)), []).append((stage, *at))
    return found


def _rows(
    file: Path, columns: Sequence[str] = HEADER, further: Sequence[str] = ()
) -> Iterator[tuple[int, Sequence[str]]]:
    """The number and the cells of each line below the header: of `columns`, and of those `further` ones there are.

    Others may follow. A cell of a further column that the file has not is empty.
    """
    lines = csv.reader(io.StringIO(read_text(file, limit=MAX_BYTES), newline=""), strict=True)
    try:
        header = next(lines, [])
        if header[: len(columns)] != columns:
            raise _wrong(file, 1, f"the header must be {','.join(columns)}")
        places = [header.index(name) if name in header else None for name in further]
        for row in lines:
            if len(row) != len(header):
                raise _wrong(file, lines.line_num, f"{len(row)} values where there must be {len(header)}")
            yield lines.line_num, [*row[: len(columns)], *("" if at is None else row[at] for at in places)]
    except csv.Error as error:
        raise _wrong(file, lines.line_num, f"is not CSV: {error}") from error


def _number(file: Path, line: int, name: str, text: str) -> float:
    """The finite number that a cell holds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(file, line, f"{name} must be a number, not {text[:40]!r}")
    return value


def _wrong(file: Path, line: int, what: str) -> DataError:
    return DataError(f"{file}:{line}: {what}")
