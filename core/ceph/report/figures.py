"""Figures of a run for a paper: PNG (300 dpi), SVG and PDF, one column (3.5 in) or two (7 in) wide, legible in grey."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ceph.errors import ConfigError, DataError
from ceph.evaluation.metrics import THRESHOLDS_MM
from ceph.files import replacing
from ceph.report.curves import best_epoch
from ceph.report.film import cut_film, worst_names
from ceph.report.findings import Films, Split, cumulative, find_splits, landmark_rows
from ceph.report.record import Record
from ceph.runfolder import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_IN, PAGE_IN = 3.5, 7.0
DPI = 300
SUFFIXES = (".png", ".svg", ".pdf")
FONT_PT = 6.0  # of what is written on films
LONG_SIDE = 900  # px of a film, at most
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, embedded; journals refuse Type 3
    "svg.fonttype": "path",  # letters as shapes: the same on every machine
    "svg.hashsalt": "ceph",
    "text.parse_math": False,  # a dollar sign in a name begins no formula
}


def write_figures(record: Record, films: Films, folder: Path) -> list[Path]:
    """Write learning curves, and of each scored split the error curve, the landmarks and films, into `folder`.

    Returns the files. Raises ConfigError where one cannot be written.
    """
    import matplotlib as mpl

    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            for name, figure in _figures(record, films):
                for suffix in SUFFIXES:
                    path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}{suffix}"
                    undated = {"Date": None} if suffix == ".svg" else None
                    with replacing(path) as file:
                        figure.savefig(file, format=suffix[1:], dpi=DPI, metadata=undated)
                    written.append(path)
    except OSError as error:
        raise ConfigError(
            f"cannot write into {folder}: {(error.strerror or str(error)).lower()}", key="--figures"
        ) from error
    return written


def _figures(record: Record, films: Films) -> Iterator[tuple[str, Figure]]:
    """Each figure with its name, made when it is asked for."""
    if record.epochs:
        yield "learning", learning(record)
    for split in find_splits(record, films):
        if not split.order:
            continue
        name = split.name
        yield f"errors-{name}", error_curve(split)
        yield f"landmarks-{name}", landmarks(split)
        drawn = film_row(split)
        if drawn is not None:
            yield f"films-{name}", drawn


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def learning(record: Record) -> Figure:
    """Training and validation error over the epochs, and the validation's success rate; two columns wide."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    figure = _figure(PAGE_IN, 2.4)
    error, rate = figure.subplots(1, 2)
    x = [number(epoch, "epoch") + 1 for epoch in record.epochs]
    for name, style, path in (("training", ":", ("train_mre_mm",)), ("validation", "-", ("validation", "mre_mm"))):
        error.plot(x, [number(epoch, *path) for epoch in record.epochs], style, color="black", label=name)
    error.set(yscale="log", xlabel="epoch", ylabel="mean radial error (mm)")
    error.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    error.yaxis.set_major_formatter("{x:g}")
    error.yaxis.set_minor_formatter(NullFormatter())
    for threshold, style in zip(THRESHOLDS_MM, ("-", "--", "-.", ":"), strict=True):
        values = [number(epoch, "validation", "sdr_percent", f"{threshold:.1f}") for epoch in record.epochs]
        rate.plot(x, values, style, color="black", label=f"{threshold:g} mm")
    rate.set(xlabel="epoch", ylabel="success detection rate (%)", ylim=(0, 100))
    best = best_epoch(record)
    for axes in (error, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if best is not None:
            axes.axvline(x[best], color="0.6", linewidth=0.6, zorder=0, label="best epoch" if axes is error else None)
    error.legend()
    rate.legend(title="validation, within", loc="lower right", ncols=2)
    return figure


def error_curve(split: Split) -> Figure:
    """The percent of points within each radial error, the readers' distance beside it; one column wide."""
    figure = _figure(COLUMN_IN, 2.6)
    axes = figure.subplots()
    errors, percent = cumulative(split.scored.errors_mm)
    axes.step(errors, percent, where="post", color="black", label="model")
    if split.readers is not None:
        axes.step(
            *cumulative(split.readers.apart_mm), where="post", color="black", linestyle="--", label="readers apart"
        )
    for threshold in THRESHOLDS_MM:
        axes.axvline(threshold, color="0.6", linewidth=0.6, linestyle=":", zorder=0)
        found = split.figures["sdr_percent"][f"{threshold:.1f}"]
        axes.plot(threshold, found, "o", color="black", markersize=3)
    reach = min(8.0, max(5.0, float(np.ceil(np.quantile(errors, 0.99)))))
    axes.set(xlim=(0, reach), ylim=(0, 100), xlabel="radial error (mm)", ylabel="points (%)")
    axes.legend(loc="lower right")
    return figure


def landmarks(split: Split) -> Figure:
    """Mean radial error of each landmark with its 95 % interval, the worst on top; one column wide."""
    rows = landmark_rows(split)
    figure = _figure(COLUMN_IN, 0.7 + 0.17 * len(rows))
    axes = figure.subplots()
    for y, row in enumerate(rows):
        if np.isfinite(row["interval"]).all():
            axes.plot(row["interval"], [y, y], color="black", linewidth=1)
    places = list(range(len(rows)))
    axes.plot([row["mre_mm"] for row in rows], places, "o", color="black", markersize=3.5, label="mean radial error")
    if split.readers is not None:
        apart = [row["apart_mm"] for row in rows]
        axes.plot(apart, places, "D", color="black", markerfacecolor="white", markersize=3.5, label="readers apart")
        axes.legend(loc="lower right")
    axes.set_yticks(places, [row["symbol"] for row in rows])
    axes.set(xlabel="mm", xlim=(0, None), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    return figure


def film_row(split: Split) -> Figure | None:
    """The best, the median and the worst film with prediction and truth; two columns wide, None without films."""
    order = [f for f in split.order if split.samples[f] is not None]
    if not order:
        return None
    chosen = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    figure = _figure(PAGE_IN, 3.0)
    for axes, (name, f) in zip(figure.subplots(1, 3), chosen.items(), strict=True):
        axes.set_title(f"{name}: {split.scored.ids[f]}, {split.film_mm[f]:.2f} mm")
        axes.axis("off")
        axes.set_anchor("N")
        try:
            _draw_film(axes, split, f)
        except (DataError, OSError) as error:
            axes.text(0, 0.5, str(error), wrap=True, transform=axes.transAxes)
    figure.supxlabel("circle: truth; cross: prediction; the numbers are errors in mm", fontsize=7)
    return figure


def _draw_film(axes: Axes, split: Split, f: int) -> None:
    """The film's part around its landmarks, in mm: circles are true, crosses found, the worst landmarks named."""
    sample, scored = split.samples[f], split.scored
    if sample is None:
        return
    cut = cut_film(sample, scored.points_px[f], scored.truth_px[f])
    width, height = cut.size_mm
    axes.imshow(
        cut.shrunk(LONG_SIDE), cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="none"
    )
    found, truth = cut.to_mm(scored.points_px[f]), cut.to_mm(scored.truth_px[f])
    for line, colour in ((2.2, "black"), (0.8, "white")):
        for a, b in zip(truth, found, strict=True):
            axes.plot(*zip(a, b, strict=True), color=colour, linewidth=line * 0.7)
        axes.plot(*truth.T, "o", color=colour, markerfacecolor="none", markersize=4, markeredgewidth=line)
        axes.plot(*found.T, "x", color=colour, markersize=3.5, markeredgewidth=line)
    letter = FONT_PT / 72 / (PAGE_IN / 3) * width  # mm of the film that a letter is high
    named = worst_names(cut, scored.landmarks, found, truth, scored.errors_mm[f], 3, (0.6 * letter, letter))
    for k, text, (left, top, right, bottom) in named:
        near = min(max(found[k, 0], left), right), min(max(found[k, 1], top), bottom)
        axes.plot(*zip(found[k], near, strict=True), color="white", linewidth=0.4)
        _written(axes, left, bottom - 0.2 * letter, text)
    axes.plot([4, 24], [height - 4] * 2, color="white", linewidth=1.5)
    _written(axes, 4, height - 8, "20 mm")


def _written(axes: Axes, x: float, y: float, text: str) -> None:
    from matplotlib.patheffects import withStroke

    axes.text(x, y, text, color="white", fontsize=FONT_PT, path_effects=[withStroke(linewidth=1.5, foreground="black")])
