"""The lowest versions that pyproject.toml allows, as constraints of pip: `python tests/lowest.py > lowest.txt`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

LEFT_OUT = {"ruff", "mypy"}  # they look at the code, and do not run with it


def lowest(extras: tuple[str, ...]) -> list[str]:
    """`name==bound` of each requirement with a lower bound, of the package and of some of its extras."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for name in extras for line in project["optional-dependencies"][name])]
    found = (re.fullmatch(r"([\w.-]+)>=([\d.]+)", line) for line in lines)
    return [f"{one[1]}=={one[2]}" for one in found if one and one[1] not in LEFT_OUT]


if __name__ == "__main__":
    print("\n".join(lowest(("web", "xlsx", "dicom", "dev"))))
