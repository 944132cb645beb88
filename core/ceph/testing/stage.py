"""What plugins are tested on: a few small synthetic films, and a config that trains a tiny network on them."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from ceph.config.load import Resolved, from_values
from ceph.config.models import read_only
from ceph.data.synthetic.sets import write
from ceph.testing.subject import Subject

FILMS, HEIGHT = 16, 330  # twelve of them train
SIZE = (64, 64)


@cache
def folder() -> Path:
    """A folder that lasts as long as the process, with the set in `films`."""
    where = Path(tempfile.mkdtemp(prefix="ceph-testing-"))
    atexit.register(shutil.rmtree, where, ignore_errors=True)
    write(where / "films", films=FILMS, height=HEIGHT)
    return where


def values(train: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The config without plugins; `train` changes its section of that name."""
    usual = {"epochs": 8, "batch_size": 4, "precision": "fp32", "device": "cpu", "warmup_epochs": 0.5}
    return {
        "data": {
            "path": str(folder() / "films"),
            "size": list(SIZE),
            "workers": 0,
            "cache": str(folder() / "cache"),
        },
        "model": {"backbone": "test_resnet", "weights": "none", "width": 8},
        "train": {**usual, **(train or {})},
    }


def resolved(
    subject: Subject | None,
    *,
    settings: Mapping[str, Any] | None = None,
    beside: Sequence[str] = (),
    train: Mapping[str, Any] | None = None,
) -> Resolved:
    """The config with the plugin (None: without it), with what it requires, and with the plugins in `beside`.

    `settings` stand in for the subject's own. Raises ConfigError where the plugins do not go together.
    """
    others = dict.fromkeys([*(subject.companions() if subject else ()), *beside])
    base = from_values(values(train), plugins=list(others))
    if subject is None:
        return base
    plugins = {**base.config.plugins, subject.name: subject.values(settings)}
    config = base.config.model_copy(update={"plugins": read_only(plugins)})
    return replace(base, config=config, plugins={**base.plugins, subject.name: subject.loaded})
