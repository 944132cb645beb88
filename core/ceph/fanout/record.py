"""What a folder of many runs is kept to: their config, in a JSON file beside the minutes that each run took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ceph.config.load import Resolved
from ceph.errors import ConfigError
from ceph.runfolder import read_object, write_json

FREE = (("train", "seed"), ("data", "workers"), ("data", "cache"))  # keys that change no run beyond its luck


def describe(base: Resolved, found: Mapping[str, Resolved], plugins: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder is kept to: the config that all runs share, and the settings of `plugins` in each of `found`."""
    config = base.config.model_dump(mode="json")
    for section, key in FREE:
        del config[section][key]
    settings: dict[str, Any] = {}
    for resolved in found.values():
        for name in set(plugins) & set(resolved.plugins):
            file = {"sha256": resolved.plugins[name].sha256} if resolved.plugins[name].file else {}
            settings[name] = {**resolved.config.model_dump(mode="json")["plugins"][name], **file}
    return {"config": config, "plugins": dict(sorted(settings.items()))}


def open_record(file: Path, described: Mapping[str, Any]) -> dict[str, Any]:
    """The record in `file`, joined with `described` and written.

    Raises ConfigError where its folder holds runs of another config.
    """
    record = read_record(file)
    then, now = record.get("config", described["config"]), described["config"]
    _require_same(file.parent, then, now, ())
    known = record.get("plugins", {})
    for name in known.keys() & described["plugins"].keys():
        _require_same(file.parent, known[name], described["plugins"][name], ("plugins", name))
    record = {
        "config": now,
        "plugins": {**known, **described["plugins"]},
        "minutes": record.get("minutes", {}),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record)
    return record


def read_record(file: Path) -> dict[str, Any]:
    """The record in a file; empty where there is none."""
    return read_object(file) if file.exists() else {}


def _require_same(out: Path, then: Any, now: Any, path: tuple[str, ...]) -> None:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in [*then, *(k for k in now if k not in then)]:
            _require_same(out, then.get(key), now.get(key), (*path, key))
    elif then != now:
        raise ConfigError(
            f"{out} holds another config: {'.'.join(path)} is {json.dumps(then)} there and {json.dumps(now)} here",
            key="--out",
            hint="name another folder, or set the config back",
        )
