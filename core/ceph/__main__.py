"""The program `ceph`, and `python -m ceph`: the command line, with an answer to signals from its first import on."""

from __future__ import annotations

import sys

from ceph.cli.console import exit_code, print_error
from ceph.errors import Interrupted
from ceph.stop import ended_by_signals


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        with ended_by_signals():
            from ceph.cli.app import main as command_line

            return command_line()
    except Interrupted as error:
        print_error(error)
        return exit_code(error)


if __name__ == "__main__":
    sys.exit(main())
