"""What a run knows of itself by films that did not train it: radii of its points, and what films usually look like."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph import runfolder
from ceph.data.types import Sample
from ceph.errors import DataError
from ceph.evaluation import gate, radius
from ceph.evaluation.gate import Usual
from ceph.evaluation.offsets import turns
from ceph.evaluation.predict import Prediction
from ceph.evaluation.radius import Radii

log = logging.getLogger("ceph")

Floats = NDArray[np.float64]


def keep(folder: Path, split: str, landmarks: Sequence[str], found: Prediction) -> None:
    """Write what the held-out films of `split` teach into the run `folder`; nothing where they are too few."""
    mm = found.mm_per_px[:, None]
    radii = radius.learn(found.errors_mm, found.spread_px * mm)
    truth_mm = np.where(found.valid[..., None], found.truth_px * mm[..., None], np.nan)
    usual = gate.learn(truth_mm, found.stages[gate.STAGE][1])
    if radii is None or usual is None:
        return
    known = runfolder.HeldOut(
        split,
        tuple(landmarks),
        radius.LEVELS,
        radii.factors,
        radii.films,
        usual.shape_mm,
        usual.size_sd,
        usual.scores,
        usual.films,
    )
    runfolder.write_held_out(folder, known)


class Known:
    """What a run folder says by its held-out films; of several runs without a word of their own, what the first says.

    `radii` and `usual` are None where nothing is known of them; all is in the order of `landmarks`.
    """

    def __init__(self, folder: Path, members: Sequence[Path], landmarks: Sequence[str]) -> None:
        self.landmarks = tuple(landmarks)
        self.radii: Radii | None = None
        self.usual: Usual | None = None
        try:
            said = next((s for f in (folder, *members) if (s := runfolder.read_held_out(f)) is not None), None)
        except DataError as error:
            log.warning("no radius and no gate: %s", error.problems[0].what)
            return
        if said is None or not set(landmarks) <= set(said.landmarks):
            return
        at = [said.landmarks.index(symbol) for symbol in landmarks]
        self.radii = Radii(said.factors[at], said.films[at], said.levels)
        if said.heads:
            self.usual = Usual(said.shape_mm[at], said.size_sd, said.scores[at], said.heads)

    def radii_px(self, found: Prediction, level: float = radius.LEVEL) -> Floats | None:
        """The radius [N, K] of each point in px of its film, by `level`; None where nothing is known.

        Where a film's spacing is unknown its head is taken to be as large as heads usually are.
        """
        if self.radii is None:
            return None
        mm = np.where(np.isnan(found.mm_per_px), self._by_head(found), found.mm_per_px)[:, None]
        return self.radii.radii_mm(found.spread_px * mm, level) / mm

    def _by_head(self, found: Prediction) -> Floats:
        if self.usual is None:
            return np.full(len(found.points_px), np.nan)
        return np.abs(turns(found.points_px, self.usual.shape_mm))

    def figures(self, found: Prediction, samples: Sequence[Sample], units: NDArray[np.int64] | None) -> dict[str, Any]:
        """`{"radius": ...}`, how often truth lay within its radius, by landmark and machine; {} where none is known.

        With `units` [N] the films are those from which radii are learned, equal ones one piece of evidence: each is
        scored by what the other ones teach.
        """
        mm = found.mm_per_px[:, None]
        if units is not None:
            radii_mm = radius.held_out_radii(found.errors_mm, found.spread_px * mm, units)
        elif self.radii is not None:
            radii_mm = self.radii.radii_mm(found.spread_px * mm)
        else:
            return {}
        scored = radius.coverage(found.errors_mm, radii_mm, self.landmarks)
        if not scored["n"]:
            return {}
        machines = np.array([sample.machine for sample in samples])
        if len(names := sorted(set(machines.tolist()))) > 1:
            at = {name: machines == name for name in names}
            scored["per_machine"] = {n: radius.covered(found.errors_mm[rows], radii_mm[rows]) for n, rows in at.items()}
        return {"radius": scored}
