"""Real processes that start in a moment: a parent imports the program once, trains once, and then forks each of them.

`python nursery.py WORDS...` runs `ceph WORDS` itself, so that all is imported, and then reads one JSON object a line:
{"words": [...], "out": FILE, "err": FILE, "uid": int or null, "bytes": largest file or null} starts `ceph WORDS` in a
process of its own and answers its id; it may have "memory", the bytes that it may still take, and "processes", how many
its user may have. {"wait": id} answers its code, negative where a signal ended it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

from ceph.cli.app import main


def child(order: dict) -> None:
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), number)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if order.get("bytes"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["bytes"], order["bytes"]))
    if order.get("memory"):
        ctypes.CDLL(None).malloc_trim(0)  # what the parent has freed
        present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (present + order["memory"],) * 2)
    if order.get("uid"):
        os.setgroups([])
        os.setgid(order["uid"])
        os.setuid(order["uid"])
    if order.get("processes") is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (order["processes"],) * 2)
    code = 70
    try:
        code = main(order["words"])
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - what a person would see as a traceback
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answers.write(f"{main(sys.argv[1:])}\n")
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(order['wait'], 0)[1])}\n")
        elif (pid := os.fork()) == 0:
            child(order)
        else:
            answers.write(f"{pid}\n")
    os._exit(0)  # taking an interpreter with torch apart costs seconds on a busy machine
