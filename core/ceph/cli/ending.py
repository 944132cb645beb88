"""What SIGINT and SIGTERM do while nothing else watches for them: one message, and the exit code of the signal."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

from ceph.errors import Interrupted


class Ending:
    """Inside, a signal is an `Interrupted` of this block; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal, self.process = 0, os.getpid()
        self.before: dict[int, Any] = {}

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.signal or os.getpid() != self.process:  # a process that was forked from this one has nothing to say
            os._exit(128 + number)
        self.signal = number
        raise KeyboardInterrupt

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
            # Python drops a KeyboardInterrupt that strikes a destructor or a callback: the block around this one knows.
            if any(isinstance(handler, Ending) and handler.signal for handler in self.before.values()):
                self._restore()
                raise KeyboardInterrupt
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._restore()
        # What is interrupted may turn the KeyboardInterrupt into an error of its own.
        if self.signal and error is not None and not isinstance(error, Interrupted):
            raise self.interrupted() from error

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def interrupted(self) -> Interrupted:
        """What a person reads."""
        return Interrupted(f"stopped by {signal.Signals(self.signal).name}", signal=self.signal)
