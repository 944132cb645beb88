"""The tables of `benchmarks/gpu.py`: each row is in the files as soon as it is known."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch


class Table:
    """Rows in DIR/NAME.md and DIR/NAME.json."""

    def __init__(self, folder, name, columns):
        self.file, self.columns, self.rows = Path(folder) / name, columns, []
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else f"no GPU, {os.cpu_count()} cores"
        python, versions = sys.version.split()[0], f"torch {torch.__version__}, CUDA {torch.version.cuda}"
        self.machine = f"{gpu}; {versions}, Python {python}"
        self._write()

    def add(self, *cells):
        """One more row."""
        self.rows.append(dict(zip(self.columns, cells, strict=True)))
        self._write()

    def _write(self):
        rows = [[f"{c:.4g}" if isinstance(c, float) else str(c) for c in row.values()] for row in self.rows]
        table = [self.columns, ["---"] * len(self.columns), *rows]
        lines = [f"{self.file.name}: {self.machine}", "", *(f"| {' | '.join(cells)} |" for cells in table)]
        self.file.with_suffix(".md").write_text("\n".join(lines) + "\n")
        self.file.with_suffix(".json").write_text(json.dumps({"machine": self.machine, "rows": self.rows}, indent=1))


class Given:
    """What gpu.py told this script: data, out, dry, and how many seconds are left."""

    def __init__(self):
        data, out, how, limit = sys.argv[1:]
        self.data, self.out, self.dry = Path(data), Path(out), how == "dry"
        self._end = time.monotonic() + float(limit)

    @property
    def left(self):
        """Seconds until the part is cut off."""
        return self._end - time.monotonic()
