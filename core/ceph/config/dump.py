"""Plain values as YAML that reads back to the same values, each with a comment saying where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ceph.config.source import dotted
from ceph.config.words import scalar

_START = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./")
_PLAIN = _START | set("-+@% ")
COMMENT_COLUMN = 44


def dump_yaml(values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """The values as block YAML; `comments` stand at the end of the line of their dotted key."""
    lines: list[str] = []
    for text, comment in _block(values, (), comments):
        note = " ".join("".join(c if c.isprintable() else "?" for c in comment).split())
        lines.append(f"{text:<{COMMENT_COLUMN}}  # {note}" if note else text)
    return "".join(f"{line}\n" for line in lines)


def _block(values: Mapping[str, Any], path: tuple[str, ...], comments: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        here = (*path, key)
        head = f"{'  ' * len(path)}{word(key)}:"
        comment = comments.get(dotted(here), "")
        if isinstance(value, Mapping) and value:
            yield head, comment
            yield from _block(value, here, comments)
        else:
            yield f"{head} {flow(value)}", comment


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{word(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, (int, float)) else word(str(value))


def word(text: str) -> str:
    """A text, in quotes only where a plain word would mean something else."""
    plain = text[:1] in _START and set(text) <= _PLAIN and text == text.strip() and not text.startswith("...")
    if plain and _is_text(text):
        return text
    escaped = "".join(_escape(character) for character in text)
    return f'"{escaped}"'


def _is_text(text: str) -> bool:
    try:
        return isinstance(scalar(text), str)
    except ValueError:
        return False


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
