"""Which mm per pixel, and which magnification, a film can have: one judge for every source of a spacing."""

from __future__ import annotations

from typing import NoReturn, Protocol

# Scanners of 1200 dots per inch reach 0.021 mm, detectors 0.08 to 0.15; a film of 24 cm kept at 256 px has 0.94. One mm
# is what programs write where they know nothing; centimetres for millimetres lie below, inches and dpi above.
LEAST_MM, BELOW_MM = 0.02, 1.0
# The head of a patient stands between source and detector, nearer to the detector: 1.05 to 1.2 in practice.
MAGNIFICATION = (1.0, 1.5)
EMPTY = "correct it, or leave it empty and give data.mm_per_px"
GIVE = "give data.mm_per_px in its place"
UNITS = (("micrometres", 1e-3), ("centimetres", 10.0), ("metres", 1e3))


class Fail(Protocol):
    """Raises an error about the place where the number stands."""

    def __call__(self, what: str, *, hint: str) -> NoReturn:
        """`what` is wrong, `hint` is what to do."""
        ...


def plausible(mm_per_px: float) -> bool:
    """Whether the pixel of a film can measure so many mm; not so NaN."""
    return LEAST_MM <= mm_per_px < BELOW_MM


def plausible_spacing(mm_per_px: float, given: str, fail: Fail, remedy: str = EMPTY) -> float:
    """`mm_per_px`, which stands somewhere as `given`; `fail` is called with a `remedy` where no film has it."""
    if not plausible(mm_per_px):
        fail(f"{given} is no spacing of a film", hint=f"{hint(mm_per_px)}; {remedy}")
    return mm_per_px


def hint(mm_per_px: float) -> str:
    """Which spacings are plausible, and what an implausible one may be in another unit."""
    meant = [f"{mm_per_px:g} {unit} are {mm_per_px * mm:.3g} mm" for unit, mm in UNITS if plausible(mm_per_px * mm)]
    if mm_per_px > 0 and plausible(25.4 / mm_per_px):
        meant.append(f"{mm_per_px:g} dots per inch are {25.4 / mm_per_px:.3g} mm")
    return f"a pixel measures from {LEAST_MM:g} to below {BELOW_MM:g} mm" + (f" ({', '.join(meant)})" if meant else "")


def plausible_magnification(factor: float, given: str, fail: Fail) -> float:
    """`factor`, how much larger a head is on the detector; `fail` is called where no film has it."""
    low, high = MAGNIFICATION
    if not low <= factor <= high:
        percent = f"; {factor:g} % are a factor of {factor / 100:g}" if low <= factor / 100 <= high else ""
        fail(
            f"{given} is no magnification of a head",
            hint=f"it lies between {low:g} and {high:g}{percent}; {GIVE}",
        )
    return factor
