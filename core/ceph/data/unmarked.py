"""Films that nobody marked, found in a folder: they train beside the marked ones, and must be nobody's test films."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ceph.data.dicom import dicom_spacing, is_dicom
from ceph.data.formats.base import Reader
from ceph.data.formats.film_table import Facts, read_table
from ceph.data.formats.locate import Films
from ceph.data.images import film_size, stem_of
from ceph.data.types import Sample
from ceph.errors import ConfigError, DataError, Problem

SPLIT, KEY = "unmarked", "data.unmarked"
TESTS = ("test", "test1", "test2")
SHOWN = 5  # test films that are named


def read_unmarked(
    folder: Path,
    shape: tuple[int, int],
    usual: Callable[[tuple[int, int]], float],
    readers: Sequence[Reader],
    mm_per_px: float | None = None,
) -> tuple[Sample, ...]:
    """All films below `folder`, without points: NaN [R, K, 2] of this `shape` (R, K).

    A folder in a known layout tells splits, groups, spacings and labels of its films, and so does a table of films;
    `mm_per_px` overrides these, as where a set is read. A film of which nobody knows it has `usual` of its size (H, W).
    Raises ConfigError where there is no such folder or film; DataError where a film cannot be opened or is a test film.
    """
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise ConfigError(f"{folder} is no folder", key=KEY, hint="name a folder of films")
    reader = next((reader for reader in readers if reader.matches(root)), None)
    known = {s.path: s for s in reader.read(root, mm_per_px=mm_per_px).samples} if reader else {}
    table, paths = read_table(root), Films(root).paths
    if not paths:
        raise ConfigError(f"{root} holds no film", key=KEY, hint="name a folder of films")
    samples = tuple(_sample(root, path, shape, usual, known.get(path), table, mm_per_px) for path in paths)
    split = {
        s.path: known[s.path].split if s.path in known else table.get(stem_of(s.path), Facts()).split for s in samples
    }
    refuse([(str(s.path), f"of the split {split[s.path]}") for s in samples if split[s.path] in TESTS])
    return samples


def refuse_equal(samples: Sequence[Sample], digests: Sequence[str], tests: Mapping[str, Sample]) -> None:
    """Raise DataError for unmarked films that are, byte for byte, films of a test split: `tests` by their digests."""
    equal = [(sample, tests[digest]) for sample, digest in zip(samples, digests, strict=True) if digest in tests]
    refuse([(str(sample.path), f"{test.path}, of the split {test.split}") for sample, test in equal])


def refuse(films: Sequence[tuple[str, str]]) -> None:
    """Raise DataError naming these films, each with what it is."""
    if films:
        hint = "take it out of the folder: what is learned of a test film makes its score say too much"
        problems = [Problem(f"the unmarked film {film} is {what}", KEY, hint=hint) for film, what in films[:SHOWN]]
        more = [Problem(f"and {len(films) - SHOWN} more", KEY)] if len(films) > SHOWN else []
        raise DataError([*problems, *more])


def _sample(
    root: Path,
    path: Path,
    shape: tuple[int, int],
    usual: Callable[[tuple[int, int]], float],
    known: Sample | None,
    table: Mapping[str, Facts],
    given: float | None,
) -> Sample:
    told, size = table.get(stem_of(path), Facts()), film_size(path)
    mm_per_px, source = (known.mm_per_px, known.spacing_source) if known else (given or told.mm_per_px, told.source)
    if mm_per_px is None and is_dicom(path):
        mm_per_px, source, _ = dicom_spacing(path)
    if mm_per_px is None:
        mm_per_px, source = usual(size), "as most training films"
    name = path.relative_to(root).with_name(stem_of(path)).as_posix()
    return Sample(
        id=name,
        split=SPLIT,
        group=known.group if known else told.group or name,
        machine=known.machine if known else told.machine,
        size=size,
        mm_per_px=mm_per_px,
        points=np.full((*shape, 2), np.nan),
        valid=np.zeros(shape, dtype=bool),
        path=path,
        spacing_source=source,
        set=SPLIT,
        labels=known.labels if known else {},
    )
