"""The command line for a process that another began and waits for: when that one is gone, this one ends, too.

Its standard input is a pipe that the other holds open and writes nothing to. That is so on every system, and a process
that was killed holds no pipe.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress

from ceph.__main__ import main


def _end_with_holder() -> None:
    """Wait until nobody holds the other end of standard input; then end as by SIGTERM, with a checkpoint."""
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_holder, daemon=True).start()
    sys.exit(main())
