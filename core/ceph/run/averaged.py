"""Several runs as one: the mean of all their maps; a film of a cross-validation is scored by who never saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ceph import runfolder
from ceph.config.load import Resolved
from ceph.data.dataset import Films
from ceph.data.formats.splits import OUT_OF_FOLD
from ceph.errors import ConfigError
from ceph.evaluation.folds import folds_of
from ceph.evaluation.means import Member, OnLandmarks
from ceph.evaluation.metrics import summarise
from ceph.evaluation.predict import Prediction, joined
from ceph.evaluation.stations import MeanLook, Stations
from ceph.run.trained import Trained, timed

TIMED = 8  # films by which the cost is measured where not all are predicted


class Averaged(Trained):
    """The runs of a folder as one: the landmarks, the frame and what comes after the maps are the first one's.

    But for the second look: all runs of these landmarks look again at what the mean of the maps says.
    """

    def __init__(self, folder: Path, resolved: Resolved, members: tuple[Trained, ...]) -> None:
        first = members[0]
        self.folder, self.resolved, self.config, self.members = folder, resolved, resolved.config, members
        self.landmarks, self.stations_state, self.model = first.landmarks, first.stations_state, first.model
        self.hooks, self.runtime, self.run = first.hooks, first.runtime, first.run

    def others(self) -> tuple[Member, ...]:
        """The other runs' networks, each at its own size; those that lack a landmark leave it."""
        return tuple(self._member(member) for member in self.members[1:])

    def stations(self) -> Stations:
        """The first run's, and the mean of the second looks of those runs that have one."""
        own = super().stations()
        alike = [member for member in self.members if member.landmarks == self.landmarks]
        refiners = [(member.evaluator.stations.refiner, member) for member in alike]
        looks = [(refiner, member.ensemble.model) for refiner, member in refiners if refiner is not None]
        return replace(own, refiner=MeanLook(looks)) if looks else own

    def _member(self, other: Trained) -> Member:
        module = other.ensemble.model
        if other.landmarks != self.landmarks:
            known = other.landmarks
            module = OnLandmarks(module, [known.index(s) if s in known else -1 for s in self.landmarks])
        return Member(module, other.config.data.size, other.config.target_kind)

    def found(self, split: str, films: Films) -> Prediction:
        """The landmarks of the films of a split; those out of fold by the run that held them out, and no other."""
        if split != OUT_OF_FOLD or self.config.data.fold is None:
            return super().found(split, films)
        parts = self._held_out(films)
        return joined([member.found("validation", part) for member, part in zip(self.members, parts, strict=True)])

    def _held_out(self, films: Films) -> list[Films]:
        """The films of each fold, which come in the order of their folds."""
        fold = self.config.data.fold
        assert fold is not None  # noqa: S101 - asked of folds alone
        numbers = folds_of(films.samples, films.digests, fold.by, fold.of)
        return [chosen(films, np.flatnonzero(numbers == number).tolist()) for number in range(fold.of)]

    def beside(self, split: str, films: Films, seconds: float) -> dict[str, Any]:
        """What the mean costs, and what each run that knows all landmarks finds alone: its MRE in mm.

        `{"members": {"count", "seconds_a_film", "alone": {run: {"mre_mm", "seconds_a_film"}}}}`, times with the loading
        of films. Out of fold `seconds` is of one run, and the time of all is measured on a few films.
        """
        alone = {}
        if split == OUT_OF_FOLD:
            few = chosen(films, range(min(TIMED, len(films))))
            alone["each"] = {"seconds_a_film": seconds}
            _, seconds = timed(lambda: super(Averaged, self).found(split, few), few)
        else:
            for member in (m for m in self.members if m.landmarks == self.landmarks):
                found, each = timed(partial(member.found, split, films), films)
                mre_mm = summarise(found.errors_mm, self.landmarks, "")["mre_mm"]
                alone[member.folder.name] = {"mre_mm": mre_mm, "seconds_a_film": each}
        return {"members": {"count": len(self.members), "seconds_a_film": seconds, "alone": alone}}


def chosen(films: Films, rows: Sequence[int]) -> Films:
    """Some of the films."""
    return replace(films, samples=[films.samples[i] for i in rows], digests=[films.digests[i] for i in rows])


def require_trained(folder: Path, members: Sequence[Path]) -> None:
    """Raise ConfigError where not all runs of a folder have finished."""
    left = [run.name for run in members if not runfolder.is_run(run) or runfolder.read_state(run).state != "finished"]
    if left:
        what = f"{len(left)} of the {len(members)} runs of {folder} are not finished: {', '.join(left)}"
        raise ConfigError(what, hint=f"go on with: ceph run --resume {folder}")
