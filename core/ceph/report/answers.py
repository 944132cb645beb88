"""What a call of `ceph predict` has found so far, a line a film, in a file with which the same call goes on."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ceph.files import appending
from ceph.report.predictions import FilmPoints

Why = list[list[str]]  # a film was not read: what is wrong with it, and a hint, of each problem
Found = FilmPoints | Why
FIELDS = [field.name for field in fields(FilmPoints)]


class Answers:
    """The answers to a call, by film, in the file at `path` (None: one without a name, gone with the process).

    Its first line says which `call` it answers: of another one nothing is taken over (`other`); else every whole line
    is (`kept` films), and half a line, of a process that was killed, is cut off. A film's `state` is what its answer
    depends on: what was found on a film in another state is forgotten. Raises OSError.
    """

    def __init__(self, path: Path | None, call: Mapping[str, Any]) -> None:
        self.path, self.lasting = path or Path(tempfile.gettempdir()), path is not None
        self._file: BinaryIO = appending(path, reading=True) if path else tempfile.TemporaryFile()  # noqa: SIM115
        self._places: dict[str, tuple[int, str]] = {}  # of each film: where its line begins, and its state
        head = json.dumps({"ceph predict": call, "fields": FIELDS}).encode() + b"\n"
        end = self._take_over(head)
        self.other = end == 0 and self._file.seek(0, os.SEEK_END) > 0
        self._file.truncate(end)
        self.kept = len(self._places)
        if not end:
            self._write(head)

    def _take_over(self, head: bytes) -> int:
        """Note the whole lines of an earlier call of the same kind; where they end."""
        self._file.seek(0)
        if self._file.readline() != head:
            return 0
        end = len(head)
        for line in self._file:
            try:
                answer = json.loads(line if line.endswith(b"\n") else b"")
                self._places[answer["film"]] = end, answer["state"]
            except (ValueError, KeyError, TypeError):
                break
            end += len(line)
        return end

    @property
    def empty(self) -> bool:
        """Whether nothing is known of any film."""
        return not self._places

    def has(self, film: str, state: str) -> bool:
        """Whether it is known what is on a film in this state, or that it cannot be read."""
        return film in self._places and self._places[film][1] == state

    def add(self, found: Sequence[tuple[str, str, Found]]) -> None:
        """Keep what was found on films (film, state, points or why there are none); it is on the disk after that."""
        start = self._file.seek(0, os.SEEK_END)
        lines = []
        for film, state, what in found:
            content = {"why": what} if isinstance(what, list) else {"points": _plain(what)}
            lines.append(json.dumps({"film": film, "state": state, **content}).encode() + b"\n")
        self._write(b"".join(lines))
        for (film, state, _), line in zip(found, lines, strict=True):
            self._places[film] = start, state
            start += len(line)

    def of(self, film: str) -> Found:
        """The points of a film, or why it was not read. Raises KeyError for one that nobody was asked for."""
        self._file.seek(self._places[film][0])
        answer = json.loads(self._file.readline())
        return answer["why"] if "why" in answer else _points(answer["points"])

    def close(self, *, remove: bool) -> None:
        """Close the file; with `remove` all is done, and there is nothing to go on with."""
        self._file.close()
        if remove and self.lasting:
            self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())


def _plain(found: FilmPoints) -> dict[str, Any]:
    """The fields as JSON holds them, numbers in full, arrays apart."""
    values = {name: getattr(found, name) for name in FIELDS}
    arrays = {name: value.tolist() for name, value in values.items() if isinstance(value, np.ndarray)}
    return {"arrays": arrays, "values": {name: value for name, value in values.items() if name not in arrays}}


def _points(plain: Mapping[str, Any]) -> FilmPoints:
    """What `_plain` was given."""
    values: dict[str, Any] = {
        n: tuple(value) if isinstance(value, list) else value for n, value in plain["values"].items()
    }
    values |= {name: np.array(value) for name, value in plain["arrays"].items()}
    return FilmPoints(**values)
