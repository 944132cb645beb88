"""The whole check of a data set: every film of it is opened, and everything that is wrong is one finding."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ceph.data.check.copies import find_copies
from ceph.data.check.counts import counts, find_in_counts
from ceph.data.check.exchanged import find_exchanged
from ceph.data.check.findings import Finding, name
from ceph.data.check.looks import Look, look_at
from ceph.data.check.outliers import find_outliers
from ceph.data.check.readers import Disagreement, disagreement, find_copied_readings
from ceph.data.formats.base import DataSet
from ceph.data.grey import FEW_LEVELS
from ceph.data.types import Points, Sample
from ceph.errors import DataError


@dataclass(frozen=True)
class Checked:
    """What a check found; `data` is None where the set could not be read at all."""

    path: str
    data: DataSet | None
    findings: tuple[Finding, ...]
    counts: dict[str, Any] = field(default_factory=dict)
    disagreement: tuple[Disagreement, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What makes training on the set wrong."""
        return tuple(f for f in self.findings if f.level == "error")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        data = self.data
        return {
            "path": self.path,
            "format": data.format if data else None,
            "landmarks": list(data.landmarks) if data else [],
            "readers": list(data.readers) if data else [],
            "counts": self.counts,
            "disagreement": [row.as_dict() for row in self.disagreement],
            "errors": len(self.errors),
            "warnings": len(self.findings) - len(self.errors),
            "findings": [finding.as_dict() for finding in self.findings],
        }


def check(path: str, data: DataSet, outside: Sequence[str] = (), by_run: Points | None = None) -> Checked:
    """Open every film of `data`, of all splits, and find what is wrong.

    `path` is what the set is called, `outside` are the points that were left out in reading (see `outside_noted`),
    `by_run` those that a run found on films that it never saw (see `find_outliers`).
    """
    opened = look_at(data.samples)
    looks = [look if isinstance(look, Look) else None for look in opened]
    found = [
        Finding("unreadable", "error", problem.what + (f"; {problem.hint}" if problem.hint else ""), (sample.id,))
        for sample, look in zip(data.samples, opened, strict=True)
        if isinstance(look, DataError)
        for problem in look.problems
    ]
    found += _dull(data.samples, looks)
    found += _copies(data.samples, looks)
    found += find_in_counts(data, outside)
    found += find_exchanged(data, looks)
    found += find_outliers(data, looks, by_run)
    found += find_copied_readings(data)
    rows, apart = disagreement(data)
    found += apart
    ordered = sorted(found, key=lambda finding: finding.level)  # errors first, each as found
    return Checked(path, data, tuple(ordered), counts(data), tuple(rows))


def unreadable(path: str, error: DataError) -> Checked:
    """The result for a set whose files cannot be read as a set: each problem is a finding."""
    return Checked(path, None, tuple(Finding("unreadable", "error", str(problem)) for problem in error.problems))


@contextmanager
def outside_noted() -> Iterator[list[str]]:
    """Gather the points outside their films while a set is read in the block; what a check finds anew is not logged."""
    noted: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        points = getattr(record, "outside", None)
        if points is None:
            return True
        noted.extend(points)
        return False

    log = logging.getLogger("ceph")
    log.addFilter(keep)
    try:
        yield noted
    finally:
        log.removeFilter(keep)


def _dull(samples: Sequence[Sample], looks: Sequence[Look | None]) -> list[Finding]:
    """Films that show few grey levels."""
    return [
        Finding(
            "grey",
            "warning",
            f"{name(sample)}: shows {look.levels} of 256 grey levels: a border, a marker or the window that it was"
            " saved through took the others; export it again",
            (sample.id,),
        )
        for sample, look in zip(samples, looks, strict=True)
        if look and look.levels < FEW_LEVELS
    ]


def _copies(samples: Sequence[Sample], looks: Sequence[Look | None]) -> list[Finding]:
    found = []
    for copy in find_copies([look.thumb if look else None for look in looks]):
        one, other = samples[copy.first], samples[copy.second]
        across = one.split != other.split
        text = f"{name(one)} and {name(other)} are one film{', mirrored' if copy.mirrored else ''}" + (
            f": what is learned in {one.split} is known in {other.split}" if across else ""
        )
        found.append(Finding("copy", "error" if across else "warning", text, (one.id, other.id)))
    return found
