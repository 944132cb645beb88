"""What a run knows of itself by films that did not train it: radii of its points, and what films usually look like."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ceph import runfolder
from ceph.data.types import Sample
from ceph.errors import DataError
from ceph.evaluation import gate, radius
from ceph.evaluation.difficulty import Shape, apart_mm, difficulty, difficulty_px
from ceph.evaluation.gate import Usual
from ceph.evaluation.predict import Prediction
from ceph.evaluation.radius import Radii

log = logging.getLogger("ceph")

Floats = NDArray[np.float64]

ADAPT = "adapt"  # where the films of `ceph adapt` stand in the fingerprint
TRAINED = 0.1  # of the films that are held out may be copies of some that trained


def are_held_out(digests: Sequence[str], trained: Mapping[str, str]) -> bool:
    """Whether films, by their digests, did not train a run whose fingerprint has the `trained` ones; but for a few.

    The validation films of one of several runs may have trained the others.
    """
    known = {marks.partition(":")[0] for marks in trained.values()}
    return sum(digest in known for digest in digests) < TRAINED * len(digests)


def keep(folder: Path, split: str, landmarks: Sequence[str], found: Prediction, units: NDArray[np.int64]) -> None:
    """Write what the held-out films of `split` teach into the run `folder`; nothing where they are too few.

    Films of equal `units` [N] are one piece of evidence.
    """
    radii = radius.learn(found.errors_mm, _held_out_difficulty(found, units))
    usual = gate.learn(_truth_mm(found), found.stages[gate.STAGE][1])
    if radii is not None and usual is not None:
        write(folder, split, landmarks, radii, usual)


def write(folder: Path, split: str, landmarks: Sequence[str], radii: Radii, usual: Usual) -> None:
    """Write what films of `split` have taught into the run `folder`; a usual score of NaN: the gate cannot tell."""
    (mean, covariance), of_points = usual.shape, (radii.levels, radii.factors, radii.films)
    known = runfolder.HeldOut(split, tuple(landmarks), *of_points, mean, covariance, usual.size_sd, usual.scores)
    runfolder.write_held_out(folder, known)


def _truth_mm(found: Prediction) -> Floats:
    return np.where(found.valid[..., None], found.truth_px * found.mm_per_px[:, None, None], np.nan)


def _held_out_difficulty(found: Prediction, units: NDArray[np.int64]) -> Floats:
    """Difficulties [N, K] in mm by the shape of films of other units."""
    mm = found.mm_per_px[:, None]
    apart = apart_mm(found.points_px * mm[..., None], _truth_mm(found), units)
    return difficulty(found.scores, found.spread_px * mm, apart)


class Known:
    """What a run folder says by its held-out films; of several runs without a word of their own, what the first says.

    `radii` and `shape`, and `usual` of the gate, are None where nothing is known; all is in the order of `landmarks`.
    """

    def __init__(self, folder: Path, members: Sequence[Path], landmarks: Sequence[str]) -> None:
        self.landmarks, self.split = tuple(landmarks), ""
        self.radii: Radii | None = None
        self.shape: Shape | None = None
        self.usual: Usual | None = None
        try:
            said = next((s for f in (folder, *members) if (s := runfolder.read_held_out(f)) is not None), None)
        except DataError as error:
            log.warning("no radius and no gate: %s", error.problems[0].what)
            return
        if said is None and (old := [f for f in (folder, *members) if (f / runfolder.HELD_OUT).exists()]):
            told = "no radius and no gate: another version wrote %s; what this one knows writes: ceph evaluate %s"
            log.warning(told, old[0] / runfolder.HELD_OUT, folder)
        if said is None or not set(landmarks) <= set(said.landmarks):
            return
        self.split = said.split
        at = [said.landmarks.index(symbol) for symbol in landmarks]
        both = [2 * k + axis for k in at for axis in (0, 1)]
        self.radii = Radii(said.factors[at], said.films[at], said.levels)
        self.shape = Shape(said.shape_mm[at], said.covariance[np.ix_(both, both)])
        if not np.isnan(scores := said.scores[at]).all():
            self.usual = Usual(self.shape, said.size_sd, scores)

    def radii_px(
        self, found: Prediction, level: float = radius.LEVEL, mirrored: Sequence[bool] | None = None
    ) -> Floats | None:
        """The radius [N, K] of each point in px of its film, by `level`; None where nothing is known.

        Where a film's spacing is unknown its head is taken to be as large as heads usually are. `mirrored` [N] says of
        which films the points are those of a head that faces the other way.
        """
        if self.radii is None or self.shape is None:
            return None
        points = found.points_px
        if mirrored is not None:
            points = np.where(np.array(mirrored)[:, None, None], points * (-1, 1), points)
        hard = difficulty_px(points, found.scores, found.spread_px, found.mm_per_px, self.shape)
        return self.radii.radii_mm(hard, level)

    def radii_mm(self, found: Prediction, units: NDArray[np.int64] | None) -> Floats | None:
        """The radius [N, K] of each point in mm, NaN unknown; None where none is known.

        With `units` [N] the films are those from which radii are learned, equal ones one piece of evidence: each has
        what the other ones teach; where these are too few, what the films of `ceph adapt` have taught.
        """
        if units is not None:
            own = radius.held_out_radii(found.errors_mm, _held_out_difficulty(found, units), units)
            if self.split != ADAPT or not np.isnan(own).all():
                return own
        radii_px = self.radii_px(found)
        return None if radii_px is None else radii_px * found.mm_per_px[:, None]

    def figures(self, errors_mm: Floats, radii_mm: Floats | None, samples: Sequence[Sample]) -> dict[str, Any]:
        """`{"radius": ...}`, how often truth lay within its radius, by landmark and machine; {} where none is known."""
        if radii_mm is None or not (scored := radius.coverage(errors_mm, radii_mm, self.landmarks))["n"]:
            return {}
        machines = np.array([sample.machine for sample in samples])
        if len(names := sorted(set(machines.tolist()))) > 1:
            at = {name: machines == name for name in names}
            scored["per_machine"] = {n: radius.covered(errors_mm[rows], radii_mm[rows]) for n, rows in at.items()}
        return {"radius": scored}
