"""What people did to a model's points, as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def saved_line(figures: Mapping[str, Any]) -> str:
    """What share of the marking the model saved, with intervals over films."""
    ranges = figures["interval_95"]

    def share(name: str, of: Mapping[str, Any], within: Mapping[str, Any]) -> str:
        low_high = f" ({within[name][0]:.1f} to {within[name][1]:.1f})" if within else ""
        return f"{of[name]:.1f} %{low_high}"

    mm, mm_ranges = figures["within_mm_percent"], ranges.get("within_mm_percent", {})
    within = ", ".join(f"within {t} mm {share(t, mm, mm_ranges)}" for t in mm)
    return (
        f"{figures['points']} points on {figures['films']} films, seen by {figures['reader']}: left as they were "
        f"{share('left_percent', figures, ranges)}; {within}; films that needed nothing: {figures['untouched_films']}"
        + (f"; points that were taken away: {figures['removed']}" if figures["removed"] else "")
    )


def corrections_table(figures: Mapping[str, Any]) -> Table:
    """How many points of each landmark were moved, and how far; the most moved first."""
    table = Table(title="points that were moved", title_justify="left", title_style="bold")
    table.add_column("landmark", no_wrap=True)
    for name in ("moved", "of", "%", "mean mm", "median", "largest", "taken away"):
        table.add_column(name, justify="right", no_wrap=True)
    most_first = sorted(figures["per_landmark"].items(), key=lambda item: item[1]["left_percent"] or 0.0)
    for symbol, row in [*most_first, ("all", figures)]:
        if symbol == "all":
            table.add_section()
        moved, left = row["moved"], row["left_percent"]
        mm = [f"{moved[key]:.2f}" if key in moved else "-" for key in ("mean_mm", "median_mm", "max_mm")]
        percent = "-" if left is None else f"{100 - left:.1f}"
        table.add_row(symbol, str(moved["points"]), str(row["points"]), percent, *mm, str(row["removed"]))
    return table
