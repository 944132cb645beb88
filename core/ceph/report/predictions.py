"""Predicted points of films without truth as JSON, CSV or COCO keypoints."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.names import guarded, shown

FORMATS = ("json", "csv", "coco")
COLUMNS = ("film", "symbol", "x_px", "y_px", "score", "x_mm", "y_mm")


@dataclass(frozen=True, eq=False)
class FilmPoints:
    """The points found on one film.

    `film` is its path as it was given, `size` (H, W) in px, `points_px` [K, 2] (x, y) in its pixels with the centre of
    the first pixel at (0, 0), `scores` [K] 0..1 as the run's stations give them, `mm_per_px` None where it is unknown;
    `assumed_mm_per_px` is what a look at the film took it to be instead.
    """

    film: str
    size: tuple[int, int]
    mm_per_px: float | None
    points_px: NDArray[np.float64]
    scores: NDArray[np.float64]
    assumed_mm_per_px: float | None = None


def render(
    kind: str, films: Sequence[FilmPoints], landmarks: Sequence[str], run: str, broken: Mapping[str, str]
) -> str:
    """The whole text of a file of the kind `json`, `csv` or `coco`; `broken` are films that were not read, and why."""
    films = [replace(film, film=shown(film.film)) for film in films]
    if kind == "csv":
        return as_csv(films, landmarks)
    broken = {shown(film): shown(why) for film, why in broken.items()}
    content = as_coco(films, landmarks) if kind == "coco" else as_json(films, landmarks, run, broken)
    return json_lines(content)


def json_lines(content: Mapping[str, Any]) -> str:
    """JSON with each key of an object, and each element of its lists of objects, on a line of its own."""

    def line(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n  " + ",\n  ".join(map(line, value)) + "\n ]"
        return json.dumps(value, ensure_ascii=False)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {line(value)}" for key, value in content.items()) + "\n}\n"


def as_json(
    films: Sequence[FilmPoints], landmarks: Sequence[str], run: str, broken: Mapping[str, str]
) -> dict[str, Any]:
    """Films with their points by symbol; mm are null where the film's spacing is unknown."""
    return {
        "run": run,
        "landmarks": list(landmarks),
        "films": [
            {
                "film": film.film,
                "width_px": film.size[1],
                "height_px": film.size[0],
                "mm_per_px": film.mm_per_px,
                **({} if film.assumed_mm_per_px is None else {"assumed_mm_per_px": film.assumed_mm_per_px}),
                "points": {
                    symbol: {"x_px": x, "y_px": y, "x_mm": x_mm, "y_mm": y_mm, "score": score}
                    for symbol, x, y, score, x_mm, y_mm in rows(film, landmarks)
                },
            }
            for film in films
        ],
        "not_read": [{"film": film, "why": why} for film, why in broken.items()],
    }


def as_csv(films: Sequence[FilmPoints], landmarks: Sequence[str]) -> str:
    """A line a point; mm are empty where the film's spacing is unknown.

    Where a look at a film took a spacing for it there is a further column, `assumed_mm_per_px`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    assumed = any(film.assumed_mm_per_px is not None for film in films)
    writer.writerow([*COLUMNS, "assumed_mm_per_px"] if assumed else COLUMNS)
    for film in films:
        for row in rows(film, landmarks):
            values = [film.film, *row, film.assumed_mm_per_px] if assumed else [film.film, *row]
            writer.writerow("" if value is None else guarded(value) for value in values)
    return text.getvalue()


def as_coco(films: Sequence[FilmPoints], landmarks: Sequence[str]) -> dict[str, Any]:
    """COCO keypoints, an annotation a film; `spacing` is the film's mm per px, left out where unknown."""
    images, annotations = [], []
    for number, film in enumerate(films, 1):
        image = {"id": number, "file_name": film.film, "width": film.size[1], "height": film.size[0]}
        spacings = {"spacing": film.mm_per_px, "assumed_spacing": film.assumed_mm_per_px}
        images.append({**image, **{name: mm for name, mm in spacings.items() if mm is not None}})
        found = rows(film, landmarks)
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "keypoints": [value for _, x, y, *_ in found for value in (x, y, 2)],
                "num_keypoints": len(found),
                "keypoint_scores": [score for _, _, _, score, *_ in found],
                "score": round(float(film.scores.mean()), 4),
            }
        )
    category = {"id": 1, "name": "cephalogram", "keypoints": list(landmarks), "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}


Row = tuple[str, float, float, float, float | None, float | None]


def rows(film: FilmPoints, landmarks: Sequence[str]) -> list[Row]:
    """Symbol, x and y in px, score, x and y in mm (None: unknown), of each landmark."""
    mm = film.mm_per_px
    return [
        (
            symbol,
            round(float(x), 3),
            round(float(y), 3),
            round(float(score), 4),
            None if mm is None else round(float(x) * mm, 3),
            None if mm is None else round(float(y) * mm, 3),
        )
        for symbol, (x, y), score in zip(landmarks, film.points_px, film.scores, strict=True)
    ]
