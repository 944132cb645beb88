"""From radial errors in millimetres to the field's figures: MRE, its deviation, and SDR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.types import Flags, Points
from ceph.evaluation.statistics import estimate_many

THRESHOLDS_MM = (2.0, 2.5, 3.0, 4.0)


@dataclass(frozen=True)
class Figure:
    """A plugin's number of a split that also says which way is better; a plain number is better when smaller.

    In `metrics.json` it stands as a number under `plugins`; the list `higher_is_better` beside these has its name.
    """

    value: float
    higher_is_better: bool


def radial_errors_mm(found: Points, truth: Points, valid: Flags, mm_per_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances [N, K] in mm of points [N, K, 2] in film px; NaN where not valid. `mm_per_px` [N] of the films."""
    distance = np.linalg.norm(found - truth, axis=-1) * mm_per_px[:, None]
    return np.where(valid, distance, np.nan)


def summarise(errors_mm: NDArray[np.float64], landmarks: Sequence[str], truth: str) -> dict[str, Any]:
    """The figures of a split from errors [N, K] in mm (NaN: no truth). SDR: percent of errors <= the threshold."""
    overall = _figures(errors_mm)
    points = overall.pop("n")
    return {
        **overall,
        "n_images": int(errors_mm.shape[0]),
        "n_points": points,
        "truth": truth,
        "per_landmark": {symbol: _figures(errors_mm[:, k]) for k, symbol in enumerate(landmarks)},
    }


def _figures(errors_mm: NDArray[np.float64]) -> dict[str, Any]:
    known = errors_mm[~np.isnan(errors_mm)]
    if not known.size:
        return {"mre_mm": None, "sd_mm": None, "sdr_percent": {f"{t:.1f}": None for t in THRESHOLDS_MM}, "n": 0}
    return {
        "mre_mm": float(known.mean()),
        "sd_mm": float(known.std(ddof=1)) if known.size > 1 else 0.0,
        "sdr_percent": {f"{t:.1f}": float((known <= t).mean() * 100) for t in THRESHOLDS_MM},
        "n": int(known.size),
    }


def intervals(errors_mm: NDArray[np.float64], units: NDArray[np.int64]) -> dict[str, Any]:
    """95 % intervals of a split's MRE and SDR from errors [N, K] in mm (NaN: no truth); `{}` for fewer than six units.

    They are over films, of which equal `units` [N] are one piece of evidence (`ceph.evaluation.statistics`), and are of
    this trained network: they do not cover what another seed would do.
    """
    rates = [np.where(errors_mm <= t, 100.0, 0.0) for t in THRESHOLDS_MM]
    if not (found := film_intervals([errors_mm, *rates], ~np.isnan(errors_mm), units)):
        return {}
    mre, *sdr = found
    return {"mre_mm": mre, "sdr_percent": {f"{t:.1f}": pair for t, pair in zip(THRESHOLDS_MM, sdr, strict=True)}}


def film_intervals(
    values: Sequence[NDArray[np.float64]], known: Flags, units: NDArray[np.int64]
) -> list[list[float]] | None:
    """95 % intervals [low, high] of the mean over `known` points [N, K] of each of `values` [N, K]; as `intervals`."""
    points = known.sum(axis=1).astype(np.float64)
    if len(np.unique(units[points > 0])) < 2:
        return None
    of_films = [np.where(known, v, 0.0).sum(axis=1) / np.maximum(points, 1) for v in values]
    found = [[e.low, e.high] for e in estimate_many([np.stack(of_films)[:, None]], points, units)]
    return found if np.isfinite(found[0]).all() else None


def flatten(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Every number of nested figures under its dotted name: `sdr_percent.2.0`, `per_landmark.Go.mre_mm`."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        elif isinstance(value, int | float):
            flat[prefix + name] = float(value)
    return flat


def add_figures(figures: dict[str, Any], added: Mapping[str, float | Figure]) -> None:
    """Put what plugins measured of a split beside its figures, as `Figure` says; no list or dict is added empty."""
    if added:
        plain = {name: found.value if isinstance(found, Figure) else found for name, found in added.items()}
        figures["plugins"] = {name: float(value) for name, value in plain.items()}
    if larger := [name for name, found in added.items() if isinstance(found, Figure) and found.higher_is_better]:
        figures["higher_is_better"] = larger


def higher_is_better(monitor: str, figures: Mapping[str, Any]) -> bool:
    """Whether the best value of a figure is its largest: success rates are so, and what a plugin says of its own."""
    if monitor.startswith("plugins."):
        return monitor.removeprefix("plugins.") in figures.get("higher_is_better", ())
    return "sdr_percent" in monitor
