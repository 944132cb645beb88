"""Run folders given for comparison: which belong together, by their configs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ceph.errors import ConfigError
from ceph.runfolder import is_run, read_environment, read_settings, require_run, values_of
from ceph.runfolder.settings import SEED

INIT_FROM = "--init-from"


def find_groups(paths: Sequence[Path]) -> list[tuple[str, list[Path]]]:
    """Groups of run folders, named, in the order of the paths.

    A path is a run folder, or a folder that holds run folders: the seeds of one config. Run folders given one by one
    are one group where their configs are equal but for `train.seed`, and so are those of the runs whose weights they
    started from. A file is a table of points that some tool has found, and a group of its own. Raises ConfigError where
    a folder holds no run, or runs of different configs.
    """
    groups: list[tuple[str, list[Path]]] = []
    singles: dict[tuple[tuple[str, str], ...], int] = {}
    for path in dict.fromkeys(paths):
        if path.is_file():
            groups.append((path.stem, [path]))
            continue
        if not is_run(path):
            groups.append((path.resolve().name, _held(path)))
            continue
        config = tuple(sorted(_config_of(path).items()))
        if config in singles:
            groups[singles[config]][1].append(path)
        else:
            singles[config] = len(groups)
            groups.append((path.resolve().name, [path]))
    for index in singles.values():
        name, runs = groups[index]
        if len(runs) > 1:
            groups[index] = (_joint_name([run.resolve().name for run in runs]) or name, runs)
    names, folders = [name for name, _ in groups], short_names([runs[0] for _, runs in groups])
    return [
        (name if names.count(name) == 1 else folder, runs) for (name, runs), folder in zip(groups, folders, strict=True)
    ]


def short_names(folders: Sequence[Path]) -> list[str]:
    """Each folder by its last parts, as few as tell it from the others: `a/s0` and `b/s0`."""
    parts, names = [folder.resolve().parts for folder in folders], []
    for own in parts:
        length = 1
        while length < len(own) and sum(other[-length:] == own[-length:] for other in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names


def _held(path: Path) -> list[Path]:
    runs = sorted(folder for folder in path.glob("*") if is_run(folder)) if path.is_dir() else []
    if not runs:
        raise ConfigError(
            f"{path} is no run folder and holds none", hint="give folders that `ceph run` printed, or a folder of them"
        )
    first = _config_of(runs[0])
    for run in runs[1:]:
        other = _config_of(run)
        changed = sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key))
        if changed:
            raise ConfigError(
                f"{path} holds runs of different configs: {changed[0]} is {first.get(changed[0], 'not there')} in "
                f"{runs[0].name}, {other.get(changed[0], 'not there')} in {run.name}",
                hint=f"name the runs one by one ({path}/*): those of one config are then taken together",
            )
    return runs


def _joint_name(names: Sequence[str]) -> str:
    """What the names have in common at their beginning, without a trailing `-s` or the like."""
    length = 0
    while all(name[: length + 1] == names[0][: length + 1] for name in names) and length < min(map(len, names)):
        length += 1
    return re.sub(r"[-_.+]+(s|seed)?[-_.]*$", "", names[0][:length])


def _config_of(run: Path) -> dict[str, str]:
    """The settings of a run but its seed, and whose weights it started from: a run's, that is its config, or a file."""
    require_run(run)
    found = _without_seed(run)
    if (source := _init_from(run)) is not None:
        found[INIT_FROM] = f"a run of config {_hash(_without_seed(source))}" if is_run(source) else str(source)
    return found


def _without_seed(run: Path) -> dict[str, str]:
    return {key: value for key, value in values_of(read_settings(run)).items() if key != SEED}


def _hash(settings: Mapping[str, str]) -> str:
    return hashlib.blake2b(repr(sorted(settings.items())).encode(), digest_size=4).hexdigest()


def _init_from(run: Path) -> Path | None:
    told = read_environment(run).get("init_from")
    return Path(told) if isinstance(told, str) else None
