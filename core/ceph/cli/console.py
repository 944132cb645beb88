"""What the commands print: errors as blocks on stderr, tables as plain text; no import that costs time."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from ceph.data.names import ShownFormatter, shown
from ceph.errors import CephError, ConfigError, Interrupted
from ceph.files import replacing


def print_error(error: CephError, stream: TextIO | None = None) -> None:
    """One block a problem, each led by `error:`; never a traceback."""
    stream = stream or sys.stderr
    for problem in error.problems:
        print(shown(f"error: {problem}", keep="\n\t"), file=stream)
    stream.flush()


def write_file(path: Path, text: str | Iterable[str], key: str = "") -> None:
    """Write what a person asked for, whole or a piece at a time, into a device or a pipe that they named too.

    Raises ConfigError, naming `key`.
    """
    pieces = (piece.encode(errors="backslashreplace") for piece in ([text] if isinstance(text, str) else text))
    try:
        device = path.exists() and not path.is_file() and not path.is_dir()  # /dev/stdout is not to be replaced
        with path.open("wb") if device else replacing(path) as file:
            file.writelines(pieces)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {(error.strerror or str(error)).lower()}", key=key) from None


def rank_of_job() -> int | None:
    """The number of this process in a job of several (torchrun's RANK); None where it is on its own."""
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None


def is_mine_to_tell(error: CephError) -> bool:
    """Whether this process prints an error that others of its job may have, too: before they speak, one a machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0" if error.told is None else not error.told


def show_names() -> None:
    """Let a name that is not UTF-8 be printed, and no name in a warning command the terminal."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort:
        logging.lastResort.setFormatter(ShownFormatter())


def exit_code(error: CephError) -> int:
    """0 done, 1 failed, 2 a wrong config or call, 128 + signal interrupted."""
    return 128 + error.signal if isinstance(error, Interrupted) else error.exit_code


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), width: int | None = None) -> str:
    """Columns of text, two spaces apart; the last column is wrapped to the terminal's width."""
    everything = [[shown(cell) for cell in row] for row in ([header, *rows] if header else rows)]
    if not everything:
        return ""
    width = width or shutil.get_terminal_size((100, 24)).columns
    widths = [max(len(row[i]) for row in everything) for i in range(len(everything[0]) - 1)]
    indent = sum(widths) + 2 * len(widths)
    lines: list[str] = []
    for row in everything:
        head = "".join(f"{cell:<{size}}  " for cell, size in zip(row, widths, strict=False))
        tail = textwrap.wrap(row[-1], max(width - indent, 30)) or [""]
        lines.append(f"{head}{tail[0]}".rstrip())
        lines += [" " * indent + line for line in tail[1:]]
    return "\n".join(lines)
