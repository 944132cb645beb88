"""From films to points in film pixels: batches through the networks, the mean of their maps through the stations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ceph.data.dataset import Item, film_points, to_batch
from ceph.data.types import Flags, Points
from ceph.evaluation.look import Look, OpenFilm
from ceph.evaluation.means import Ensemble
from ceph.evaluation.metrics import radial_errors_mm
from ceph.evaluation.presence import presence_of
from ceph.evaluation.spread import spread_of
from ceph.evaluation.stations import Stage, Stations
from ceph.stop import signals_wait

Floats = NDArray[np.float64]

ARRAYS = ("points_px", "scores", "truth_px", "valid", "errors_mm", "spread_px", "mm_per_px", "presence")  # a row a film


@dataclass(frozen=True, eq=False)
class Prediction:
    """Points and truth [N, K, 2] in film px, scores [N, K], valid [N, K], errors [N, K] in mm (NaN: no truth).

    `stages` says where each station of decoding, in order, left points [N, K, 2] in film px and scores [N, K]; the last
    is the answer. `assumed_mm_per_px` [N] is the mm of a film pixel that a look at a film without spacing took it to
    have, else NaN; None where nobody looked. `outputs` {name: [N, ...]}, on the CPU, are of modules that see features.
    `spread_px` [N, K] is the spread of the maps about the points before `adapt` (`spread.py`), `mm_per_px` [N] of the
    films' own pixels, NaN where it is unknown; `presence` [N, K], 0..1, how sure it is that landmarks are on their
    films (`presence.py`), NaN where the network has no head that says it.
    """

    points_px: Points
    scores: Floats
    truth_px: Points
    valid: Flags
    errors_mm: Floats
    spread_px: Floats
    mm_per_px: Floats
    presence: Floats
    stages: Mapping[str, tuple[Points, Floats]] = field(default_factory=dict)
    assumed_mm_per_px: Floats | None = None
    outputs: Mapping[str, torch.Tensor] = field(default_factory=dict)


def predict(
    ensemble: Ensemble,
    films: Iterable[Sequence[Item]],
    stations: Stations,
    open_film: OpenFilm,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
) -> Prediction:
    """Find the landmarks of films, in order.

    Each element of `films` is one batch, loaded once for each of the ensemble's sizes; the first is the frame in which
    the mean of the activations is decoded. `open_film` is asked for a film (by `Item.film`) where a station looks at
    it. A batch is loaded while the one before it is computed, and of itself nothing waits for the device until all are
    launched.
    """
    frames: list[Item] = []
    decoded: list[list[Stage]] = []
    spreads: list[torch.Tensor] = []
    assumed: list[Flags] = []
    sound: list[torch.Tensor] = []
    outputs: list[Mapping[str, torch.Tensor]] = []
    with torch.inference_mode():
        for items in ahead(films):
            images = [to_batch(item, device).image for item in items]
            (maps, found), frame = ensemble.maps(items, images, autocast), items[0]
            outputs.append(found)
            size = (frame.image.shape[-2], frame.image.shape[-1])
            look = Look(frame, open_film, stations.mm_per_px, device)
            to_film = torch.linalg.inv(frame.film_to_network.double()).to(maps, non_blocking=True)
            decoded.append(stations.stages(maps, size, look, ensemble.model, to_film))
            found_at = next(stage for stage in reversed(decoded[-1]) if stage.station != "adapt")  # no doubt, a habit
            spreads.append(spread_of(maps, found_at.points, size))
            frames.append(frame._replace(image=frame.image[:0]))
            assumed.append(look.assumed)
            sound.append(maps.isfinite().all())
    parts = [_on_film(frame, stages) for frame, stages in zip(frames, decoded, strict=True)]
    truth_px, known, mm_per_px, zoom = (np.concatenate([part[i] for part in parts]) for i in range(1, 5))
    stages = _joined_stages([part[0] for part in parts])
    if all(sound):  # else it is no station's fault
        stations.require_finite({name: found for name, (found, _) in stages.items()})
    points_px, scores = list(stages.values())[-1]
    errors = radial_errors_mm(points_px, truth_px, known, mm_per_px)
    looked = np.concatenate(assumed)
    spacing = np.where(looked, stations.mm_per_px * zoom, np.nan) if looked.any() else None
    spread = np.concatenate([found.double().cpu().numpy() for found in spreads]) / zoom[:, None]
    told = _joined_outputs(outputs)
    columns = points_px, scores, truth_px, known, errors, spread, mm_per_px, presence_of(told, scores.shape)
    return Prediction(*columns, stages, spacing, told)


def ahead(films: Iterable[Sequence[Item]]) -> Iterator[Sequence[Item]]:
    """The same batches, each loaded by a thread while the one before it is in use."""
    rest = iter(films)
    with ThreadPoolExecutor(1) as thread:
        with signals_wait():
            coming = thread.submit(next, rest, None)
        while True:
            with signals_wait():  # raised inside the pool, a signal could leave one of its locks shut for ever
                if (items := coming.result()) is None:
                    return
                coming = thread.submit(next, rest, None)
            yield items


def _on_film(
    frame: Item, stages: Sequence[Stage]
) -> tuple[dict[str, tuple[Points, Floats]], Points, Flags, Floats, Floats]:
    """A batch's stages and truth in film px, valid flags, mm of a film pixel [B], network px of a film pixel [B]."""
    to_network = frame.film_to_network.numpy()

    def on_film(points: torch.Tensor) -> Points:
        return np.stack([film_points(p, m) for p, m in zip(points.double().cpu().numpy(), to_network, strict=True)])

    found = {stage.station: (on_film(stage.points), stage.scores.double().cpu().numpy()) for stage in stages}
    zoom = np.sqrt(np.abs(np.linalg.det(to_network[:, :2, :2])))
    return found, on_film(frame.points), frame.valid.numpy(), frame.mm_per_px.double().numpy() * zoom, zoom


def joined(parts: Sequence[Prediction]) -> Prediction:
    """The predictions of consecutive films, one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    assumed = [p.assumed_mm_per_px if p.assumed_mm_per_px is not None else np.full(len(p.valid), np.nan) for p in parts]
    return Prediction(
        **columns,
        stages=_joined_stages([part.stages for part in parts]),
        assumed_mm_per_px=np.concatenate(assumed) if any(p.assumed_mm_per_px is not None for p in parts) else None,
        outputs=_joined_outputs([part.outputs for part in parts]),
    )


def _joined_stages(parts: Sequence[Mapping[str, tuple[Points, Floats]]]) -> dict[str, tuple[Points, Floats]]:
    return {n: (np.concatenate([p[n][0] for p in parts]), np.concatenate([p[n][1] for p in parts])) for n in parts[0]}


def _joined_outputs(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0]}
