"""held-out.json: what films that did not train a run say of it: how far it errs, how sure it is, how heads lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.strict_json import Field
from ceph.runfolder.place import HELD_OUT
from ceph.runfolder.records import read_object, write_json

Floats = NDArray[np.float64]
FORMAT = 1


@dataclass(frozen=True, eq=False)
class HeldOut:
    """K landmarks of the films of `split`; NaN where these do not say.

    `factors` [K, L] of the levels [L] make radii of difficulties (`evaluation/radius.py`), learned from `films` [K].
    `shape_mm` [K, 2] is the mean head, `size_sd` the deviation of the logarithm of heads' size, and `scores` [K] are
    the usual ones of the decoder (`evaluation/gate.py`), of so many `heads`; 0 where that is not known.
    """

    split: str
    landmarks: tuple[str, ...]
    levels: Floats
    factors: Floats
    films: NDArray[np.int64]
    shape_mm: Floats
    size_sd: float
    scores: Floats
    heads: int


def write_held_out(folder: Path, known: HeldOut) -> None:
    """Write held-out.json, in one move."""
    content = {
        "format": FORMAT,
        "split": known.split,
        "levels": known.levels.round(4).tolist(),
        "heads": known.heads,
        "size_sd": known.size_sd,
        "landmarks": [
            {
                "symbol": symbol,
                "films": int(known.films[k]),
                "factors": known.factors[k].round(4).tolist(),
                "shape_mm": known.shape_mm[k].round(4).tolist(),
                "score": float(known.scores[k].round(4)),
            }
            for k, symbol in enumerate(known.landmarks)
        ],
    }
    write_json(folder / HELD_OUT, content)


def read_held_out(folder: Path) -> HeldOut | None:
    """What held-out.json says; None where there is none, or one of another format. Raises DataError."""
    path = folder / HELD_OUT
    if not path.exists():
        return None
    whole = Field(read_object(path), path)
    if whole["format"].value != FORMAT:
        return None
    levels, listed = _numbers(whole["levels"]), whole["landmarks"].items()
    rows = [_numbers(item["factors"], len(levels)) for item in listed]
    return HeldOut(
        whole["split"].text(),
        tuple(item["symbol"].text() for item in listed),
        levels,
        np.array(rows).reshape(len(listed), len(levels)),
        np.array([int(item["films"].number()) for item in listed], dtype=np.int64),
        np.array([_numbers(item["shape_mm"], 2) for item in listed]).reshape(len(listed), 2),
        _number(whole.get("size_sd")),
        np.array([_number(item.get("score")) for item in listed]),
        int(whole["heads"].number()),
    )


def _number(field: Field | None) -> float:
    return math.nan if field is None or field.value is None else field.number()


def _numbers(field: Field, count: int | None = None) -> Any:
    items = field.items()
    if count is not None and len(items) != count:
        field.fail(f"must hold {count} numbers, not {len(items)}")
    return np.array([_number(item) for item in items], dtype=np.float64)
