"""The config of the next run as a person reads it: the values of the last one, and each choice with its reason."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ceph.config.dump import flow, word
from ceph.config.models import Config

KeyPath = tuple[str, ...]

WIDTH, COMMENT_COLUMN = 118, 32


@dataclass(frozen=True)
class Choice:
    """A key of the next config (from the top), its value, and why."""

    key: KeyPath
    value: Any
    reason: str


def changed(values: Mapping[str, Any], choices: Sequence[Choice]) -> dict[str, Any]:
    """`values` with the choices laid over them."""
    changed: dict[str, Any] = copy.deepcopy(dict(values))
    for choice in choices:
        section = changed
        for key in choice.key[:-1]:
            section = section.setdefault(key, {})
        section[choice.key[-1]] = copy.deepcopy(choice.value)
    return changed


def config_text(values: Mapping[str, Any], choices: Sequence[Choice], notes: Sequence[str], head: Sequence[str]) -> str:
    """The config as YAML: the head, each choice with its reason, and above the plugins the notes."""
    sections = {name: values[name] for name in Config.model_fields if name in values and name != "plugins"}
    reasons = {choice.key: choice.reason for choice in choices}
    lines = [
        *(line for paragraph in head for line in _comment(paragraph, 0)),
        *_block(sections, (), reasons),
        *(line for note in notes for line in _comment(note, 0)),
        *_block({"plugins": values.get("plugins", {})}, (), reasons),
    ]
    return "".join(f"{line}\n" for line in lines)


def _block(values: Mapping[str, Any], path: KeyPath, reasons: Mapping[KeyPath, str]) -> Iterator[str]:
    """Block YAML; a reason stands at the end of its line where it fits, else above."""
    for key, value in values.items():
        here, indent = (*path, key), 2 * len(path)
        opens = isinstance(value, Mapping) and bool(value)
        line = f"{' ' * indent}{word(key)}:" + ("" if opens else f" {flow(value)}")
        beside = f"{line:<{COMMENT_COLUMN}}  # {reasons[here]}" if here in reasons else line
        if len(beside) <= WIDTH and beside.isprintable():
            yield beside
        else:
            yield from _comment(reasons.get(here, ""), indent)
            yield line
        if opens:
            yield from _block(value, here, reasons)


def _comment(text: str, indent: int) -> list[str]:
    """A paragraph as comment lines."""
    lead = f"{' ' * indent}# "
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return textwrap.wrap(
        plain, WIDTH, initial_indent=lead, subsequent_indent=lead, break_long_words=False, break_on_hyphens=False
    )
