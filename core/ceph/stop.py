"""What SIGINT, SIGTERM and SIGHUP do: one object has them all the while, a run looks at it between its steps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ceph.errors import Interrupted
from ceph.files import discard

HANGUP = next(getattr(signal, name) for name in ("SIGHUP", "SIGBREAK") if hasattr(signal, name))  # a closed terminal
SIGNALS = {signal.SIGINT, signal.SIGTERM, HANGUP}


class Stopped(KeyboardInterrupt):
    """A signal struck what does not look for it.

    A class of its own: a plain KeyboardInterrupt that strikes a text which `exec` runs, as dataclasses do, makes
    `python -m` end by SIGINT whatever is returned.
    """


class StopRequest:
    """Has the signals of this process: the first one sets it, a second one ends the process at once.

    Where nobody waits to look at it, the first is raised, too, as Stopped. One of several processes is `patient`:
    launchers repeat a signal, and kill what has not ended after a while.
    """

    def __init__(self) -> None:
        self.signal, self.process = 0, os.getpid()
        self.waits, self.patient = True, False
        self.left: Callable[[], tuple[str, str]] = lambda: ("", "")  # what is done so far, and what to do now

    def __bool__(self) -> bool:
        return self.signal != 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.patient |= number == HANGUP  # the terminal and its shell both send it, and nobody is left to be impatient
        # A process that was forked from this one has nothing to say.
        if os.getpid() != self.process or (self.signal and not self.patient):
            os._exit(128 + number)
        if number == HANGUP:
            _leave_closed_terminal()
        if not self.signal:
            self.signal = number
            if not self.waits:
                raise Stopped

    def interrupted(self) -> Interrupted:
        """What a person reads."""
        what, hint = self.left()
        said = f"stopped by {signal.Signals(self.signal).name}" + f"; {what}" * bool(what)
        return Interrupted(said, signal=self.signal, hint=hint)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """The object that has the signals: of a block around this one, else a new one; outside the main thread it has none.

    A SIGHUP that is ignored, as under nohup, stays so.
    """
    request, before = signal.getsignal(signal.SIGTERM), {}
    if not isinstance(request, StopRequest):
        request = StopRequest()
        if threading.current_thread() is threading.main_thread():
            ignored = {HANGUP} if signal.getsignal(HANGUP) == signal.SIG_IGN else set()
            before = {number: signal.signal(number, request) for number in SIGNALS - ignored}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_signals() -> Iterator[StopRequest]:
    """A signal ends what is inside where it is, by Interrupted."""
    with stop_on_signals() as stop:
        waits = stop.waits
        try:
            stop.waits = False
            if stop:  # from before, or Python dropped the exception, as in a destructor or a callback
                raise Stopped  # noqa: TRY301 - as a signal would from here on
            yield stop
        except BaseException as error:
            # What is interrupted may turn the exception into an error of its own.
            if not stop or isinstance(error, Interrupted):
                raise
            raise stop.interrupted() from error
        finally:
            stop.waits = waits


@contextmanager
def signals_wait() -> Iterator[None]:
    """A signal strikes at the end of what is inside, not in it; a program that has its own handlers gets it then."""
    if threading.current_thread() is not threading.main_thread():  # where none strikes
        yield
        return
    ours = isinstance(signal.getsignal(signal.SIGTERM), StopRequest)
    with stop_on_signals() as stop:
        waits, stop.waits = stop.waits, True
        try:
            yield
        finally:
            stop.waits = waits
        if stop and not waits:
            raise Stopped
    if stop and not ours:
        signal.raise_signal(stop.signal)


@contextmanager
def stop_between_steps(*, patient: bool = False) -> Iterator[StopRequest]:
    """A signal only sets the object; what is inside looks at it."""
    with stop_on_signals() as stop:
        waits, stop.waits, stop.patient = stop.waits, True, stop.patient or patient
        try:
            yield stop
        finally:
            stop.waits = waits


def _leave_closed_terminal() -> None:
    """What is printed to a terminal that is no more is lost, and no fault."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            discard(stream)
