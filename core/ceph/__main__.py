"""The program `ceph`, and `python -m ceph`: the command line, with an answer to signals from its first import on."""

from __future__ import annotations

import sys

from ceph.cli.console import exit_code, print_error
from ceph.cli.ending import Ending
from ceph.errors import Interrupted


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        with Ending():
            from ceph.cli.app import main as command_line

            code = command_line()
    except Interrupted as error:
        print_error(error)
        code = exit_code(error)
    # Where a KeyboardInterrupt struck a text that `exec` ran, as dataclasses do, `python -m` ends by SIGINT whatever is
    # returned here, until Python evaluates another text.
    eval("None")  # noqa: S307 - a constant
    return code


if __name__ == "__main__":
    sys.exit(main())
