"""A plugin's reader of a further layout is found by looking at the folder, and by its name."""

from __future__ import annotations

import shutil

import pytest

from ceph.errors import DataError
from ceph.run import check

PLUGIN = """\
from ceph.data.formats.aariz import Aariz
from ceph.plugin import Plugin, hookimpl


class Nested:
    name, layout = "nested", "nested.txt beside a folder of films"

    def matches(self, root):
        return (root / "nested.txt").is_file()

    def read(self, root, *, mm_per_px=None):
        return Aariz().read(root / "films", mm_per_px=mm_per_px)


class Formats(Plugin):
    @hookimpl
    def dataset_formats(self):
        return {"nested": Nested()}
"""


@pytest.mark.parametrize("named", ["auto", "nested"])
def test_a_plugin_reads_a_layout_that_the_core_does_not_know(tiny, tiny_set, tmp_path, named):
    shutil.copytree(tiny_set, tmp_path / "set" / "films")
    (tmp_path / "set" / "nested.txt").write_text("")
    (tmp_path / "formats.py").write_text(PLUGIN)
    data = {"path": str(tmp_path / "set"), "format": named}
    with pytest.raises(DataError, match="no data set of a known format"):
        check(tiny(data={**data, "format": "auto"}))
    found = check(tiny(data=data, plugins={"formats": {"from": str(tmp_path / "formats.py")}}))
    assert "12 train, 2 validation" in found
