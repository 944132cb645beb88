"""What `ceph data check` prints: what the set holds, how its readers differ, and what is wrong film by film."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ceph.data.check.check import Checked
from ceph.data.check.findings import Finding

SHOWN = 10  # warnings of one kind that are printed; errors are printed all


def show(checked: Checked, console: Console) -> None:
    """Print all of it; with more warnings of a kind than ten the rest is counted."""
    data = checked.data
    if data is not None:
        readers = ", ".join(data.readers)
        console.print(
            f"{checked.path}: {data.format}, {len(data.samples)} films, {len(data.landmarks)} landmarks,"
            f" readers: {readers or 'none'}",
            soft_wrap=True,
        )
        console.print(_kinds(checked))
        if absent := checked.counts.get("absent"):
            said = ", ".join(f"{symbol} {n}" for symbol, n in absent.items())
            console.print(f"absent by the set's own word (films): {said}", soft_wrap=True)
        if checked.disagreement:
            console.print(_readers(checked))
    warnings = [finding for finding in checked.findings if finding.level == "warning"]
    for title, findings, limit in (("errors", checked.errors, None), ("warnings", warnings, SHOWN)):
        if findings:
            console.print(f"{title}: {len(findings)}", style="bold")
            for line in _lines(findings, limit):
                console.print(f"  {line}", soft_wrap=True)
    if not checked.findings:
        console.print("nothing is wrong")


def _lines(findings: Sequence[Finding], limit: int | None) -> list[str]:
    by_kind: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding.text)
    lines = []
    for kind, texts in by_kind.items():
        lines += texts[:limit]
        if limit is not None and len(texts) > limit:
            lines.append(f"... and {len(texts) - limit} more of this kind ({kind}); --json FILE has them all")
    return lines


def _kinds(checked: Checked) -> Table:
    table = Table(title="films", title_justify="left", title_style="bold")
    table.add_column("split")
    for column in ("films", "height px", "width px", "mm per px"):
        table.add_column(column, justify="right")
    table.add_column("machine")
    for kind in checked.counts["kinds"]:
        height, width = kind["size"]
        cells = (kind["films"], height, width, f"{kind['mm_per_px']:g}")
        table.add_row(kind["split"], *map(str, cells), kind["machine"] or "-")
    return table


def _readers(checked: Checked) -> Table:
    several = len({row.readers for row in checked.disagreement}) > 1
    table = Table(title="distance between the readers, mm", title_justify="left", title_style="bold")
    table.add_column("landmark", no_wrap=True)
    if several:
        table.add_column("readers")
    for column in ("median", "95 %", "largest", "in film", "habit x, y", "n"):
        table.add_column(column, justify="right")
    for row in sorted(checked.disagreement, key=lambda row: -row.median_mm):
        table.add_row(
            row.landmark,
            *([f"{row.readers[0]}, {row.readers[1]}"] if several else []),
            *(f"{mm:.1f}" for mm in (row.median_mm, row.p95_mm, row.largest_mm)),
            row.film,
            f"{row.habit_mm[0]:+.1f}, {row.habit_mm[1]:+.1f}",
            str(row.n),
        )
    return table
