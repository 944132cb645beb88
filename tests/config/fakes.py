"""Plugins for tests: real distributions (dist-info and module) written into a folder, and plugins in files."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

OHKM = '''\
from pydantic import Field

from ceph.hooks.base import Plugin, PluginConfig, hookimpl


class OhkmConfig(PluginConfig):
    keep: int = Field(default=8, gt=0, description="landmarks of each film that count")
    table: dict[str, float] = Field(default={"A": 1.0}, description="weights by symbol")


class Ohkm(Plugin[OhkmConfig]):
    """Only the hardest landmarks count.

    A second paragraph.
    """

    @hookimpl
    def landmark_weights(self, batch, loss):
        """Which landmarks count."""
        return None
'''


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    source: str = OHKM,
    distribution: str = "fake-dist",
    version: str = "1.2",
    target: str = "Ohkm",
    group: str = "ceph.plugins",
) -> str:
    """Install a plugin as pip would, into `folder` (put on sys.path); returns the name of its module."""
    module = f"{distribution.replace('-', '_')}_module"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:{target}\n", encoding="utf-8")
    if str(folder) not in sys.path:
        monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    sys.modules.pop(module, None)
    return module
