"""What a plain word of YAML means, and how a value is written in a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

Scalar = None | bool | int | float | str

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def scalar(text: str) -> Scalar:
    """What a plain word means by the core schema of YAML 1.2; raises ValueError for a number out of range."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > 20:
            raise ValueError("is a number of more than 20 digits")
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"must be a finite number, not {text}")
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"must be a finite number; {text[:40]} is too large")
        return number
    return whole_text(text)


def whole_text(text: str) -> str:
    """The text itself; raises ValueError where it holds half a character, which no file can hold."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("holds half a character (a lone surrogate)")
    return text


def show(value: Any, *, limit: int = 60) -> str:
    """A value as it would be written, short enough for a sentence."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        text = f"[{', '.join(show(item, limit=20) for item in value[:8])}{', ...' if len(value) > 8 else ''}]"
        return text if len(text) <= limit else f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 4]}...{text[-1]}"
