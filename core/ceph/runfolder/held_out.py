"""held-out.json: what films that did not train a run say of it: how far it errs, how sure it is, how heads lie."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.strict_json import Field
from ceph.runfolder.place import HELD_OUT
from ceph.runfolder.records import finite, read_object, write_text

Floats = NDArray[np.float64]
FORMAT = 2  # 1: scores had no part in difficulties


@dataclass(frozen=True, eq=False)
class HeldOut:
    """K landmarks of the films of `split`; NaN where these do not say.

    `factors` [K, L] of the levels [L] make radii of difficulties (`evaluation/radius.py`), learned from `films` [K].
    `shape_mm` [K, 2] is the mean head, `covariance` [2 K, 2 K] that of heads about it (`evaluation/difficulty.py`),
    `size_sd` the deviation of the logarithm of their size, `scores` [K] the decoder's usual ones
    (`evaluation/gate.py`).
    """

    split: str
    landmarks: tuple[str, ...]
    levels: Floats
    factors: Floats
    films: NDArray[np.int64]
    shape_mm: Floats
    covariance: Floats
    size_sd: float
    scores: Floats


def write_held_out(folder: Path, known: HeldOut) -> None:
    """Write held-out.json, in one move."""
    content = {
        "format": FORMAT,
        "split": known.split,
        "levels": known.levels.round(4).tolist(),
        "size_sd": known.size_sd,
        "landmarks": [
            {
                "symbol": symbol,
                "films": int(known.films[k]),
                "factors": known.factors[k].round(4).tolist(),
                "shape_mm": known.shape_mm[k].round(4).tolist(),
                "score": float(known.scores[k].round(4)),
                "covariance_mm2": known.covariance[2 * k : 2 * k + 2].round(4).tolist(),
            }
            for k, symbol in enumerate(known.landmarks)
        ],
    }
    write_text(folder / HELD_OUT, json.dumps(finite(content), ensure_ascii=False) + "\n")


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
    pairs = [_numbers(row, 2 * len(listed)) for item in listed for row in item["covariance_mm2"].items()]
    return HeldOut(
        whole["split"].text(),
        tuple(item["symbol"].text() for item in listed),
        levels,
        np.array(rows).reshape(len(listed), len(levels)),
        np.array([int(item["films"].number()) for item in listed], dtype=np.int64),
        np.array([_numbers(item["shape_mm"], 2) for item in listed]).reshape(len(listed), 2),
        np.array(pairs).reshape(2 * len(listed), 2 * len(listed)),
        _number(whole.get("size_sd")),
        np.array([_number(item.get("score")) for item in listed]),
    )


def _number(field: Field | None) -> float:
    return math.nan if field is None or field.value is None else field.number()


def _numbers(field: Field, count: int | None = None) -> Any:
    items = field.items()
    if count is not None and len(items) != count:
        field.fail(f"must hold {count} numbers, not {len(items)}")
    return np.array([_number(item) for item in items], dtype=np.float64)
