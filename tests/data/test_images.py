"""Films are read whole and grey, or refused by name with what to do."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.data.small_sets import noise_film, shared_data

from ceph.data.files import MAX_PIXELS
from ceph.data.images import film_size, read_film
from ceph.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".PNG", ".JPG")


def ramp(dtype: type = np.uint8, top: int = 255) -> np.ndarray:
    """A film [80, 64], darkest at the upper left, brightest at the lower right."""
    y, x = np.mgrid[:80, :64]
    return (top * (x + y) / (79 + 63)).astype(dtype)


def encoded(suffix: str) -> bytes:
    film = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 64), dtype=np.uint8))
    stream = io.BytesIO()
    film.save(stream, {".jpg": "jpeg", ".tif": "tiff"}.get(suffix, suffix[1:]), **EXTRA.get(suffix, {}))
    return stream.getvalue()


def film_or_error(path: Path) -> np.ndarray | str:
    """The film, or what the DataError says; any other exception fails the test."""
    try:
        return read_film(path)
    except DataError as error:
        return str(error)


EXTRA: dict[str, dict[str, object]] = {".jpg": {"quality": 95}, ".tif": {"compression": "tiff_lzw"}}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_grey_films_of_every_kind_keep_their_values_and_orientation(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    Image.fromarray(ramp()).save(path)
    film = read_film(path)
    assert film_size(path) == film.shape == (80, 64)
    assert film.dtype == np.uint8
    assert np.abs(film.astype(int) - ramp()).max() <= (4 if "j" in suffix.lower() else 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_films_are_scaled_by_their_own_range(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    deep = ramp(np.uint16, 4095) + 1000
    Image.fromarray(deep).save(path)
    film = read_film(path)
    assert (film.min(), film.max()) == (0, 255)
    assert np.array_equal(film, np.round((deep - 1000.0) * 255 / 4095))


def test_a_constant_sixteen_bit_film_is_black(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(np.full((80, 64), 700, np.uint16)).save(path)
    assert not read_film(path).any()


def test_a_tiff_that_stores_white_as_zero_is_inverted_at_8_and_16_bits(tmp_path):
    for dtype, top in ((np.uint8, 255), (np.uint16, 65535)):
        path = tmp_path / f"{top}.tif"
        stored = ramp(dtype, top)
        # Pillow itself inverts while it writes 8 bits in this way, and not while it writes 16.
        Image.fromarray(stored if top > 255 else 255 - stored).save(path, tiffinfo={262: 0})
        film = read_film(path)
        assert film[0, 0] == 255
        assert film[-1, -1] == 0


def test_colour_becomes_luma_and_transparency_is_ignored(tmp_path):
    colours = np.random.default_rng(1).integers(0, 255, (80, 64, 4), dtype=np.uint8)
    luma = np.round(colours[..., :3] @ np.array([0.299, 0.587, 0.114]))
    for mode, channels in (("RGB", 3), ("RGBA", 4)):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(colours[..., :channels].copy()).save(path)
        assert np.abs(read_film(path) - luma).max() <= 1
    grey_alpha = tmp_path / "la.png"
    Image.fromarray(np.stack([ramp(), np.zeros_like(ramp())], -1)).save(grey_alpha)
    assert np.array_equal(read_film(grey_alpha), ramp())


def test_a_colour_jpeg_gives_the_luma_that_it_stores(tmp_path):
    path = tmp_path / "film.jpg"
    grey = ramp()
    Image.fromarray(np.stack([grey, grey // 2, 255 - grey], -1)).save(path, quality=95)
    with Image.open(path) as image:
        luma = np.asarray(image.convert("RGB")) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_film(path) - luma).max() < 4


def test_a_palette_is_applied(tmp_path):
    path = tmp_path / "film.png"
    indices = Image.fromarray(ramp(top=3))
    indices.putpalette([255, 255, 255, 170, 170, 170, 85, 85, 85, 0, 0, 0])
    indices.save(path, transparency=b"\0\1\2\3")
    assert np.array_equal(read_film(path), 255 - 85 * ramp(top=3))


@pytest.mark.parametrize(
    ("mode", "suffix", "says"),
    [("CMYK", ".jpg", "saved for printing"), ("1", ".bmp", "one bit"), ("F", ".tif", "16-bit grey")],
)
def test_colours_that_cannot_be_read_without_guessing_are_refused(tmp_path, mode, suffix, says):
    path = tmp_path / f"film{suffix}"
    Image.fromarray(ramp()).convert(mode).save(path)
    for read in (film_size, read_film):
        with pytest.raises(DataError, match=says) as error:
            read(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_rotation_in_the_exif_data_is_refused_with_what_to_do(tmp_path, suffix, orientation):
    path = tmp_path / f"film{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp()).save(path, exif=exif)
    for read in (film_size, read_film):
        with pytest.raises(DataError, match=f"orientation {orientation}.*\n.*exiftool"):
            read(path)


def test_exif_data_without_a_rotation_is_fine(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 1
    Image.fromarray(ramp()).save(tmp_path / "film.jpg", exif=exif)
    assert film_size(tmp_path / "film.jpg") == (80, 64)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_a_film_cut_off_anywhere_is_refused_or_read_whole(tmp_path, suffix):
    whole, path = encoded(suffix), tmp_path / f"film{suffix}"
    path.write_bytes(whole)
    film = read_film(path)
    lengths = {*range(0, len(whole), max(1, len(whole) // 60)), *range(len(whole) - 12, len(whole))}
    refused = 0
    for length in lengths:
        path.write_bytes(whole[:length])
        got = film_or_error(path)
        if isinstance(got, str):
            refused += 1
            assert str(path) in got
            assert "hint: copy it again" in got
        else:
            assert np.array_equal(got, film), f"{length} of {len(whole)} bytes gave another film"
    assert refused >= len(lengths) - 4


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path):
    whole, path = bytearray(encoded(".png")), tmp_path / "film.png"
    for position in range(40, len(whole) - 16, len(whole) // 50):
        damaged = whole.copy()
        damaged[position] ^= 8
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged or cut off"):
            read_film(path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.png", b"", "is empty"),
        ("a.jpg", b"<html>not found</html>", "is no image"),
        ("a.png", b"\x80\x04\x95cos\nsystem\n(S'touch /tmp/x'\ntR.", "is no image"),
        ("a.png", encoded(".jpg"), "is a JPEG file by its content"),
        ("a.jpg", encoded(".bmp"), "rename it to a.bmp"),
    ],
)
def test_what_is_no_film_is_refused_by_name(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (film_size, read_film):
        with pytest.raises(DataError, match=says) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "hint: " in str(error.value)


def test_a_missing_film_a_folder_and_a_speck_are_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(tmp_path / "speck.png")
    for name in ("missing.png", "folder.png", "speck.png"):
        with pytest.raises(DataError, match=name):
            read_film(tmp_path / name)


def png_header(width: int, height: int, packed: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(20_000, 20_000, zlib.compress(bytes(400_000_000 // 100))))
    for read in (film_size, read_film):
        with pytest.raises(DataError, match="more than 100 megapixels"):
            read(path)
    assert MAX_PIXELS == 100_000_000


def test_a_film_of_95_megapixels_is_no_bomb_and_warns_of_nothing(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_header(9_500, 10_000))
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert film_size(path) == (10_000, 9_500)
    assert limit == Image.MAX_IMAGE_PIXELS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".jpg", ".png", ".bmp", ".tif"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    header_only=st.booleans(),
)
def test_damaged_films_raise_nothing_but_data_errors(tmp_path, suffix, edits, header_only):
    content = bytearray(encoded(suffix))
    for place, value in edits:
        content[int(place * (min(len(content), 120) - 1 if header_only else len(content) - 1))] = value
    path = tmp_path / f"film{suffix}"
    path.write_bytes(content)
    got = film_or_error(path)
    assert str(path) in got if isinstance(got, str) else got.dtype == np.uint8


@pytest.mark.shared
def test_real_films_are_read_as_grey():
    path = shared_data() / "isbi2015" / "RawImage" / "TrainingData" / "001.jpg"
    assert film_size(path) == read_film(path).shape == (960, 774)


def test_a_noise_film_is_what_it_says(tmp_path):
    film = read_film(noise_film(tmp_path / "a.bmp"))
    assert film.shape == (80, 64)
    assert film[-1, -1] == 255


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tif"])
def test_a_grey_film_is_decoded_into_one_array(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    Image.fromarray(np.full((1000, 1000), 100, np.uint8)).save(path)
    read_film(path)
    tracemalloc.start()
    try:
        film = read_film(path)
        assert film.nbytes <= tracemalloc.get_traced_memory()[1] < 1.5 * film.nbytes
    finally:
        tracemalloc.stop()
    assert film.flags.writeable
    assert (film == 100).all()
