"""What changed from epoch to epoch: errors, loss and rate, and what plugins weighed, drew and measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ceph.evaluation.metrics import THRESHOLDS_MM, flatten, higher_is_better
from ceph.report import charts
from ceph.report.charts import Figure, Line
from ceph.report.record import Record, Table
from ceph.runfolder import mapping, number

CURVES = 12  # charts of figures that plugins give
LABELLED = 8  # lines of a chart that have a label


def learning_figures(record: Record) -> list[Figure]:
    """Error, success rate, loss and learning rate over the epochs; nothing before the first."""
    epochs = record.epochs
    if not epochs:
        return []
    x = [number(epoch, "epoch") + 1 for epoch in epochs]
    best = best_epoch(record)
    marks = [] if best is None else [(x[best], f"best: {x[best]:.0f}")]

    def curve(name: str, *path: str) -> Line:
        return Line(name, x, [number(epoch, *path) for epoch in epochs])

    def chart(title: str, lines: Sequence[Line], y_label: str, caption: str = "", **settings: Any) -> Figure:
        return Figure(
            title, charts.line_chart(title, lines, x_label="epoch", y_label=y_label, marks=marks, **settings), caption
        )

    groups = list(dict.fromkeys(zip(*map(_rates, epochs), strict=False)))
    errors = [curve("train", "train_mre_mm"), curve("validation", "validation", "mre_mm")]
    found = [
        chart(
            "Radial error",
            errors,
            "mm, logarithmic",
            "Training errors are those of the moment, on augmented films.",
            log=True,
        ),
        chart(
            "Success rate, validation",
            [curve(f"{t:g} mm", "validation", "sdr_percent", f"{t:.1f}") for t in THRESHOLDS_MM],
            "% of points within",
            y_range=(0, 100),
        ),
        chart("Training loss", [curve("", "loss")], "loss"),
    ]
    if groups:
        lines = [Line("" if len(groups) == 1 else f"group {i + 1}", x, group) for i, group in enumerate(groups[:4])]
        found.append(chart("Learning rate, after the epoch", lines, "rate"))
    return found


def _rates(epoch: Mapping[str, Any]) -> list[float]:
    found = epoch.get("lr")
    return [rate for rate in found if isinstance(rate, int | float)] if isinstance(found, list) else []


def best_epoch(record: Record) -> int | None:
    """The index of the epoch that `train.monitor` finds best; None where no epoch has that figure."""
    monitor = record.setting("train", "monitor").strip('"') or "mre_mm"
    if monitor == "last":
        return len(record.epochs) - 1 if record.epochs else None
    values = [flatten(mapping(epoch, "validation")).get(monitor, math.nan) for epoch in record.epochs]
    known = [i for i, value in enumerate(values) if math.isfinite(value)]
    upwards = any(higher_is_better(monitor, mapping(epoch, "validation")) for epoch in record.epochs)
    return min(known, key=lambda i: -values[i] if upwards else values[i], default=None)


def strategy_figures(record: Record) -> list[Figure]:
    """What plugins changed while training: weights, sizes, figures of their own and curves from their tables."""
    return [*_weights(record), *_sizes(record), *_plugin_curves(record), *_table_curves(record)]


def _weights(record: Record) -> Iterable[Figure]:
    x = [number(epoch, "epoch") + 1 for epoch in record.epochs]
    names = list(dict.fromkeys(name for epoch in record.epochs for name in mapping(epoch, "landmark_weights")))
    series = {name: [number(epoch, "landmark_weights", name) for epoch in record.epochs] for name in names}
    if not any(math.isfinite(v) and abs(v - 1) > 1e-3 for values in series.values() for v in values):
        return
    last = sorted(names, key=lambda name: next((v for v in reversed(series[name]) if math.isfinite(v)), 1.0))
    labelled = {*last[:3], *last[-5:]} if len(last) > 9 else set(last)
    lines = [Line(name, x, series[name], name not in labelled) for name in sorted(names, key=lambda n: n in labelled)]
    by = [name for name in record.plugins if "landmark_weights" in mapping(record.cost, "plugins", name, "hooks")]
    yield Figure(
        "Weight of each landmark in the loss",
        charts.line_chart(
            "Weight of each landmark", lines, x_label="epoch", y_label="weight, mean of all is 1", height=280
        ),
        "Mean over the films drawn in the epoch. "
        + (f"Answered by {', '.join(by)}. " if by else "")
        + ("Named: the heaviest and the lightest at the end." if len(labelled) < len(names) else ""),
    )


def _sizes(record: Record) -> Iterable[Figure]:
    counts = [mapping(epoch, "sizes") for epoch in record.epochs]
    names = sorted(
        {name for sizes in counts for name in sizes},
        key=lambda name: [int(p) if p.isdigit() else 0 for p in name.split("x")],
    )
    if len(names) < 2 or len(names) > 40:
        return
    totals = [sum(number(sizes, name) for name in sizes) or 1.0 for sizes in counts]
    shares = [
        [(number(sizes, name) if name in sizes else 0.0) / total for name in names]
        for sizes, total in zip(counts, totals, strict=True)
    ]
    yield Figure(
        "Sizes drawn",
        charts.share_chart("Sizes drawn", [name.replace("x", " × ") for name in names], shares, x_label="epoch"),
        "Height × width of the network's image in px; the area of a circle is the share of the epoch's films.",
    )


def _plugin_curves(record: Record) -> Iterable[Figure]:
    x = [number(epoch, "epoch") + 1 for epoch in record.epochs]
    names = list(dict.fromkeys(name for epoch in record.epochs for name in mapping(epoch, "validation", "plugins")))
    for name in names[:CURVES]:
        values = [number(epoch, "validation", "plugins", name) for epoch in record.epochs]
        yield Figure(
            name,
            charts.line_chart(name, [Line("", x, values)], x_label="epoch", y_label=name),
            "A plugin's figure of the validation.",
        )


def is_curve(table: Table) -> bool:
    """Whether a plugin's table is one of numbers over epochs."""
    columns = range(1, len(table.header))
    return (
        table.header[:1] == ("epoch",)
        and len(table.header) > 1
        and all(any(map(math.isfinite, table.numbers(c))) for c in columns)
    )


def _table_curves(record: Record) -> Iterable[Figure]:
    for table in filter(is_curve, record.tables):
        series = [Line(name[:40], table.numbers(0), table.numbers(c + 1)) for c, name in enumerate(table.header[1:])]
        lines = [line._replace(faint=i >= LABELLED) for i, line in enumerate(series)]
        yield Figure(
            table.name, charts.line_chart(table.name, lines, x_label="epoch", y_label=""), "Written by a plugin."
        )
