"""One judge for every spacing: what no film has is refused wherever it stands, with the place and what to do."""

from __future__ import annotations

import json

import pytest
from tests.data.small_sets import noise_film, write_aariz, write_csv, write_isbi

from ceph.config.load import from_values
from ceph.data.convert import convert
from ceph.data.formats.base import broken_promise
from ceph.data.formats.find import read
from ceph.data.spacing import hint, plausible
from ceph.errors import ConfigError, DataError

IMPLAUSIBLE = (25.4, 1, 0.0001, 100, 0.01)


@pytest.mark.parametrize("mm", [0.0212, 0.089, 0.25, 0.94])
def test_the_spacings_of_scanners_detectors_and_small_copies_are_plausible(mm):
    assert plausible(mm)


@pytest.mark.parametrize("mm", [*IMPLAUSIBLE, 0, -0.1, float("nan"), float("inf")])
def test_what_no_film_has_is_not(mm):
    assert not plausible(mm)


@pytest.mark.parametrize(
    ("mm", "says"),
    [
        (100, "(100 micrometres are 0.1 mm, 100 dots per inch are 0.254 mm)"),
        (0.01, "(0.01 centimetres are 0.1 mm)"),
        (0.0001, "(0.0001 metres are 0.1 mm)"),
        (300, "300 dots per inch are 0.0847 mm"),
    ],
)
def test_the_unit_that_may_have_been_meant_is_named(mm, says):
    assert says in hint(mm)


def aariz(folder, mm):
    write_aariz(folder, mm_per_px=mm)
    return "cephalogram_machine_mappings.csv:2:1: pixel_size "


def csv_set(folder, mm):
    table = write_csv(folder) / "points.csv"
    table.write_text(table.read_text().replace(",0.1,", f",{mm},", 1))
    return "points.csv:2:1: mm_per_px "


def table_of_films(folder, mm):
    write_isbi(folder, 1)
    (folder / "ceph-films.csv").write_text(f"film,mm_per_px\n001,{mm}\n")
    return "ceph-films.csv:2:1: mm_per_px "


def coco(folder, mm):
    convert(write_csv(folder.parent / "csv"), folder, "coco")
    file = next(folder.rglob("*.json"))
    content = json.loads(file.read_text())
    content["images"][0]["spacing"] = mm
    file.write_text(json.dumps(content))
    return f"{file.name}: images[0].spacing: "


def cldetection_csv(folder, mm):
    noise_film(folder / "1.png")
    points = ",".join(f"p{k}x,p{k}y" for k in range(1, 39))
    (folder / "train.csv").write_text(f"file,scale,{points}\n1.png,{mm},{','.join(['5'] * 76)}\n")
    return "train.csv:2:1: scale "


def cldetection_json(folder, mm):
    noise_film(folder / "1.png")
    points = [{"name": str(k), "point": [5.0 + k, 9.0, 1], "scale": str(mm)} for k in range(1, 39)]
    (folder / "train-gt.json").write_text(json.dumps({"name": "x", "type": "Multiple points", "points": points}))
    return "train-gt.json: points[0].scale: "


@pytest.mark.parametrize("mm", IMPLAUSIBLE)
@pytest.mark.parametrize("source", [aariz, csv_set, table_of_films, coco, cldetection_csv, cldetection_json])
def test_an_implausible_spacing_in_a_set_is_an_error_with_its_place(tmp_path, source, mm):
    where = source(tmp_path / "set", mm)
    with pytest.raises(DataError) as error:
        read(tmp_path / "set")
    assert where in str(error.value)
    assert "is no spacing of a film\n  hint: a pixel measures from 0.02 to below 1 mm" in str(error.value)
    assert "correct it, or leave it empty and give data.mm_per_px" in str(error.value)


@pytest.mark.parametrize("mm", IMPLAUSIBLE)
def test_one_that_is_given_is_an_error_at_its_key_before_anything_is_read(tmp_path, mm):
    with pytest.raises(ConfigError, match=rf"data\.mm_per_px: {mm:g} is no spacing of a film"):
        read(tmp_path / "nothing", mm_per_px=float(mm))
    with pytest.raises(ConfigError, match=rf"data\.mm_per_px: {mm:g} is no spacing of a film: a pixel measures"):
        from_values({"data": {"mm_per_px": mm}})


def test_a_plugins_reader_is_held_to_the_same(tmp_path):
    data = read(write_aariz(tmp_path))
    object.__setattr__(data.samples[1], "mm_per_px", 25.4)
    assert "with mm_per_px 25.4: a pixel measures from 0.02 to below 1 mm" in broken_promise(data)
