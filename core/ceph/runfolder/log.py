"""log.txt: what a run says to a person, a line an entry."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from ceph.data.names import ShownFormatter
from ceph.files import appending, read_bytes
from ceph.runfolder.place import LOG, writing

HEARD = "heard"  # an attribute of records
SHOWN_BYTES = 64 * 2**20
_ENTRY = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]+) (?P<message>.*)")


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Append the log of `ceph` to the folder's log.txt; warnings are printed as well, if nothing else shows them."""
    log = logging.getLogger("ceph")
    shown = log.hasHandlers()  # else a file alone would keep warnings from the person
    with writing(folder / LOG):
        handler = _LogFile(folder / LOG, encoding="utf-8")
    handler.setFormatter(ShownFormatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.setLevel(logging.INFO)
    console = logging.StreamHandler()
    console.setFormatter(ShownFormatter())
    # An error is raised, too; and what was heard is shown already.
    console.addFilter(lambda record: record.levelno == logging.WARNING and not hasattr(record, HEARD))
    handlers: list[logging.Handler] = [handler] if shown else [handler, console]
    for each in handlers:
        log.addHandler(each)
    try:
        yield
    finally:
        for each in handlers:
            log.removeHandler(each)
        log.setLevel(before)
        with suppress(OSError):
            handler.close()


@contextmanager
def heard() -> Iterator[list[logging.LogRecord]]:
    """Inside, what is logged from INFO on is printed, and kept to be written into a log once there is one."""
    log = logging.getLogger("ceph")
    handler, before = _Heard(), log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield handler.records
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _Heard(logging.StreamHandler):  # type: ignore[type-arg]
    """Keeps records, and prints those that nothing else shows: not those of a program that has its own log."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(ShownFormatter())
        self.records: list[logging.LogRecord] = []
        own = logging.getLogger("ceph").handlers  # of a run that is resumed: warnings are printed
        self.below = 0 if logging.getLogger().handlers else logging.WARNING if own else logging.CRITICAL + 1

    def emit(self, record: logging.LogRecord) -> None:
        setattr(record, HEARD, True)
        self.records.append(record)
        if record.levelno < self.below:
            super().emit(record)


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short without a word: what matters more cannot be written either, and says so."""

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(appending(Path(self.baseFilename)), encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base's name
        pass


def read_log(folder: Path) -> tuple[tuple[str, str], ...]:
    """(level, message) of each line that begins an entry, to be shown; a damaged character is replaced.

    Nothing is to be concluded from their words: what a run does stands in state.json. Raises OSError.
    """
    lines = read_bytes(folder / LOG, SHOWN_BYTES).decode("utf-8", errors="replace").splitlines()
    found = (_ENTRY.fullmatch(line) for line in lines)
    return tuple((match["level"], match["message"]) for match in found if match)
