"""readers: the network learns the place that readers share, each one's habit stands beside it, and one is spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ceph.plugin import (
    ConfigError,
    Flags,
    HeadOffsets,
    Plugin,
    PluginConfig,
    Points,
    Problem,
    Run,
    Sample,
    hookimpl,
    learned_offsets,
    mean_shape,
    nearest,
    turned,
    turns,
)

MEAN = "mean"
ROUNDS = 5  # films that not every reader has read shift the mean that the others are held against

Floats = NDArray[np.float64]


@dataclass(eq=False)
class Habits:
    """What is known of S sets and R readers: offsets in mm on the mean shape [K, 2] of the training films.

    `own` [S, R, K, 2] are a reader's within his set, `of_set` [S, K, 2] those of a set; each sums to zero over who
    marked the landmark: `marked` [S, R, K].
    """

    sets: tuple[str, ...]
    readers: tuple[str, ...]
    shape: Points
    marked: Flags
    own: Floats
    of_set: Floats

    @property
    def voices(self) -> dict[str, Floats]:
        """The offsets [K, 2] of all who can be spoken as, by name; a reader of several sets is `<set>-<reader>`."""
        found = {MEAN: np.zeros(self.shape.shape)}
        if len(self.sets) > 1:
            found |= zip(self.sets, self.of_set, strict=True)
        for r, reader in enumerate(self.readers):
            his = [s for s in range(len(self.sets)) if self.marked[s, r].any()]
            for s in his:
                name = reader if len(his) == 1 else f"{self.sets[s]}-{reader}"
                found.setdefault(name, self.of_set[s] + self.own[s, r])
        return found

    def of_film(self, sample: Sample) -> Points:
        """The offsets [R, K, 2] of each reader of a film, in mm, as its head lies; 0 where that cannot be told."""
        s = self.sets.index(sample.set)
        turn = turns(_middle_mm(sample)[None], self.shape)[0]
        offsets = self.of_set[s] + self.own[s]
        return turned(offsets, np.repeat(1 / turn, len(offsets))) if np.isfinite(turn) else np.zeros_like(offsets)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and names."""
        plain = {"sets": list(self.sets), "readers": list(self.readers)}
        return plain | {name: torch.from_numpy(getattr(self, name).copy()) for name in TABLES}


TABLES = ("shape", "marked", "own", "of_set")


def habits_from(state: Mapping[str, Any]) -> Habits:
    """What `Habits.state_dict` gave, back."""
    tables = {name: state[name].cpu().numpy().copy() for name in TABLES}
    return Habits(tuple(state["sets"]), tuple(state["readers"]), **tables)


def _middle_mm(sample: Sample) -> Points:
    """The mean [K, 2] of what a film's readers marked, in mm; NaN where none did."""
    total = np.where(sample.own[..., None], sample.points, 0).sum(axis=0) * sample.mm_per_px
    count = sample.own.sum(axis=0)[:, None]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def fit(samples: Sequence[Sample], readers: Sequence[str]) -> Habits:
    """The habits of the readers within each set, from the films that they have read together; sets know none yet.

    A reader's move is his mark less the mean of the film's readers, each without his habit, in the frame of the head;
    offsets are shrunken as those of `ceph adapt`. Raises ConfigError where films share too little to be laid together.
    """
    sets = tuple(dict.fromkeys(sample.set for sample in samples))
    middle = np.stack([_middle_mm(sample) for sample in samples])
    shape = mean_shape(middle)
    apart = [s for s in sets if np.isnan(turns(middle[[sample.set == s for sample in samples]], shape)).all()]
    if apart:
        what = f"the set {apart[0]} shares fewer than two landmarks with the others: its habit cannot be told"
        raise ConfigError(what, key="data.path", hint="name such landmarks alike, or train this set alone")
    marked: Flags = np.stack([np.stack([s.own for s in samples if s.set == name]).any(axis=0) for name in sets])
    habits = Habits(
        sets, tuple(readers), shape, marked, np.zeros((*marked.shape, 2)), np.zeros((len(sets), *shape.shape))
    )
    for s, name in enumerate(sets):
        habits.own[s] = _own([sample for sample in samples if sample.set == name], shape)
    return habits


def _own(samples: Sequence[Sample], shape: Points) -> Floats:
    """The offsets [R, K, 2] of the readers of one set."""
    turn = turns(np.stack([_middle_mm(sample) for sample in samples]), shape)
    laid = np.stack(
        [turned(s.points * s.mm_per_px, np.repeat(t, len(s.points))) for s, t in zip(samples, turn, strict=True)]
    )
    flags = np.stack([sample.own for sample in samples]) & np.isfinite(turn)[:, None, None]
    flags &= flags.sum(axis=1, keepdims=True) > 1
    laid, offsets = np.where(flags[..., None], laid, 0), np.zeros(laid.shape[1:])
    there = flags[..., None].sum(axis=1)
    for _ in range(ROUNDS if (flags.any(axis=0) != flags).any() else 1):
        middle = ((laid - offsets) * flags[..., None]).sum(axis=1) / np.maximum(there, 1)
        moves = (laid - middle[:, None]) * flags[..., None]
        for r in np.flatnonzero(flags.any(axis=(0, 2))):
            films = flags[:, r].any(axis=1)
            offsets[r] = learned_offsets(moves[films, r], flags[films, r]).offsets_mm
        offsets = centred(offsets, np.asarray(flags.any(axis=0)))
    return offsets


def centred(offsets: Floats, flags: Flags) -> Floats:
    """The offsets [M, K, 2], 0 where no flag [M, K] is, less their mean over those M whose flag is."""
    mean = (offsets * flags[..., None]).sum(axis=0) / np.maximum(flags.sum(axis=0), 1)[:, None]
    return np.asarray((offsets - mean) * flags[..., None])


def chosen(habits: Habits, like: str | None, truth: str) -> Floats:
    """The offsets [K, 2] of whom `like` names; None: of `truth`, or else the mean. Raises ConfigError."""
    voices = habits.voices
    if like is None:
        return voices.get(truth, voices[MEAN])
    if like not in voices:
        raise ConfigError(
            f"no reader or set {like!r}: there are {', '.join(voices)}",
            key="plugins.readers.like",
            hint=nearest(like, voices),
        )
    return voices[like]


class Voice:
    """The station that says points as one reader would mark them; its state are all habits."""

    def __init__(self, like: str | None, truth: str, habits: Habits | None) -> None:
        self.like, self.truth, self.habits = like, truth, habits

    def shift(
        self, points: torch.Tensor, scores: torch.Tensor, to_film: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Points [B, K, 2] in network px, each moved by its offset, turned and scaled as the head lies."""
        if self.habits is None:
            if self.like in (None, MEAN):
                return points, scores
            raise ConfigError("the run was trained without `readers` and knows none", key="plugins.readers.like")
        offsets, known = chosen(self.habits, self.like, self.truth), np.isfinite(self.habits.shape[:, 0])
        if offsets.any():
            station = HeadOffsets(*(torch.from_numpy(table[known]) for table in (self.habits.shape, offsets)))
            where = torch.from_numpy(known).to(points.device)
            points[:, where] = station.to(points.device).shift(points[:, where], scores, to_film)[0]
        return points, scores

    def state_dict(self) -> dict[str, Any]:
        """All habits."""
        return {} if self.habits is None else self.habits.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the habits of the run that was trained. Raises ConfigError where none of them is asked for."""
        self.habits = habits_from(state)
        chosen(self.habits, self.like, self.truth)


class ReadersConfig(PluginConfig):
    """Habits are learned whoever is spoken as, so that `like` may change after training."""

    like: str | None = Field(
        default=None,
        description="whose habit predictions speak: a reader, a set, or mean, the place that all share; "
        "null: that of data.truth",
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="how often films of a set are drawn, by its name; those not named: 1, so sets are even"
    )


class Readers(Plugin[ReadersConfig]):
    """Each reader, and each of several sets, means another point: what they share is learned, and one habit is spoken.

    A reader's mark, less his offset in the frame of the head, is what trains; of a film with several readers, their
    mean. Offsets within a set come from films that its readers have read together, those between sets from what the
    network finds, anew each epoch. As a bias of each rater: Tanno et al. 2019; Warfield et al. 2008.
    """

    def __init__(self, config: ReadersConfig | None = None) -> None:
        super().__init__(config)
        self.habits: Habits | None = None
        self.voice: Voice | None = None
        self.next: Floats | None = None  # [S, K, 2] of sets, from the next epoch on

    @hookimpl
    def check_run(self, run: Run) -> None:
        """Refuse films that one reader of one set has marked, and names that nobody bears."""
        habits = fit(run.samples, run.readers)
        if len(habits.sets) == 1 and not (np.stack([s.own for s in run.samples]).sum(axis=1) > 1).any():
            raise ConfigError("no landmark of a training film has two readers, so there are no habits to tell apart")
        wrong = [
            Problem(f"no set {name!r}", "plugins.readers.weights", hint=nearest(name, habits.sets))
            for name in self.config.weights
            if name not in habits.sets
        ]
        if wrong:
            raise ConfigError(wrong)
        chosen(habits, self.config.like, MEAN)

    @hookimpl
    def build_offsets(self, run: Run) -> Voice:
        """Give the station that speaks as one reader: of the training films' habits, or those in the checkpoint."""
        if run.samples:
            self.habits = fit(run.samples, run.readers)
        truth = MEAN if run.config is None else run.config.data.truth
        self.voice = Voice(self.config.like, truth, self.habits if run.samples else None)
        return self.voice

    @hookimpl
    def sample_weights(self, samples: Sequence[Sample]) -> Floats | None:
        """Weight films [N] so that sets are drawn evenly, or as `weights` says."""
        sets = [sample.set for sample in samples]
        count = {name: sets.count(name) for name in set(sets)}
        if len(count) == 1:
            return None
        share = np.array([self.config.weights.get(name, 1.0) / count[name] for name in sets])
        return np.asarray(share / share.mean())

    @hookimpl
    def truth(self, sample: Sample) -> tuple[Points, Flags]:
        """Give points [K, 2] in film px and valid [K]: the mean of the readers' marks, each without his habit."""
        own = sample.own
        known: Flags = np.asarray(own.any(axis=0))
        offsets = 0.0 if self.habits is None else self.habits.of_film(sample) / sample.mm_per_px
        total = np.where(own[..., None], sample.points - offsets, 0).sum(axis=0)
        mean = total / np.maximum(own.sum(axis=0), 1)[:, None]
        return np.where(known[:, None], mean, np.nan), known

    @hookimpl
    def epoch_start(self) -> None:
        """Take what the last epoch has taught of the sets; not within it, so that its films have one truth."""
        if self.next is not None and self.habits is not None:
            self.habits.of_set[:] = self.next
            self.next = None

    @hookimpl
    def epoch_end(self, samples: Sequence[Sample], moves_mm: torch.Tensor) -> None:
        """Learn how each set lies against what the network finds: moves [N, K, 2], truth less found."""
        habits = self.habits
        if habits is None or len(habits.sets) == 1:
            return
        turn = turns(np.stack([_middle_mm(sample) for sample in samples]), habits.shape)
        moves = turned(moves_mm.double().numpy(), turn)
        valid = np.isfinite(moves[..., 0])
        found = habits.of_set.copy()
        for s, name in enumerate(habits.sets):
            films = np.array([sample.set == name for sample in samples]) & valid.any(axis=1)
            if films.any():
                found[s] += learned_offsets(np.where(valid[..., None], moves, 0)[films], valid[films]).offsets_mm
        self.next = centred(found, np.asarray(habits.marked.any(axis=1)))

    def state_dict(self) -> dict[str, Any]:
        """All habits, and those of sets that the next epoch begins with."""
        habits = {} if self.habits is None else self.habits.state_dict()
        return {"habits": habits, "next": None if self.next is None else torch.from_numpy(self.next.copy())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the habits back, and let the station speak them."""
        self.habits = habits_from(state["habits"]) if state["habits"] else None
        self.next = None if state["next"] is None else state["next"].cpu().numpy().copy()
        if self.voice is not None:
            self.voice.habits = self.habits
