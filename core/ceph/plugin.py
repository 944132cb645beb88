"""The public door: everything a plugin may import of ours, and nothing else.

    from ceph.plugin import Plugin, PluginConfig, hookimpl

`Plugin`, `PluginConfig` and `hookimpl` make a plugin; `Run`, `Batch` and `Sample` are what its hooks are given; `Warp`
is what its `warps` answer, `DataSet` what the readers of its `dataset_formats` give, with `DataError` for a folder that
cannot be read; `ConfigError`, `Problem` and `nearest` are for `check_run`; `generator` gives random numbers that are a
pure function of their keys; `similarity`, `transform` and `procrustes` are the core's geometry, `Matrix`, `Points` and
`Flags` its types; `log` reaches the run's log. The hooks themselves stand in `ceph/hooks/specs.py`, each with its
shapes and the moment it fires.
"""

from __future__ import annotations

import logging

import numpy as np

from ceph.data.formats.base import DataSet
from ceph.data.geometry import procrustes, similarity, transform
from ceph.data.plan import derive
from ceph.data.types import Batch, Flags, Matrix, Points, Sample
from ceph.data.warps import Warp
from ceph.errors import ConfigError, DataError, Problem, nearest
from ceph.hooks.base import Plugin, PluginConfig, Run, hookimpl

__all__ = [
    "Batch",
    "ConfigError",
    "DataError",
    "DataSet",
    "Flags",
    "Matrix",
    "Plugin",
    "PluginConfig",
    "Points",
    "Problem",
    "Run",
    "Sample",
    "Warp",
    "generator",
    "hookimpl",
    "log",
    "nearest",
    "procrustes",
    "similarity",
    "transform",
]

log = logging.getLogger("ceph")


def generator(*keys: int | str) -> np.random.Generator:
    """A random generator that depends on its keys alone: `generator(seed, "multi-scale", epoch, index)`.

    The same on every machine, in every process and after a resume; put your plugin's name among the keys.
    """
    return np.random.default_rng(derive(*keys))
