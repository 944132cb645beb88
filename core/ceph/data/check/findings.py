"""What a check finds: one `Finding` for each thing that is wrong, or may be, in a film or in the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ceph.data.types import Sample

Level = Literal["error", "warning"]
SHOWN = 8  # films that one text lists


@dataclass(frozen=True)
class Finding:
    """One thing: `kind` names it for a program, `text` for a person; an `error` makes training on the set wrong.

    `films` are the ids that it names, `landmarks` the symbols; `mm` is how far off, where that is what is wrong.
    """

    kind: str
    level: Level
    text: str
    films: tuple[str, ...] = ()
    landmarks: tuple[str, ...] = ()
    mm: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def name(sample: Sample) -> str:
    """How a film is called: its id and its split."""
    return f"{sample.id} ({sample.split})"


def listed(samples: Sequence[Sample]) -> str:
    """The names of films, the first few of them."""
    names = ", ".join(name(sample) for sample in samples[:SHOWN])
    return names + (f" and {len(samples) - SHOWN} more" if len(samples) > SHOWN else "")
