"""What a writer is given: films with their points, people's or a model's, one at a time, so that no set is held."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ceph.data.formats.base import DataSet
from ceph.data.formats.film_table import Facts, absent_of
from ceph.data.formats.records import Marks, marks_of
from ceph.data.types import Sample


@dataclass(frozen=True)
class Written:
    """A film as a document of annotations holds it: the counterpart of `records.Film`.

    `name` is what the document calls its file, `size` (H, W); `marks` are the points of each reader in film px.
    `found` is what a model says of a point beside its place, by symbol: `score`, radii. `notes` are of the film.
    """

    name: str
    size: tuple[int, int]
    marks: Mapping[str, Marks]
    facts: Facts = field(default_factory=Facts)
    found: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """The mean of the points' scores; None where people marked them."""
        scores = [values["score"] for values in self.found.values()]
        return round(sum(scores) / len(scores), 4) if scores else None


@dataclass(frozen=True)
class Document:
    """What one document holds; `films` goes through them, once more at each call.

    `model` names the model that found the points, with its version; empty where people marked them.
    """

    landmarks: Sequence[str]
    readers: Sequence[str]
    films: Callable[[], Iterable[Written]]
    model: str = ""


class Documents(Protocol):
    """A format that holds any number of films in one document."""

    def text(self, document: Document) -> Iterator[str]:
        """The document, a piece at a time."""
        ...


def document_of(data: DataSet, samples: Sequence[Sample], names: Mapping[str, str]) -> Document:
    """Those `samples` of a set as a document, in which their files have these `names`, by id."""
    return Document(data.landmarks, data.readers, lambda: (written(data, each, names[each.id]) for each in samples))


def written(data: DataSet, sample: Sample, name: str) -> Written:
    """A sample of a set as a writer is given it."""
    marks = {reader: marks_of(sample, row, data.landmarks) for row, reader in enumerate(data.readers)}
    known = sample.split, sample.group, sample.machine, sample.mm_per_px, sample.spacing_source
    facts = Facts("", *known, absent_of(sample, data.landmarks))
    return Written(name, sample.size, marks, facts)


def json_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """A JSON object, a piece at a time: each key, and each element of what is an iterator, on a line of its own."""
    for n, (key, value) in enumerate(content.items()):
        yield f"{',' if n else '{'}\n {json.dumps(key)}: "
        if isinstance(value, Iterator):
            yield from json_list(value)
        else:
            yield json.dumps(value, ensure_ascii=False)
    yield "\n}\n"


def json_list(values: Iterable[Any]) -> Iterator[str]:
    """A JSON list, a piece at a time, each element on a line of its own."""
    some = False
    for value in values:
        yield f"{',' if some else '['}\n  {json.dumps(value, ensure_ascii=False)}"
        some = True
    yield "\n ]" if some else "[]"
