"""How far the runs of a folder of several are apart on a film: where they agree, a point needs no reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ceph.data.types import Points
from ceph.errors import ConfigError, DataError
from ceph.report.predictions import FilmPoints
from ceph.run.predictions import NamedFilm
from ceph.run.trained import Trained

Floats = NDArray[np.float64]


def require_members(trained: Trained, key: str) -> None:
    """Raise ConfigError, about the option `key`, for a run that is one alone."""
    if not trained.members:
        hint = "name a folder of several runs: ceph folds, or ceph ensemble, makes one"
        raise ConfigError(f"{trained.folder} is one run, which agrees with itself", key=key, hint=hint)


def farthest_px(
    trained: Trained, films: Sequence[Path], mm_per_px: Sequence[float | None], points_px: Points
) -> Floats:
    """How far the farthest member's point is from each of `points_px` [N, K, 2], in film px: [N, K].

    NaN for a landmark that fewer than two members know. Raises DataError for a film that cannot be read.
    """
    apart = np.full((len(trained.members), *points_px.shape[:2]), np.nan)
    for row, member in enumerate(trained.members):
        found = member.found_on(films, mm_per_px).points_px
        for k, symbol in enumerate(trained.landmarks):
            if symbol in member.landmarks:
                off = found[:, member.landmarks.index(symbol)] - points_px[:, k]
                apart[row, :, k] = np.linalg.norm(off, axis=-1)
    known = np.isfinite(apart).sum(axis=0) > 1
    return np.where(known, np.where(np.isfinite(apart), apart, 0.0).max(axis=0), np.nan)


def agreed(
    trained: Trained, part: Sequence[tuple[NamedFilm, FilmPoints | DataError]], within_mm: float
) -> list[tuple[NamedFilm, FilmPoints | DataError]]:
    """What was found on films, with the points marked on which all runs agree within so many mm.

    There are none on films of unknown spacing, nor on those that are not as usual.
    """
    near: dict[NamedFilm, NDArray[np.bool_]] = {}
    found = [(film, what) for film, what in part if isinstance(what, FilmPoints) and not what.wrong and not what.turned]
    if found:
        films, points_px = [film for film, _ in found], np.stack([what.points_px for _, what in found])
        spacings = [film.mm_per_px for film in films]
        apart_px = farthest_px(trained, [film.path for film in films], spacings, points_px)
        mm = np.array([spacing or np.nan for spacing in spacings])
        near = dict(zip(films, apart_px * mm[:, None] <= within_mm, strict=True))  # NaN compares false
    none = np.zeros(len(trained.landmarks), dtype=bool)
    return [(f, replace(w, agreed=near.get(f, none)) if isinstance(w, FilmPoints) else w) for f, w in part]
