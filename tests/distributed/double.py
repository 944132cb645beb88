"""`ceph` in double precision: whatever is fp32 in the program is fp64, so that rounding does not hide what differs."""

from __future__ import annotations

import sys

import torch

torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
torch.float32 = torch.float64

from ceph.cli.app import main  # noqa: E402 - the program is imported into this arithmetic

if __name__ == "__main__":
    sys.exit(main())
