"""Numbers as the report writes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def digits(value: Any, places: int = 2) -> str:
    """A number with so many decimal places; a dash where there is none."""
    known = isinstance(value, int | float | np.floating) and math.isfinite(value)
    return f"{value:.{places}f}" if known else "–"


def between(pair: tuple[float, float]) -> str:
    """An interval in words; a dash where there is none."""
    return f"{digits(pair[0])} to {digits(pair[1])}" if math.isfinite(pair[0]) else digits(None)


def kept_together(sentence: str) -> str:
    """The sentence with no line break between a number and its unit."""
    return sentence.replace(" mm", "\u00a0mm").replace(" %", "\u00a0%")
