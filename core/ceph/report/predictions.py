"""Predicted points of films without truth as JSON, CSV or COCO keypoints."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.names import guarded, shown

COLUMNS = ("film", "symbol", "x_px", "y_px", "score", "x_mm", "y_mm")
FURTHER = ("assumed_mm_per_px", "radius_px", "radius_mm", "wrong", "turned")


@dataclass(frozen=True, eq=False)
class FilmPoints:
    """The points found on one film.

    `film` is its path as it was given, `size` (H, W) in px, `points_px` [K, 2] (x, y) in its pixels with the centre of
    the first pixel at (0, 0), `scores` [K] 0..1 as the run's stations give them, `mm_per_px` None where it is unknown;
    `assumed_mm_per_px` is what a look at the film took it to be instead. `radii_px` [K] are the radii within which the
    truth lies so often (NaN: of a landmark that no radius is known of; None: of none), `wrong` is why the film is no
    whole lateral cephalogram as the run knows them, `turned` how it lay that was put right before it was read.
    """

    film: str
    size: tuple[int, int]
    mm_per_px: float | None
    points_px: NDArray[np.float64]
    scores: NDArray[np.float64]
    assumed_mm_per_px: float | None = None
    radii_px: NDArray[np.float64] | None = None
    wrong: str = ""
    turned: str = ""


Films = Callable[[], Iterable[FilmPoints]]  # each call goes through all of them once more


def render(
    kind: str, films: Sequence[FilmPoints], landmarks: Sequence[str], run: str, broken: Mapping[str, str]
) -> str:
    """The whole text of a file of the kind `json`, `csv` or `coco`; `broken` are films that were not read, and why."""
    return "".join(pieces(kind, lambda: films, landmarks, run, broken.items()))


def pieces(
    kind: str, films: Films, landmarks: Sequence[str], run: str, broken: Iterable[tuple[str, str]]
) -> Iterator[str]:
    """The text that `render` gives, a piece at a time, so that no more than a film is held."""

    def named() -> Iterator[FilmPoints]:
        return (replace(film, film=shown(film.film)) for film in films())

    if kind == "csv":
        return csv_lines(named, landmarks)
    if kind == "coco":
        return json_lines(as_coco(named, landmarks))
    return json_lines(as_json(named, landmarks, run, broken))


def json_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """JSON, a piece at a time: each key of an object, and each element of what is an iterator, on a line of its own."""
    for n, (key, value) in enumerate(content.items()):
        yield f"{',' if n else '{'}\n {json.dumps(key)}: "
        if isinstance(value, Iterator):
            some = False
            for one in value:
                yield f"{',' if some else '['}\n  {json.dumps(one, ensure_ascii=False)}"
                some = True
            yield "\n ]" if some else "[]"
        else:
            yield json.dumps(value, ensure_ascii=False)
    yield "\n}\n"


def as_json(films: Films, landmarks: Sequence[str], run: str, broken: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Films with their points by symbol; mm are null where the film's spacing is unknown."""
    return {
        "run": run,
        "landmarks": list(landmarks),
        "films": (
            {
                "film": film.film,
                "width_px": film.size[1],
                "height_px": film.size[0],
                "mm_per_px": film.mm_per_px,
                **({} if film.assumed_mm_per_px is None else {"assumed_mm_per_px": film.assumed_mm_per_px}),
                **said_of(film),
                "points": {
                    symbol: {"x_px": x, "y_px": y, "x_mm": x_mm, "y_mm": y_mm, "score": score, **radius}
                    for (symbol, x, y, score, x_mm, y_mm), radius in zip(
                        rows(film, landmarks), radii(film), strict=True
                    )
                },
            }
            for film in films()
        ),
        "not_read": ({"film": shown(film), "why": shown(why)} for film, why in broken),
    }


def csv_lines(films: Films, landmarks: Sequence[str]) -> Iterator[str]:
    """A line a point; mm are empty where the film's spacing is unknown.

    There are further columns where any film has something to say in them: `assumed_mm_per_px`, where a look at a film
    took a spacing for it, `radius_px` and `radius_mm`, `wrong` and `turned`.
    """
    more: dict[str, None] = {}
    for film in films():
        more |= dict.fromkeys(column for row in further(film) for column, value in row.items() if value is not None)
    columns = [name for name in FURTHER if name in more]
    yield csv_text([[*COLUMNS, *columns]])
    for film in films():
        found = (
            [film.film, *row, *(last[name] for name in columns)]
            for row, last in zip(rows(film, landmarks), further(film), strict=True)
        )
        yield csv_text(["" if value is None else guarded(value) for value in values] for values in found)


def csv_text(lines: Iterable[Iterable[Any]]) -> str:
    """Lines of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def as_coco(films: Films, landmarks: Sequence[str]) -> dict[str, Any]:
    """COCO keypoints, an annotation a film; `spacing` is the film's mm per px, left out where unknown."""
    category = {"id": 1, "name": "cephalogram", "keypoints": list(landmarks), "skeleton": []}
    return {
        "images": (_coco_image(number, film) for number, film in enumerate(films(), 1)),
        "annotations": (_coco_annotation(number, film, landmarks) for number, film in enumerate(films(), 1)),
        "categories": [category],
    }


def _coco_image(number: int, film: FilmPoints) -> dict[str, Any]:
    image = {"id": number, "file_name": film.film, "width": film.size[1], "height": film.size[0]}
    spacings = {"spacing": film.mm_per_px, "assumed_spacing": film.assumed_mm_per_px}
    return {**image, **{name: mm for name, mm in spacings.items() if mm is not None}, **said_of(film)}


def _coco_annotation(number: int, film: FilmPoints, landmarks: Sequence[str]) -> dict[str, Any]:
    found = rows(film, landmarks)
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "keypoints": [value for _, x, y, *_ in found for value in (x, y, 2)],
        "num_keypoints": len(found),
        "keypoint_scores": [score for _, _, _, score, *_ in found],
        **({} if film.radii_px is None else {"keypoint_radii_px": [row["radius_px"] for row in radii(film)]}),
        "score": round(float(film.scores.mean()), 4),
    }


def said_of(film: FilmPoints) -> dict[str, str]:
    """What is said of a film as a whole: `wrong` and `turned`, where there is something to say."""
    return {name: shown(text) for name, text in (("wrong", film.wrong), ("turned", film.turned)) if text}


def radii(film: FilmPoints) -> list[dict[str, float | None]]:
    """`radius_px` and `radius_mm` of each landmark, None where unknown; nothing where none is known."""
    if film.radii_px is None:
        return [{} for _ in film.scores]
    known = [None if np.isnan(px) else float(px) for px in film.radii_px]
    mm = film.mm_per_px
    return [
        {
            "radius_px": None if px is None else round(px, 2),
            "radius_mm": None if px is None or mm is None else round(px * mm, 2),
        }
        for px in known
    ]


def further(film: FilmPoints) -> list[dict[str, Any]]:
    """The further columns of each landmark's line, None where there is nothing to say."""
    film_s = {"assumed_mm_per_px": film.assumed_mm_per_px, **said_of(film)}
    return [{**dict.fromkeys(FURTHER), **film_s, **radius} for radius in radii(film)]


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
