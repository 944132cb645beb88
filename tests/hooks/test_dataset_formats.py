"""A plugin's reader of a further layout is found by looking at the folder, and by its name."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

import ceph
from ceph.data.formats.find import read
from ceph.errors import DataError, PluginError
from ceph.run.train import check

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


def changed(**values):
    """The first film, with other values."""
    given = ", ".join(f"{name}={value}" for name, value in values.items())
    return f"replace(found, samples=(replace(first, {given}), *found.samples[1:]))"


CONTENTS = {  # what a reader gives, made of `found` and its `first` film, and what is said of it
    "points of no readers": (
        changed(points="first.points[0]"),
        "with points float64 [29, 2] where an array of floating [2, 29, 2]",
    ),
    "points in a list": (changed(points="first.points.tolist()"), "with points list where an array"),
    "points of whole numbers": (changed(points="np.zeros((2, 29, 2), int)"), "with points int64 [2, 29, 2]"),
    "valid is none": (changed(valid="None"), "with valid NoneType where an array of bool"),
    "valid, but not finite": (changed(points="first.points * np.nan"), "with a point that is valid but not finite"),
    "split is none": (changed(split="None"), "with split None where a text is promised"),
    "path is a text": (changed(path="str(first.path)"), "where a pathlib.Path is promised"),
    "spacing is a text": (changed(mm_per_px="'0.5'"), "with mm_per_px '0.5' where a number above zero"),
    "spacing of zero": (changed(mm_per_px="0.0"), "with mm_per_px 0.0 where a number above zero"),
    "size is a number": (changed(size="200"), "with size 200 where (H, W)"),
    "no readers": ("replace(found, readers=())", "readers () where a tuple of names is promised"),
    "landmarks as numbers": ("replace(found, landmarks=(1, *found.landmarks[1:]))", "landmarks (1, "),
    "landmarks in a list": ("replace(found, landmarks=list(found.landmarks))", "where a tuple of names is promised"),
    "a landmark twice": ("replace(found, landmarks=('S', 'S', *found.landmarks[2:]))", "two have one name: S"),
    "a generator": ("replace(found, samples=(s for s in found.samples))", "samples generator where a tuple"),
    "no films": ("replace(found, samples=('1.png',))", "samples of which number 1 is str, not Sample"),
}


@pytest.mark.parametrize(("made", "words"), CONTENTS.values(), ids=CONTENTS)
def test_films_that_are_not_as_promised_name_the_plugin_and_what_was_promised(tiny, tiny_set, tmp_path, made, words):
    shutil.copytree(tiny_set, tmp_path / "set" / "films")
    (tmp_path / "set" / "nested.txt").write_text("")
    text = PLUGIN.replace(
        "from ceph.data", "from dataclasses import replace\n\nimport numpy as np\n\nfrom ceph.data", 1
    )
    read_all = '        return Aariz().read(root / "films", mm_per_px=mm_per_px)\n'
    spoilt = read_all.replace("return", "found =") + f"        first = found.samples[0]\n        return {made}\n"
    (tmp_path / "formats.py").write_text(text.replace(read_all, spoilt))
    plugins = {"formats": {"from": str(tmp_path / "formats.py")}}
    with pytest.raises(PluginError) as told:
        check(tiny(data={"path": str(tmp_path / "set")}, plugins=plugins))
    assert str(told.value).startswith("plugin 'formats' ")
    assert ", hook dataset_formats: its read gave " in str(told.value)
    assert words in str(told.value)


CLINIC = Path(__file__).parents[2] / "examples" / "clinic_csv.py"


@pytest.fixture
def clinic(tiny_set, tmp_path):
    """The tiny set as a clinic's table, one landmark of the first film not marked, and the set as it was."""
    known, folder = read(tiny_set), tmp_path / "clinic"
    columns = [f"{symbol}_{axis}" for symbol in known.landmarks for axis in "xy"]
    rows = []
    for sample in known.samples:
        (folder / sample.split).mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, folder / sample.split)
        row = {"file": f"{sample.split}/{sample.path.name}", "patient": sample.group, "split": sample.split}
        points = dict(zip(columns, sample.points[0].ravel(), strict=True))
        rows.append({**row, "mm_per_px": sample.mm_per_px, **points})
    rows[0][columns[0]] = ""
    with (folder / "films.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return folder, known


def switched_on(tiny, folder):
    return tiny(data={"path": str(folder)}, plugins={"clinic-csv": {"from": str(CLINIC)}}, train={"epochs": 1})


def test_the_example_reads_a_clinic_s_table_and_trains_on_it(tiny, clinic, tmp_path):
    folder, known = clinic
    assert "12 train, 2 validation" in check(switched_on(tiny, folder))
    run = ceph.train(switched_on(tiny, folder), out=tmp_path / "run")
    assert run.metrics["mre_mm"] > 0
    from ceph.hooks import discovery

    found = discovery.load(str(CLINIC)).create({}).dataset_formats()["clinic-csv"].read(folder, mm_per_px=None)
    assert found.landmarks == known.landmarks
    for sample, before in zip(found.samples, known.samples, strict=True):
        assert (sample.size, sample.mm_per_px, sample.split) == (before.size, before.mm_per_px, before.split)
        same = sample.valid[0]
        np.testing.assert_array_equal(sample.points[0][same], before.points[0][same])
    assert [int((~sample.valid).sum()) for sample in found.samples][:2] == [1, 0]


@pytest.mark.parametrize(
    ("old", "new"), [("0.1", "narrow"), (".png", ".gone"), ("S_y", "S_why")], ids=["number", "film", "column"]
)
def test_the_example_names_the_line_of_what_cannot_be_read(tiny, clinic, old, new):
    table = clinic[0] / "films.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DataError, match=r"films\.csv:\d+: "):
        check(switched_on(tiny, clinic[0]))
