"""A film's own grey levels fill 0 to 255, whatever lies beside them: borders, markers, hot and dead pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.data.check_sets import sample

from ceph.data.check.check import check
from ceph.data.formats.base import DataSet
from ceph.data.grey import histogram, levels_left, own_range
from ceph.data.images import read_film

Y, X = np.mgrid[:240, :200]
FILM = (30000 + 40 * X + 25 * Y).astype(np.uint16)  # 30000 to 43935
SEEN = np.round((FILM - 30000.0) * 255 / 13935)


def dead_pixel(film):
    film[7, 9] = 0


def hot_pixels(film):
    film.reshape(-1)[[5, 900, 4000]] = 65535, 64000, 61000


def border(film):
    film[:, :60] = 0


def white_border(film):
    film[:50] = 65535


def marker(film):
    film[10:40, 150:190] = 65535


def soft_marker(film):
    marker(film)
    film[10:40, 148:150] = np.linspace(45000, 65000, 60).reshape(30, 2)


def all_of_them(film):
    for change in (dead_pixel, border, marker):
        change(film)


@pytest.mark.parametrize("change", [dead_pixel, hot_pixels, border, white_border, marker, all_of_them])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_what_is_no_tissue_takes_no_grey_level_from_a_film(tmp_path, change, suffix):
    changed = FILM.copy()
    change(changed)
    path = tmp_path / f"film{suffix}"
    Image.fromarray(changed).save(path)
    film, same = read_film(path), changed == FILM
    # The darkest and the brightest corner may be painted over: what is left of the film has all levels.
    assert film[same].max() == 255
    assert film[same].min() == 0
    assert np.abs(film[same] - SEEN[same]).max() <= (45 if change in (border, white_border, all_of_them) else 0)
    assert levels_left(histogram(film[same], 0, 255)) > 240


def test_a_film_without_such_things_keeps_its_darkest_and_brightest_pixel(tmp_path):
    Image.fromarray(FILM).save(tmp_path / "film.png")
    np.testing.assert_array_equal(read_film(tmp_path / "film.png"), SEEN)


def test_a_soft_edge_of_a_marker_takes_a_third_of_the_levels_at_most(tmp_path):
    changed = FILM.copy()
    soft_marker(changed)
    Image.fromarray(changed).save(tmp_path / "film.png")
    assert read_film(tmp_path / "film.png")[changed == FILM].max() > 2 / 3 * 255


def test_a_background_that_lies_by_the_film_is_kept_apart_from_it():
    film = FILM.copy()
    film[:, :80] = 31500  # the others begin at 33200
    counts = histogram(film, int(film.min()), int(film.max()))
    assert own_range(counts) == (0, len(counts) - 1)


def test_metal_and_other_long_tails_are_the_films():
    rng = np.random.default_rng(0)
    film = rng.normal(2000, 400, (400, 300))
    film[50:80, 50:90] = rng.normal(3900, 150, (30, 40))  # one in a hundred
    film = film.clip(0, 4999).astype(np.uint16)
    counts = histogram(film, int(film.min()), int(film.max()))
    first, last = own_range(counts)
    assert counts[:first].sum() + counts[last + 1 :].sum() <= 0.00002 * film.size


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=60))
def test_any_film_has_a_range_of_its_own(values):
    film = np.array(values, np.uint16)
    low, high = int(film.min()), int(film.max())
    first, last = own_range(histogram(film, low, high))
    assert 0 <= first <= last <= high - low
    assert {first + low, last + low} <= set(values)


def test_levels_are_counted_without_specks():
    film = np.full((400, 400), 9, np.uint8)
    film[::2] = 12
    film[0, :10] = np.arange(20, 30)
    assert levels_left(histogram(film, 0, 255)) == 2


def test_the_check_names_films_with_few_grey_levels_and_reads_them_as_they_are(tmp_path):
    samples = []
    for film, top in (("good", 255), ("dull", 38)):
        path = tmp_path / f"{film}.png"
        grey = np.round(SEEN * top / 255).astype(np.uint8)
        grey[:, :20] = 255
        Image.fromarray(grey).save(path)
        np.testing.assert_array_equal(read_film(path), grey)
        samples.append(sample(film, np.full((1, 1, 2), 20.0), path=str(path)))
    found = check("set", DataSet(("S",), tuple(samples), ("r",), "drawn")).findings
    (finding,) = [f for f in found if f.kind == "grey"]
    assert finding.films == ("dull",)
    assert finding.level == "warning"
    assert finding.text.startswith("dull (train): shows 38 of 256 grey levels: a border, a marker or the window")
