"""Which fold each film is of: what belongs together is held out together, and the same films always give the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ceph.data.plan import derive
from ceph.data.types import Sample
from ceph.errors import DataError
from ceph.evaluation.statistics import units_of

GROUP = "group"
FOLDED = ("train", "validation")  # the splits that are divided anew


def folds_of(samples: Sequence[Sample], digests: Sequence[str], by: str, count: int | None = None) -> NDArray[np.int64]:
    """The fold [N] of each film, from 0; films of one group, or equal byte for byte (`digests`), are in one.

    By `group` there are `count` folds, as equal as groups allow, whatever the order of the films. By `machine` or `set`
    each is a fold, in the order of their names; two that share a film are one. Raises DataError where the films do not
    come to `count` folds (None: to two), or do not say their machine.
    """
    labels = [{("group", s.group), ("pixels", d)} for s, d in zip(samples, digests, strict=True)]
    if by == GROUP:
        units, names = units_of(labels), [str(derive("fold", s.id)) for s in samples]  # a lot that is drawn once
    else:
        names = [getattr(sample, by) for sample in samples]
        if unknown := [s.id for s, name in zip(samples, names, strict=True) if not name]:
            hint = "list several sets in data.path" if by == "set" else "ceph-films.csv has a column for it"
            what = f"{len(unknown)} of {len(samples)} films do not say their {by}, {unknown[0]} among them"
            raise DataError(what, key="data.fold.by", hint=hint)
        units = units_of([{*own, (by, name)} for own, name in zip(labels, names, strict=True)])
    first = [min(names[i] for i in np.flatnonzero(units == unit)) for unit in range(units.max() + 1)]
    there, wanted = len(first), count or 2
    if there < wanted or (by != GROUP and count not in (None, there)):
        what = f"{len(samples)} films of {there} {by}{'s' if there > 1 else ''} do not make {wanted} folds"
        raise DataError(what, key="data.fold.of", hint="ask for fewer folds, or add films" if by == GROUP else "")
    return _dealt(units, first, wanted) if by == GROUP else np.argsort(np.argsort(first))[units]


def _dealt(units: NDArray[np.int64], lots: Sequence[str], count: int) -> NDArray[np.int64]:
    """Give each unit to the smallest fold, the largest units first, equal ones by lot."""
    films = np.bincount(units)
    of_unit, sizes = np.zeros(len(films), np.int64), np.zeros(count, np.int64)
    for unit in sorted(range(len(films)), key=lambda u: (-films[u], lots[u])):
        of_unit[unit] = sizes.argmin()
        sizes[of_unit[unit]] += films[unit]
    return of_unit[units]
