"""What a run folder tells of its making: minutes, films and pixels trained, the command, the versions."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ceph.config.models import Config
from ceph.runfolder import number, read_environment, read_records, read_state


@dataclass(frozen=True)
class Cost:
    """Minutes of training, films drawn and megapixels trained of one run; None where the folder does not tell."""

    minutes: float | None
    films: float | None
    megapixels: float | None


def cost_of(folder: Path, minutes: float | None = None) -> Cost:
    """The cost of a run; `minutes` is what the one who ran it measured (default: what the run itself did)."""
    records = read_records(folder)

    def total(key: str) -> float | None:
        found = sum(number(record, key) for record in records)
        return found if records and not math.isnan(found) else None

    if minutes is None:
        state = read_state(folder)
        minutes = state.seconds / 60 if state.state == "finished" and state.seconds is not None else None
    return Cost(minutes, total("films"), total("megapixels"))


def how_made(out: Path, cells: Sequence[str], seeds: Sequence[int], record: Mapping[str, Any]) -> list[str]:
    """Markdown lines: the command of each cell, what in the config is not the default, versions and the date."""
    made = {cell: read_environment(out / cell / f"s{seeds[0]}") for cell in cells}
    first = made[cells[0]]
    versions = ", ".join(f"{name} {version}" for name, version in first.get("versions", {}).items())
    git = first.get("git") or {}
    commit = f"; commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else ""
    started = min(str(e.get("started", ""))[:10] for e in made.values())
    costs = [
        cost_of(out / c / f"s{s}", record.get("minutes", {}).get(f"{c}/s{s}")).minutes for c in cells for s in seeds
    ]
    known = [minutes for minutes in costs if minutes is not None]
    spent = f"{sum(known):.0f} minutes of training" if known else "training time unknown"
    seed_list = ", ".join(map(str, seeds))
    size = f"{len(cells) * len(seeds)} runs ({len(cells)} cells, seeds {seed_list}), {spent} in all"
    machine = f"{first.get('device', '?')}; Python {first.get('python', '?')}, {versions}{commit}"
    return [
        f"{size}, begun {started} on {machine}.",
        "",
        "The first run of each cell; the others differ in `--seed` and `--out`:",
        "",
        "```sh",
        *(_command(e) for e in made.values()),
        "```",
        "",
        "What in the config is not the default:",
        "",
        "```yaml",
        *_not_default(record),
        "```",
    ]


def _command(made: Mapping[str, Any]) -> str:
    words = [Path(word).name if word.startswith("/") else word for word in made.get("command", ())[1:]]
    return f"ceph {shlex.join(words)}"


def _not_default(record: Mapping[str, Any]) -> list[str]:
    """`key: value` lines of the record's config and plugins; of paths only the name."""
    default, found = Config().model_dump(mode="json"), list[str]()
    for section, values in record.get("config", {}).items():
        for key, value in values.items() if section != "plugins" else ():
            if value != default[section].get(key):
                shown = Path(value).name if isinstance(value, str) and value.startswith("/") else value
                found.append(f"{section}.{key}: {json.dumps(shown, ensure_ascii=False)}")
    plugins = {**record.get("config", {}).get("plugins", {}), **record.get("plugins", {})}
    for name, settings in plugins.items():
        shown = {k: Path(v).name if k == "from" else v for k, v in settings.items()}
        found.append(f"plugins.{name}: {json.dumps(shown, ensure_ascii=False)}")
    return found
