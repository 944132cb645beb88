"""Figures for a paper: their width in inches, their fonts, and where they are written."""

from __future__ import annotations

from xml.etree.ElementTree import parse

import pytest
from PIL import Image
from tests.report.folders import films_of, write_run

from ceph.errors import ConfigError
from ceph.report.figures import write_figures
from ceph.report.findings import Films
from ceph.report.record import read_record


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    where = tmp_path_factory.mktemp("figures")
    names = {"ids": ("$x_1$", *"abcdefg"), "landmarks": ("S", "$N", "Pog`"), "splits": ("val",)}
    record = read_record(write_run(where / "r", **names))
    return {path.name: path for path in write_figures(record, films_of(where / "films", **names), where / "out")}


def test_each_figure_is_a_png_an_svg_and_a_pdf(written):
    stems = ("learning", "errors-val", "landmarks-val", "films-val")
    assert sorted(written) == sorted(f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg", "pdf"))


@pytest.mark.parametrize(
    ("name", "inches"), [("learning", 7), ("errors-val", 3.5), ("landmarks-val", 3.5), ("films-val", 7)]
)
def test_a_png_is_one_or_two_columns_wide_at_300_dpi(written, name, inches):
    with Image.open(written[f"{name}.png"]) as image:
        assert image.width == inches * 300
        assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)


def test_fonts_are_embedded_as_true_type_or_drawn_as_shapes(written):
    pdf = written["landmarks-val.pdf"].read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert not list(parse(written["landmarks-val.svg"]).iter("{http://www.w3.org/2000/svg}text"))


def test_without_films_the_other_figures_are_written(tmp_path):
    record = read_record(write_run(tmp_path / "r", epochs=0))
    names = {path.stem for path in write_figures(record, Films(missing="gone"), tmp_path / "out")}
    assert names == {"errors-validation", "landmarks-validation"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write into .*file"):
        write_figures(read_record(write_run(tmp_path / "r")), Films(), tmp_path / "file")
