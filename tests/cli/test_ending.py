"""A signal whose exception Python drops is not lost: the next block that watches for signals ends the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback

import pytest

from ceph.errors import Interrupted
from ceph.stop import Stopped, ended_by_signals, stop_between_steps
from ceph.threads import in_threads


class Struck:
    """A signal that arrives while this is destroyed; Python prints the KeyboardInterrupt and goes on."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):  # the handler runs between two instructions of this destructor
            pass


def strike():
    Struck()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_interrupt_ends_the_next_block():
    def work():
        with ended_by_signals():
            strike()
            with ended_by_signals():
                went_on.append(True)

    went_on = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped by SIGTERM") as caught:
        work()
    assert caught.value.signal == signal.SIGTERM
    assert not went_on
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_interrupt_stops_a_run_at_its_first_step():
    with ended_by_signals():
        strike()
        with stop_between_steps() as stop:
            assert stop.signal == signal.SIGTERM
    with stop_between_steps() as stop:
        assert not stop


def struck_in_threads():
    """What is raised by a signal that strikes while threads work, and how many of 1000 things they have done then."""
    done = []

    def work(n):
        done.append(n)
        if n == 50:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)

    with pytest.raises(BaseException) as caught:
        in_threads(work, range(1000))
    return caught.value, len(done)


def test_a_signal_strikes_no_pool_of_threads_but_between_two_results():
    """Raised where a pool holds a lock, it left the threads waiting for that lock, and the program for them."""
    with ended_by_signals():
        stopped, done = struck_in_threads()
    assert isinstance(stopped, Stopped)
    files = {frame.filename for frame in traceback.extract_tb(stopped.__traceback__)}
    assert not any("concurrent" in file for file in files)
    assert done < 200


def test_a_signal_of_a_program_that_has_its_own_handlers_is_not_lost_while_threads_work():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        stopped, done = struck_in_threads()
    finally:
        signal.signal(signal.SIGINT, before)
    assert type(stopped) is KeyboardInterrupt, "Python's own"
    assert done < 200


def test_threads_give_results_in_order_and_the_first_error():
    assert in_threads(lambda n: time.sleep(0.01 / (n + 1)) or n * n, range(100)) == [n * n for n in range(100)]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda n: 1 / n, [3, 2, 1, 0, 1])


def test_a_hangup_that_the_parent_had_ignored_stays_ignored_in_a_run():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals(), stop_between_steps() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_in_a_text_that_exec_runs_does_not_change_the_exit_code(tmp_path):
    (tmp_path / "struck.py").write_text(
        "exec('import os, signal; os.kill(os.getpid(), signal.SIGTERM); print([i for i in range(1000)])')"
    )
    words = [sys.executable, "-m", "ceph", "plan", "--plugin", "./struck.py"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 128 + signal.SIGTERM
    assert ended.stderr.count("error: stopped by SIGTERM") == 1
