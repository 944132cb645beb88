"""`python -m ceph`, as torchrun starts it."""

from __future__ import annotations

import sys

from ceph.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
