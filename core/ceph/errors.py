"""What went wrong, where, and what to do: every error a person sees, and how it prints."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

# PyTorch's allocators, cuBLAS, oneDNN, OpenCV, Pillow and C++ each say it in their own words, mostly in a RuntimeError.
_MEMORY = re.compile(
    r"MemoryError|out of memory|can't allocate memory|not enough memory|cannot allocate memory|insufficient memory"
    r"|bad_alloc|ALLOC_FAILED|unable to mmap|could not create a primitive$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, order=True)
class Place:
    """A place in a text that the user wrote; `line` and `column` count from 1, `text` is the whole line."""

    file: str
    line: int
    column: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: at which key, in which place, and what to do about it."""

    what: str
    key: str = ""
    place: Place | None = None
    hint: str = ""

    def __str__(self) -> str:
        where = ": ".join(part for part in (str(self.place) if self.place else "", self.key) if part)
        lines = [f"{where}: {self.what}" if where else self.what]
        if self.place and self.place.text:
            margin = f"{self.place.line:>5} | "
            lines += [
                f"{margin}{self.place.text}",
                " " * (len(margin) - 2) + "| " + " " * (self.place.column - 1) + "^",
            ]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class CephError(Exception):
    """Base of all errors meant for a person; prints one block a problem, never a traceback."""

    exit_code: ClassVar[int] = 1
    told: bool | None = None  # of several processes of a job, whether another one tells it; None: nobody was asked

    def __init__(
        self, what: str | Sequence[Problem], *, key: str = "", place: Place | None = None, hint: str = ""
    ) -> None:
        self.problems = (Problem(what, key, place, hint),) if isinstance(what, str) else tuple(what)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[CephError], tuple[tuple[Problem, ...]]]:
        # Errors cross from loader workers to the main process: keep the problems, not only the text.
        return type(self), (self.problems,)


class ConfigError(CephError):
    """The config or the call is wrong; raised before anything is written."""

    exit_code = 2


class DataError(CephError):
    """A data set, a film or an annotation is wrong; names the file."""

    exit_code = 2


class CheckpointError(CephError):
    """A checkpoint is missing, damaged, or does not fit the run."""


class PluginError(CephError):
    """A plugin failed or broke its contract; names the plugin, its version and the hook."""


class TrainingError(CephError):
    """Training cannot go on (a loss that is not finite, a device out of memory)."""


class Interrupted(CephError):
    """A signal stopped the run after its checkpoint was written; `signal` + 128 is the exit code."""

    def __init__(self, what: str | Sequence[Problem], *, signal: int = 2, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.signal = signal


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a device or the host."""
    return isinstance(error, MemoryError) or bool(_MEMORY.search(f"{type(error).__name__}: {error}"))


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean 'x'?` for the most similar of the valid names, or a list of them all if none is similar."""
    valid = sorted(names)
    by_lower = {v.lower(): v for v in valid}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{by_lower[close[0]]}'?"
    return f"valid: {', '.join(valid)}" if valid else ""
