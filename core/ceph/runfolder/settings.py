"""config.yaml as a run writes it (`config/dump.py`): block YAML with a key a line and behind it where it came from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ceph.data.files import read_text
from ceph.errors import DataError, Place
from ceph.runfolder.place import CONFIG

SEED = "train.seed"
_LINE = re.compile(
    r'(?P<indent> *)(?P<key>"(?:\\.|[^"\\])*"|[^"#:]+):(?P<value>(?:"(?:\\.|[^"\\])*"|[^"#])*)(?:#(?P<origin>.*))?'
)


@dataclass(frozen=True)
class Setting:
    """A line of config.yaml: the names of its key, the value as written ("" for a section), and where it came from."""

    path: tuple[str, ...]
    value: str
    origin: str

    @property
    def key(self) -> str:
        """The key as it is written in errors: `train.seed`."""
        return ".".join(self.path)


def read_settings(folder: Path) -> tuple[Setting, ...]:
    """The lines of a run's config.yaml. Raises DataError, naming the line, where it is not as a run writes it."""
    file, found = folder / CONFIG, list[Setting]()
    path: tuple[str, ...] = ()
    for number, line in enumerate(read_text(file).splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or len(match["indent"]) % 2 or len(match["indent"]) // 2 > len(path):
            what = "is not as a run writes its config: a key and a value a line, two spaces a level"
            raise DataError(what, place=Place(str(file), number, 1, line[:160] if line.isprintable() else ""))
        path = (*path[: len(match["indent"]) // 2], match["key"].strip('"'))
        found.append(Setting(path, match["value"].strip(), (match["origin"] or "").strip()))
    return tuple(found)


def values_of(settings: Sequence[Setting]) -> dict[str, str]:
    """The values as they are written, by dotted key; sections have none."""
    return {setting.key: setting.value for setting in settings if setting.value}


def read_seed(folder: Path) -> int:
    """The seed of a run. Raises DataError where its config.yaml has none."""
    text = values_of(read_settings(folder)).get(SEED, "")
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise DataError(f"{folder / CONFIG}: {SEED}: must be a whole number, not {text[:40] or 'missing'}")
    return int(text)
