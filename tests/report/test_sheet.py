"""The contact sheet: films at their own size, circles where the points are, captions that fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ceph.report.marks import EDGE, TRUE
from ceph.report.sheet import CAPTION, GAP, PAPER, Tile, line, sheet, with_points, write_png

NOTHING = np.zeros((0, 2))


def grey(size, value=128):
    return np.full(size, value, dtype=np.uint8)


@pytest.mark.parametrize("point", [(30.0, 20.0), (30.5, 20.25), (12.4, 33.8)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_circle_is_where_the_point_is_to_a_tenth_of_a_pixel(point, value):
    drawn = with_points(grey((48, 64), value), np.array([point])).astype(float)
    weight = np.abs(drawn - value).sum(axis=2)
    y, x = np.mgrid[:48, :64]
    found = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    assert np.allclose(found, point, atol=0.1)


@pytest.mark.parametrize("value", [0, 60, 128, 200, 255])
def test_a_circle_stands_out_on_any_grey(value):
    patch = with_points(grey((21, 21), value), np.array([[10.0, 10.0]]))[2:19, 2:19].reshape(-1, 3).astype(int)
    assert np.abs(patch - TRUE).sum(axis=1).min() < 100
    assert np.abs(patch - EDGE).sum(axis=1).min() < 60
    assert np.ptp(patch.sum(axis=1)) > 300


def test_a_film_without_points_is_unchanged_and_points_outside_do_not_matter():
    film = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    for points in (NOTHING, np.array([[-50.0, 4.0], [400.0, 4.0]])):
        assert np.array_equal(with_points(film, points), np.stack([film] * 3, axis=-1))


def test_films_of_several_sizes_stand_unscaled_in_equal_cells():
    rows = [[Tile(grey((40, 30), 10), NOTHING), Tile(grey((20, 10), 200), NOTHING)], [Tile(grey((30, 20)), NOTHING)]]
    paper = sheet(rows)
    assert paper.shape == (GAP + 2 * (40 + CAPTION + GAP), GAP + 2 * (30 + GAP), 3)
    for value, size in ((10, (40, 30)), (200, (20, 10)), (128, (30, 20))):
        y, x = np.nonzero((paper == value).all(axis=2))
        assert (np.ptp(y) + 1, np.ptp(x) + 1) == size
        assert len(y) == size[0] * size[1]
    y, x = np.nonzero((paper == 200).all(axis=2))
    assert (y[0] - GAP, x[0] - GAP - 36) == (10, 10)  # in the middle of its cell


def test_notes_stand_above_the_films():
    rows = [[Tile(grey((40, 300), 10), NOTHING)]]
    assert np.array_equal(sheet(rows, ["", ""])[2 * CAPTION :], sheet(rows))
    assert (sheet(rows, ["what it is"])[:CAPTION] != PAPER).any()


def test_a_caption_is_ink_on_paper_and_never_wider_than_its_film():
    assert (line("", 50) == PAPER).all()
    assert (line("film 001", 200) != PAPER).any()
    long = line("a film with a very long name" * 5, 50)
    assert long.shape == (CAPTION, 50, 3)
    assert (long[:, 45:] != PAPER).any()


def test_a_picture_is_written_as_png_whatever_the_file_is_called(tmp_path):
    picture = sheet([[Tile(np.arange(256, dtype=np.uint8).reshape(16, 16), np.array([[3.0, 4.0]]), "é")]])
    write_png(picture, tmp_path / "sheet.picture")
    with Image.open(tmp_path / "sheet.picture") as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), picture)
    with pytest.raises(OSError):
        write_png(picture, tmp_path / "nowhere" / "sheet.png")
