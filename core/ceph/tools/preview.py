"""Training films as the network will be given them, to look at before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from ceph.data.dataset import Films
from ceph.data.plan import Entry, EpochPlan, plan_epoch
from ceph.report.sheet import Picture, Tile, sheet
from ceph.run.prepare import AnyConfig, Prepared, as_resolved, prepare

NOTES = (  # above the films
    "A row is a training film: first as it is, at the network's size, then as epochs of the run are given it.",
    "Circles: the marked points that train. Every epoch draws anew; plugins may change how, over the epochs.",
)


def preview(config: AnyConfig, films: int = 6, draws: int = 4) -> Picture:
    """A contact sheet [H, W, 3], RGB: a row for each film, first as it is, then in `draws` of its draws.

    `config` is resolved, a mapping, or a file. Raises ConfigError or DataError as a dry run does.
    """
    rows = draw_films(config, films, draws)
    return sheet(rows, NOTES)


def draw_films(config: AnyConfig, films: int, draws: int) -> list[list[Tile]]:
    """The tiles of a preview, a row for each of the first `films` films of the first epoch (fewer if it has fewer).

    A row begins with the plain film, letterboxed. Then come its draws, exactly as training loads them, in epochs that
    are spread over the run; where an epoch leaves the film out, its next draw after that, and at the end fewer.
    """
    prepared = prepare(as_resolved(config))
    epochs = max(prepared.run.epochs, draws)
    wanted = [round(epoch) for epoch in np.linspace(0, epochs - 1, draws)]
    planned = cache(lambda epoch: entries_of(plan(prepared, epoch)))
    plain = replace(prepared.train, augmentation=None)
    rows = []
    for film in list(planned(0))[:films]:
        row = [tile(plain, Entry(film, prepared.run.size, 0), prepared.run.samples[film].id)]
        for epoch in when_drawn([film in planned(epoch) for epoch in range(epochs)], wanted):
            entry = planned(epoch)[film]
            size = "" if entry.size == prepared.run.size else f", {entry.size[0]} x {entry.size[1]} px"
            row.append(tile(prepared.train, entry, f"epoch {epoch + 1}{size}"))
        rows.append(row)
    return rows


def when_drawn(drawn: Sequence[bool], wanted: Sequence[int]) -> list[int]:
    """For each wanted epoch the next that draws a film and is not taken, round to the first; none is taken twice."""
    taken: list[int] = []
    for start in wanted:
        order = [*range(start, len(drawn)), *range(start)]
        taken += [epoch for epoch in order if drawn[epoch] and epoch not in taken][:1]
    return sorted(taken)


def plan(prepared: Prepared, epoch: int) -> EpochPlan:
    """The plan of an epoch as training makes it, with plugins that remember nothing yet."""
    run, hooks, settings = prepared.run, prepared.hooks, prepared.config.train
    weights = hooks.product("sample_weights", (len(run.samples),), epoch=epoch, samples=run.samples)

    def batch_shape(index: int) -> tuple[int, int]:
        shape: tuple[int, int] = hooks.one(
            "batch_shape", lambda: run.size, epoch=epoch, index=index, size=run.size, seed=settings.seed
        )
        return shape

    return plan_epoch(
        len(run.samples),
        settings.batch_size,
        seed=settings.seed,
        epoch=epoch,
        size=run.size,
        weights=None if weights is None else weights.double().numpy(),
        batch_shape=batch_shape,
        constant_pixels=settings.constant_pixels,
    )


def entries_of(epoch_plan: EpochPlan) -> dict[int, Entry]:
    """The first entry of each film of an epoch, in the order in which they are loaded."""
    found: dict[int, Entry] = {}
    for batch in epoch_plan.batches:
        for entry in batch:
            found.setdefault(entry.film, entry)
    return found


def tile(films: Films, entry: Entry, caption: str) -> Tile:
    """One loaded film with those of its points that train."""
    item = films[entry]
    return Tile(item.image.numpy(), item.points[item.valid].numpy(), caption)
