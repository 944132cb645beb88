"""Predicted points of films without truth as JSON, CSV, and in the formats of tools for marking films."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.formats.coco import Coco
from ceph.data.formats.cvat import Cvat
from ceph.data.formats.film_table import Facts
from ceph.data.formats.labelme import SUFFIX, LabelMe
from ceph.data.formats.labelstudio import LabelStudio
from ceph.data.formats.records import PREDICTED
from ceph.data.formats.written import Document, Documents, Written, json_lines
from ceph.data.names import guarded, shown

COLUMNS = ("film", "symbol", "x_px", "y_px", "score", "x_mm", "y_mm")
FURTHER = ("assumed_mm_per_px", "radius_px", "radius_mm", "presence", "wrong", "turned", "split", "mm_per_px")
TRAIN = "train"  # the split of a film whose agreed points are kept


@dataclass(frozen=True, eq=False)
class FilmPoints:
    """The points found on one film.

    `film` is its path as it was given, `size` (H, W) in px, `points_px` [K, 2] (x, y) in its pixels with the centre of
    the first pixel at (0, 0), `scores` [K] 0..1 as the run's stations give them, `mm_per_px` None where it is unknown;
    `assumed_mm_per_px` is what a look at the film took it to be instead. `name` is the film's path below the folder
    that was given. `radii_px` [K] are the radii within which the truth lies so often (NaN: of a landmark that no
    radius is known of; None: of none), `wrong` is why the film is no whole lateral cephalogram as the run knows them,
    `turned` how it lay that was put right before it was read. `presence` [K], 0..1, is how sure the run is that the
    landmarks are on the film at all (None: it has no such head). `agreed` [K] are the points that are kept, on
    which the members of a folder of several agree (None: all are).
    """

    film: str
    size: tuple[int, int]
    mm_per_px: float | None
    points_px: NDArray[np.float64]
    scores: NDArray[np.float64]
    assumed_mm_per_px: float | None = None
    name: str = ""
    radii_px: NDArray[np.float64] | None = None
    wrong: str = ""
    turned: str = ""
    presence: NDArray[np.float64] | None = None
    agreed: NDArray[np.bool_] | None = None


Films = Callable[[], Iterable[FilmPoints]]  # each call goes through all of them once more
DOCUMENTS: Mapping[str, Documents] = {"coco": Coco(), "labelstudio": LabelStudio(), "cvat": Cvat()}


@dataclass(frozen=True)
class Source:
    """Whose points they are: the `run` as it was named, its `landmarks`, and the `model`, a name with its version."""

    run: str
    landmarks: Sequence[str]
    model: str = ""


def render(
    kind: str, films: Sequence[FilmPoints], landmarks: Sequence[str], run: str, broken: Mapping[str, str]
) -> str:
    """The whole text of a file: json, csv or one of DOCUMENTS; `broken` are films that were not read, and why."""
    return "".join(pieces(kind, lambda: films, Source(run, landmarks, run), broken.items()))


def pieces(kind: str, films: Films, source: Source, broken: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The text that `render` gives, a piece at a time, so that no more than a film is held."""

    def named() -> Iterator[FilmPoints]:
        return (replace(film, film=shown(film.film), name=shown(film.name)) for film in films())

    if kind == "csv":
        return csv_lines(named, source.landmarks)
    if kind == "json":
        return json_lines(as_json(named, source, broken))

    def called(film: FilmPoints) -> str:  # CVAT calls a film as it was uploaded
        return film.name if kind == "cvat" and film.name else film.film

    return DOCUMENTS[kind].text(document(source, lambda: (written(film, source, called(film)) for film in named())))


def pages(films: Films, source: Source, folder: Path) -> Iterator[tuple[Path, Callable[[], str]]]:
    """LabelMe's file of each film below `folder`, and what gives its text."""
    for film in films():
        place = page_of(folder, film.name)
        name = shown(Path(os.path.relpath(film.film, place.parent)).as_posix())
        yield place, partial(LabelMe().page, written(film, source, name), document(source, tuple))


def page_of(folder: Path, name: str) -> Path:
    """Where LabelMe's file of the film called `name` is below `folder`."""
    return (folder / name).with_suffix(SUFFIX)


def document(source: Source, films: Callable[[], Iterable[Written]]) -> Document:
    """Films with a model's points, for whoever writes a format."""
    return Document(source.landmarks, [PREDICTED], films, source.model)


def written(film: FilmPoints, source: Source, name: str) -> Written:
    """A film with a model's points, as whoever writes a format is given it."""
    keep = np.ones(len(film.scores), dtype=bool) if film.agreed is None else film.agreed
    found = [row for row, kept in zip(rows(film, source.landmarks), keep, strict=True) if kept]
    said = [of_point for of_point, kept in zip(beside(film), keep, strict=True) if kept]
    split = "" if film.agreed is None else TRAIN
    return Written(
        name,
        film.size,
        {PREDICTED: {symbol: (x, y) for symbol, x, y, *_ in found}},
        Facts(split=split, mm_per_px=film.mm_per_px, source="given to ceph predict"),
        {
            symbol: {"score": score, **{name: value for name, value in radius.items() if value is not None}}
            for (symbol, _, _, score, *_), radius in zip(found, said, strict=True)
        },
        {**({} if film.assumed_mm_per_px is None else {"assumed_spacing": film.assumed_mm_per_px}), **said_of(film)},
    )


def as_json(films: Films, source: Source, broken: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Films with their points by symbol; mm are null where the film's spacing is unknown."""
    return {
        "run": source.run,
        "landmarks": list(source.landmarks),
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
                        rows(film, source.landmarks), beside(film), strict=True
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
    took a spacing for it, `radius_px` and `radius_mm`, `presence`, `wrong` and `turned`; and `split` and
    `mm_per_px` where only agreed points are kept, with which the file is a set that trains.
    """
    more: dict[str, None] = {}
    for film in films():
        more |= dict.fromkeys(column for row in further(film) for column, value in row.items() if value is not None)
    columns = [name for name in FURTHER if name in more]
    yield csv_text([[*COLUMNS, *columns]])
    for film in films():
        keep = [True] * len(landmarks) if film.agreed is None else film.agreed
        found = (
            [film.film, *row, *(last[name] for name in columns)]
            for row, last, kept in zip(rows(film, landmarks), further(film), keep, strict=True)
            if kept
        )
        yield csv_text(["" if value is None else guarded(value) for value in values] for values in found)


def csv_text(lines: Iterable[Iterable[Any]]) -> str:
    """Lines of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


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


def beside(film: FilmPoints) -> list[dict[str, float | None]]:
    """What is said of each landmark beside its point and score: its radii and its presence, where these are known."""
    said: list[dict[str, float | None]] = [{} for _ in film.scores]
    if film.presence is not None:
        said = [{"presence": round(float(presence), 4)} for presence in film.presence]
    return [{**radius, **more} for radius, more in zip(radii(film), said, strict=True)]


def further(film: FilmPoints) -> list[dict[str, Any]]:
    """The further columns of each landmark's line, None where there is nothing to say."""
    trains = {} if film.agreed is None else {"split": TRAIN, "mm_per_px": film.mm_per_px}
    film_s = {"assumed_mm_per_px": film.assumed_mm_per_px, **said_of(film), **trains}
    return [{**dict.fromkeys(FURTHER), **film_s, **of_point} for of_point in beside(film)]


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
