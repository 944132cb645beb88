"""The table of landmarks that ends a run or an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

THRESHOLDS = ("2.0", "2.5", "3.0", "4.0")


def landmark_table(figures: Mapping[str, Any], title: str) -> Table:
    """MRE, deviation and SDR of each landmark, the worst first, and of all together."""
    table = Table(
        title=title, title_justify="left", title_style="bold", caption=_ranges(figures), caption_justify="left"
    )
    table.add_column("landmark", no_wrap=True)
    for name in ("MRE mm", "SD mm", *(f"SDR {t}" for t in THRESHOLDS), "n"):
        table.add_column(name, justify="right", no_wrap=True)
    worst_first = sorted(figures["per_landmark"].items(), key=lambda item: -(item[1]["mre_mm"] or -1.0))
    for symbol, row in worst_first:
        table.add_row(symbol, *_cells(row, row["n"]))
    table.add_section()
    table.add_row("all", *_cells(figures, figures["n_points"]), style="bold")
    return table


def _ranges(figures: Mapping[str, Any]) -> str | None:
    """The intervals of MRE and SDR within 2 mm, where they were estimated."""
    found = figures.get("interval_95")
    if not found:
        return None
    (low, high), (least, most) = found["mre_mm"], found["sdr_percent"]["2.0"]
    return f"95 % over films: MRE {low:.3f} to {high:.3f} mm, SDR 2.0 {least:.1f} to {most:.1f}"


def _cells(row: Mapping[str, Any], count: int) -> list[str]:
    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return [
        number(row["mre_mm"], 2),
        number(row["sd_mm"], 2),
        *(number(row["sdr_percent"][t], 1) for t in THRESHOLDS),
        str(count),
    ]


def members_line(figures: Mapping[str, Any]) -> str:
    """What a mean of several runs costs, and what it gains over each of them alone where that is known."""
    found = figures["members"]
    alone = list(found["alone"].values())
    text = f"{found['count']} runs: {found['seconds_a_film']:.2f} s a film"
    if not alone:
        return f"{text}; each knows other landmarks, so none is scored alone"
    text += f", one alone {sum(run['seconds_a_film'] for run in alone) / len(alone):.2f} s"
    errors = [run["mre_mm"] for run in alone if run.get("mre_mm") is not None]
    if not errors or figures["mre_mm"] is None:
        return text
    mean, ours = sum(errors) / len(errors), figures["mre_mm"]
    range_ = f" ({min(errors):.3f} to {max(errors):.3f})" if len(errors) > 1 else ""
    change = f"{mean - ours:+.3f} mm ({100 * (mean - ours) / mean:+.1f} %)"
    return f"{text}; MRE {ours:.3f} mm, alone {mean:.3f}{range_}: the mean gains {change}"
