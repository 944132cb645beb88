"""report.html: one self-contained page that shows what a run was, learnt and got wrong."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ceph.errors import ConfigError, DataError
from ceph.evaluation.metrics import THRESHOLDS_MM
from ceph.files import write_text
from ceph.report import charts
from ceph.report.charts import Dot, Figure, Interval, Line
from ceph.report.curves import is_curve, learning_figures, strategy_figures
from ceph.report.film import film_svg
from ceph.report.findings import Films, Split, cumulative, find_splits, landmark_rows, mean_of
from ceph.report.floor import agreement_rows, floor_rows, floor_sentences
from ceph.report.measurements import measurement_rows, measurement_sentences
from ceph.report.presence import presence_sentences
from ceph.report.radius import radius_rows, radius_sentences
from ceph.report.record import Record
from ceph.report.text import between, digits, kept_together
from ceph.runfolder import REPORT, mapping, number

TEMPLATES = Path(__file__).parent / "templates"
WORST = 6  # films with a picture, of each split
ROWS = 12  # of a plugin's table
SAID = 8  # lines that a plugin has logged, the last
CELL = 60  # letters of a table's cell


class Picture(NamedTuple):
    """A film with its caption; without `svg` the film could not be read, and `text` says why."""

    film: str
    error_mm: float
    text: str
    svg: Markup | None


@dataclass(frozen=True)
class SplitPage:
    """What the page shows of one split."""

    split: Split
    apart_mm: float
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]
    landmarks: tuple[Mapping[str, Any], ...]  # rows of the table, the worst first
    agreement: tuple[tuple[list[str], list[list[str]]], ...]  # tables: header and rows
    floor: tuple[str, ...]
    measurements: tuple[list[str], list[list[str]]]  # header and rows
    measured: tuple[str, ...]
    radius: tuple[str, ...]
    radii: tuple[list[str], list[list[str]]]  # a table
    pictures: tuple[Picture, ...]

    @property
    def name(self) -> str:
        """The split's name."""
        return self.split.name


@dataclass(frozen=True)
class PluginPage:
    """What the page shows of one plugin."""

    name: str
    source: str
    settings: tuple[str, ...]
    share: float
    hooks: tuple[tuple[str, int, float], ...]  # name, calls, seconds
    said: tuple[str, ...]


def write_html(record: Record, films: Films) -> Path:
    """Write report.html into the run folder, in one move, and return its path. Raises ConfigError where it cannot."""
    path = record.folder / REPORT
    page = render(record, films)
    try:
        write_text(path, page)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
    return path


def render(record: Record, films: Films) -> str:
    """The page; every text in it is escaped, since names come from files."""
    command = record.environment.get("command")
    pages = [split_page(split, films) for split in find_splits(record, films)]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            record=record,
            facts=facts(record),
            pages=pages,
            thresholds=[f"{t:.1f}" for t in THRESHOLDS_MM],
            missing=films.missing,
            learning=learning_figures(record),
            strategy=strategy_figures(record),
            tables=[table for table in record.tables if not is_curve(table)],
            plugins=[plugin_page(record, name) for name in record.plugins],
            rows=ROWS,
            cell=CELL,
            command=shlex.join(map(str, command)) if isinstance(command, list) else "",
            versions=versions(record),
            changed=[s for s in record.settings if s.value and s.origin != "default"],
        )
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["digits"], made.filters["interval"] = digits, between
    return made


def facts(record: Record) -> list[tuple[str, str]]:
    """What was trained, on what, with what: the head of the page."""
    films = ", ".join(f"{count} {split}" for split, count in record.films.items())
    planned, size = record.setting("train", "epochs"), record.setting("data", "size").strip("[]").replace(", ", " × ")
    done = f"{len(record.epochs)} of {planned}" if str(len(record.epochs)) != planned else planned
    found = [
        ("State", state_of(record)),
        ("Started", str(record.environment.get("started", "")).replace("T", " ")),
        ("Network", f"{record.setting('model', 'backbone')}, input {size} px"),
        ("Films", films),
        ("Truth", record.setting("data", "truth")),
        ("Runs", ", ".join(record.members)),
        ("Epochs", "" if record.members else done),
        ("Seed", record.setting("train", "seed")),
        ("Plugins", ", ".join(record.plugins) or "none"),
        ("Weights from", str(record.environment.get("init_from") or "")),
        ("Device", str(record.environment.get("device", ""))),
    ]
    return [(name, value) for name, value in found if value]


def state_of(record: Record) -> str:
    """What the run does or how it ended, and why."""
    if record.state is None:
        return ""
    why = f": {record.state.why.partition(chr(10))[0]}" if record.state.why else ""
    return f"{record.state.state}, {record.state.since.replace('T', ' ')}{why}"


def versions(record: Record) -> list[tuple[str, str]]:
    """What the run ran with, and which test splits were looked at since."""
    environment = record.environment
    found = [(name, str(environment[name])) for name in ("python", "platform", "cpus", "device") if name in environment]
    found += [(name, str(version)) for name, version in mapping(environment, "versions").items()]
    if git := mapping(environment, "git"):
        changed = ", with changes that are not committed" if git.get("dirty") else ""
        found.append(("git", f"{git.get('commit')}{changed}"))
    opened = environment.get("opened_test_splits")
    for split in opened if isinstance(opened, list) else []:
        found.append((f"{mapping(split).get('split')} was opened", str(mapping(split).get("at"))))
    return found


# --- a split ----------------------------------------------------------------------------------------------------------


def split_page(split: Split, films: Films) -> SplitPage:
    """All that is shown of a split."""
    readers = split.readers
    apart = float(mean_of(readers.apart_mm)) if readers else math.nan
    return SplitPage(
        split,
        apart,
        tuple(kept_together(sentence) for sentence in sentences(split, films)),
        tuple(split_figures(split)),
        tuple(landmark_rows(split)),
        (floor_rows(split.agreement), agreement_rows(split.agreement)) if split.agreement else (),
        tuple(kept_together(f"{sentence}.") for sentence in floor_sentences(split.agreement)),
        measurement_rows(split.measured),
        tuple(kept_together(f"{sentence}.") for sentence in measurement_sentences(split.measured)),
        tuple(kept_together(f"{sentence}.") for sentence in radius_sentences({"radius": split.radius})),
        radius_rows({"radius": split.radius}),
        tuple(pictures(split)),
    )


def sentences(split: Split, films: Films) -> Iterable[str]:
    """The result in words, and the readers' disagreement beside it."""
    figures, scored = split.figures, split.scored
    if figures["mre_mm"] is None:
        yield "No film of this split has a truth to compare with."
        return
    low, high = split.interval_mm
    range_ = f" (95 % interval over films: {low:.2f} to {high:.2f} mm)" if math.isfinite(low) else ""
    within = figures["sdr_percent"]["2.0"]
    yield (
        f"{len(scored.ids)} films, {figures['n_points']} points: "
        f"the mean radial error is {figures['mre_mm']:.2f} mm{range_}; "
        f"{within:.1f} % of the points are within 2 mm."
    )
    yield from (f"{sentence}." for sentence in presence_sentences(figures))
    if split.readers is None:
        if len(films.readers) < 2 and not films.missing:
            yield "The set has one reader, so there is no human disagreement to compare with."
        return
    apart = float(mean_of(split.readers.apart_mm))
    agree = 100 * float((split.readers.apart_mm[np.isfinite(split.readers.apart_mm)] <= 2.0).mean())
    text = f"The readers of these films are {apart:.2f} mm apart on average"
    text += f", and within 2 mm of each other in {agree:.1f} % of the points"
    if split.truth == "mean":
        own = float(mean_of(split.readers.from_truth_mm))
        text += f"; each is {own:.2f} mm from their mean, which is the truth here"
        text += " (a reader is part of that mean, the model is not)"
    yield f"{text}."


def split_figures(split: Split) -> Iterable[Figure]:
    """Error curve, landmarks with intervals, error against disagreement."""
    scored, readers = split.scored, split.readers
    errors, percent = cumulative(scored.errors_mm)
    if not len(errors):
        return
    reach = min(8.0, max(5.0, math.ceil(float(np.quantile(errors, 0.99)))))
    lines = [Line("model", *_thinned(errors, percent, reach))]
    if readers is not None:
        lines.append(Line("readers", *_thinned(*cumulative(readers.apart_mm), reach)))
    sdr = split.figures["sdr_percent"]
    marks = [(t, f"{sdr[f'{t:.1f}']:.0f} %") for t in THRESHOLDS_MM]
    yield Figure(
        "Radial error",
        charts.line_chart(
            "Cumulative radial error",
            lines,
            x_label="radial error, mm",
            y_label="% of points no farther off",
            marks=marks,
            x_range=(0, reach),
            y_range=(0, 100),
            height=250,
        ),
        "Percentages on top: the model's points within 2, 2.5, 3 and 4 mm."
        + (" Dashed: the readers' distance from each other." if readers is not None else ""),
    )
    rows = landmark_rows(split)
    yield Figure(
        "By landmark",
        charts.row_chart(
            "Mean radial error of each landmark",
            [Interval(r["symbol"], r["mre_mm"], r["interval"][0], r["interval"][1], r["apart_mm"]) for r in rows],
            x_label="mm",
            value="mean radial error",
            other="readers apart" if readers is not None else "",
        ),
        "Lines: 95 % intervals over films, of this network; another seed may differ by more.",
    )
    dots = [Dot(r["symbol"], r["apart_mm"], r["mre_mm"]) for r in rows if math.isfinite(r["apart_mm"] + r["mre_mm"])]
    if dots:
        slopes = [(1.0, "as far as readers are apart"), (0.5, "half as far")]
        yield Figure(
            "Error against disagreement",
            charts.dot_chart(
                "Error against the readers' disagreement, by landmark",
                dots,
                x_label="readers apart, mm",
                y_label="mean radial error, mm",
                slopes=slopes,
            ),
            "Left of the dashed line the model is farther from the truth than the readers are from each other: "
            "there is something to learn."
            + (" Dotted: how far two readers are from their mean." if split.truth == "mean" else ""),
        )


def _thinned(errors: Any, percent: Any, reach: float, steps: int = 160) -> tuple[list[float], list[float]]:
    """A cumulative curve at even steps up to `reach` mm."""
    x = np.linspace(0, reach, steps + 1)
    counts = np.searchsorted(errors, x, side="right")
    return x.tolist(), np.where(counts > 0, percent[np.maximum(counts - 1, 0)], 0.0).tolist()


def pictures(split: Split) -> Iterable[Picture]:
    """The worst films, drawn; nothing where the films are not to be found."""
    scored, film_mm = split.scored, split.film_mm
    for f in split.order[:WORST]:
        sample = split.samples[f]
        if sample is None:
            continue
        errors = scored.errors_mm[f]
        worst = [int(k) for k in np.argsort(-np.nan_to_num(errors))[:3]]
        text = (
            "worst: "
            + ", ".join(f"{scored.landmarks[k]} {errors[k]:.1f}" for k in worst if np.isfinite(errors[k]))
            + " mm"
        )
        try:
            radii = None if scored.radii_mm is None else scored.radii_mm[f]
            svg = film_svg(sample, scored.landmarks, scored.points_px[f], scored.truth_px[f], errors, radii)
        except (DataError, OSError) as error:
            yield Picture(sample.id, float(film_mm[f]), str(error), None)
        else:
            yield Picture(sample.id, float(film_mm[f]), text, svg)


# --- plugins ----------------------------------------------------------------------------------------------------------


def plugin_page(record: Record, name: str) -> PluginPage:
    """What one plugin was, cost and said."""
    about, cost = mapping(record.plugins, name), mapping(record.cost, "plugins", name)
    own = [s for s in record.settings if s.path[:2] == ("plugins", name) and s.value and s.origin != "default"]
    hooks = [
        (hook, int(number(cost, "hooks", hook, "calls")), number(cost, "hooks", hook, "seconds"))
        for hook in mapping(cost, "hooks")
    ]
    said = [message.removeprefix(f"{name}: ") for _, message in record.log if message.startswith(f"{name}: ")]
    before = [f"... (before: {len(said) - SAID} more, in log.txt)"] if len(said) > SAID else []
    source = " ".join(str(about.get(part, "")) for part in ("version", "source"))
    return PluginPage(
        name,
        f"{source}, sha256 {str(about.get('sha256', ''))[:12]}",
        tuple(f"{'.'.join(s.path[2:]) or 'on'}: {s.value} ({s.origin})" for s in own),
        number(cost, "step_percent"),
        tuple(hooks),
        (*before, *said[-SAID:]),
    )
