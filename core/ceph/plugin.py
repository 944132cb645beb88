"""The public door: everything a plugin may import of ours, and nothing else.

    from ceph.plugin import Plugin, PluginConfig, hookimpl

`Plugin`, `PluginConfig` and `hookimpl` make a plugin, `Duration` is the type of a setting that says how long; `Run`,
`Batch` and `Sample` are what its hooks are given, `Config` is the type of `run.config` and `Origin` of `run.origin`;
`Warp` is what its `warps` answer, `View` and `Member` what `views` and `members` do, `Figure` what its `metrics` may,
`DataSet` what the readers of its `dataset_formats` give, with `DataError` for a folder that cannot be read;
`ConfigError`, `Problem` and `nearest` are for `check_run`; `generator` gives random numbers that are a pure function of
their keys; `moving_average` and `reader_disagreement_mm` are arithmetic that several plugins need; `similarity`,
`transform` and `procrustes` are the core's geometry, `Matrix`, `Points` and `Flags` its types; `mean_shape`, `turns`,
`turned`, `learned_offsets` and `HeadOffsets` are offsets in the frame of the head, as `ceph adapt` has them;
`gaussians` draws the core's targets, `soft_points` reads points from raw maps with a gradient; `landmark_network`
builds a network such as the core's own, for `modules`; `load` gives the network of another run; `Twin` is a station
without torch, for `ceph export`; `log` reaches the run's log; `write_text` puts a file into the run folder in one move,
through no link, and `guarded` makes a table's cell that no spreadsheet takes for a formula. The hooks themselves stand
in `ceph/hooks/specs.py`, each with its shapes and the moment it fires.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ceph.config.duration import Duration
from ceph.config.models import Config
from ceph.data.formats.base import DataSet
from ceph.data.geometry import procrustes, similarity, transform
from ceph.data.names import guarded
from ceph.data.plan import derive
from ceph.data.truth import reader_disagreement_mm
from ceph.data.types import Batch, Flags, Matrix, Points, Sample
from ceph.data.warps import Warp
from ceph.errors import ConfigError, DataError, Problem, nearest
from ceph.evaluation.means import Member, View
from ceph.evaluation.metrics import Figure
from ceph.evaluation.offsets import learn as learned_offsets
from ceph.evaluation.offsets import mean_shape, turned, turns
from ceph.evaluation.stations import HeadOffsets
from ceph.evaluation.twin import Twin
from ceph.files import write_text
from ceph.hooks.base import Origin, Plugin, PluginConfig, Run, hookimpl
from ceph.model.codec import gaussians, soft_points

if TYPE_CHECKING:
    from ceph.model.network import LandmarkNetwork
    from ceph.run.trained import Trained

__all__ = [
    "Batch",
    "Config",
    "ConfigError",
    "DataError",
    "DataSet",
    "Duration",
    "Figure",
    "Flags",
    "HeadOffsets",
    "Matrix",
    "Member",
    "Origin",
    "Plugin",
    "PluginConfig",
    "Points",
    "Problem",
    "Run",
    "Sample",
    "Twin",
    "View",
    "Warp",
    "gaussians",
    "generator",
    "guarded",
    "hookimpl",
    "landmark_network",
    "learned_offsets",
    "load",
    "log",
    "mean_shape",
    "moving_average",
    "nearest",
    "procrustes",
    "reader_disagreement_mm",
    "similarity",
    "soft_points",
    "transform",
    "turned",
    "turns",
    "write_text",
]

log = logging.getLogger("ceph")


def generator(*keys: int | str) -> np.random.Generator:
    """A random generator that depends on its keys alone: `generator(seed, "multi-scale", epoch, index)`.

    The same on every machine, in every process and after a resume; put your plugin's name among the keys.
    """
    return np.random.default_rng(derive(*keys))


def landmark_network(
    backbone: str, landmarks: int, *, stride: int, width: int, channels: int = 1, levels: int | None = None
) -> LandmarkNetwork:
    """An untrained network such as the core's: films [B, channels, H, W] in 0..1 -> raw maps [B, K, h, w] at `stride`.

    `backbone` is timm's name, `width` the channels of the head, `levels` how many of the backbone's strides it has,
    from the finest (None: all). Raises ConfigError where timm has no such backbone.
    """
    from ceph.model.network import LandmarkNetwork  # it imports timm, which takes its time

    return LandmarkNetwork(backbone, landmarks, stride=stride, width=width, channels=channels, levels=levels)


def load(run: Path | str, *, settings: Sequence[str] = ()) -> Trained:
    """The best checkpoint of another run, as `ceph.load` gives it: `load(folder).model` is its network.

    `settings` are `KEY=VALUE` texts as for `--set`. Raises ConfigError where there is no such run, and CheckpointError
    where it cannot be read.
    """
    from ceph.run import trained  # it stands above this door, and asks plugins in its turn

    return trained.load(run, settings=settings)


def moving_average(past: torch.Tensor, new: torch.Tensor, momentum: float) -> torch.Tensor:
    """The share `momentum` of `past` and the rest of `new`, of one shape and each number for itself.

    Where there is no new number (NaN) the past stays; where there is no past it starts anew.
    """
    mixed = torch.where(past.isfinite(), momentum * past + (1 - momentum) * new, new)
    return torch.where(new.isfinite(), mixed, past)
