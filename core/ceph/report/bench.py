"""The tables that `ceph bench` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table


def bench_tables(found: Mapping[str, Any]) -> Iterator[Table | str]:
    """What was measured (`ceph.tools.bench`): the machine, a step's stages, films a second, each plugin's share."""
    size = "x".join(map(str, found["size"]))
    yield f"{found['network']}, {found['batch_size']} films of {size} px a batch"
    yield f"{found['device']}, {found['threads']} threads, torch {found['versions']['torch']}"
    yield _stages(found["stages_ms"], found["step_ms"])
    yield _rates(found)
    if found["plugins_percent"]:
        yield _plugins(found["plugins_percent"])


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left")
    table.add_column(columns[0], no_wrap=True)
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _stages(stages: Mapping[str, float], total: float) -> Table:
    table = _table("stages of a step", "stage", "ms", "%")
    for stage, milliseconds in stages.items():
        table.add_row(stage, f"{milliseconds:.2f}", f"{100 * milliseconds / total:.1f}")
    table.add_section()
    table.add_row("all", f"{total:.1f}", "100.0", style="bold")
    return table


def _rates(found: Mapping[str, Any]) -> Table:
    rates, evaluation = found["films_per_second"], found["evaluation"]
    table = _table("films a second", "what", "films/s")
    table.caption = (
        f"evaluation runs at {evaluation['share_percent']:.0f} % of the forward pass; "
        f"peak memory {found['peak_memory_mb']:.0f} MB"
    )
    for name, rate in (
        (f"training, films loaded by {found['workers'] or 'no'} workers", rates["loading"]),
        ("training, first epoch", found["first_films_per_second"]),
        ("training, films in memory", rates["preloaded"]),
        ("evaluation", evaluation["films_per_second"]),
        ("forward pass alone", evaluation["forward_films_per_second"]),
        ("decoding alone", evaluation["decoded_films_per_second"]),
    ):
        table.add_row(name, f"{rate:.2f}")
    return table


def _plugins(shares: Mapping[str, float]) -> Table:
    table = _table("plugins", "plugin", "% of a step")
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{share:.3f}")
    return table
