"""Row 10 of docs/reliability.md: films that are broken, hostile, or of a kind that asks for a decision."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.reliability.processes import one_message, run_words, tries

from ceph.data.images import film_size, read_film
from ceph.errors import DataError

FORMATS = {".jpg": "jpeg", ".png": "png", ".bmp": "bmp", ".tif": "tiff"}
NOISE = np.random.default_rng(0).integers(0, 256, (96, 80), dtype=np.uint8)


def encoded(suffix: str, film: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (film or Image.fromarray(NOISE)).save(stream, FORMATS[suffix], **options)
    return stream.getvalue()


def cut_off(suffix, chance):
    whole = encoded(suffix)
    return suffix, whole[: chance.randrange(len(whole) * 9 // 10)]


def wrong_ending(suffix, chance):
    return chance.choice([s for s in FORMATS if s != suffix]), encoded(suffix)


def empty(suffix, chance):
    return suffix, b"\n" * chance.choice([0, 0, 1, 40])


def no_film(suffix, chance):
    return suffix, chance.choice([b"<html>404</html>", b"GIF89a" + bytes(60), b"%PDF-1.7", bytes(200), b"PK\3\4" * 9])


def bomb(suffix, chance):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    side = chance.choice([20_000, 40_000, 2**31 - 1])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, chance.choice([0, 2]), 0, 0, 0))
    packed = zlib.compress(bytes(400_000 * 100), 9)  # 40 MB in 40 KiB
    return ".png", b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def rotated(suffix, chance):
    suffix = chance.choice([".jpg", ".png", ".tif"])
    exif = Image.Exif()
    exif[0x0112] = chance.randrange(2, 9)
    return suffix, encoded(suffix, exif=exif)


def for_printing(suffix, chance):
    suffix = chance.choice([".jpg", ".tif"])
    return suffix, encoded(suffix, Image.fromarray(NOISE).convert("CMYK"))


def black_or_white(suffix, chance):
    suffix = chance.choice([".png", ".bmp", ".tif"])
    return suffix, encoded(suffix, Image.fromarray(NOISE).convert("1"))


def speck(suffix, chance):
    return suffix, encoded(suffix, Image.new("L", (1, 1)))


def changed_bytes(suffix, chance):
    whole = bytearray(encoded(".png"))
    for _ in range(chance.randrange(1, 6)):
        whole[chance.randrange(50, len(whole) - 16)] ^= 1 << chance.randrange(8)
    return ".png", bytes(whole)


REFUSED = (cut_off, wrong_ending, empty, no_film, rotated, for_printing, black_or_white, speck, changed_bytes, bomb)


@tries(60, 300)
def test_row_10_every_broken_film_is_named_with_what_to_do(tmp_path, tries):
    chance = random.Random(tries)
    for attempt in range(tries):
        fault = REFUSED[attempt % len(REFUSED)]
        suffix, content = fault(chance.choice(list(FORMATS)), chance)
        path = tmp_path / f"{attempt}{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError) as error:
            read_film(path)
        assert str(path) in str(error.value), fault
        assert "hint: " in str(error.value), (fault, str(error.value))


def test_row_10_sixteen_bits_and_transparency_are_read_as_they_are_meant(tmp_path):
    deep = NOISE.astype(np.uint16) * 16 + 300
    for suffix in (".png", ".tif"):
        (tmp_path / f"deep{suffix}").write_bytes(encoded(suffix, Image.fromarray(deep)))
        expected = np.round((NOISE - float(NOISE.min())) * 255 / (int(NOISE.max()) - int(NOISE.min())))
        assert np.array_equal(read_film(tmp_path / f"deep{suffix}"), expected)
    clear = Image.merge("LA", (Image.fromarray(NOISE), Image.new("L", NOISE.shape[::-1], 0)))
    (tmp_path / "clear.png").write_bytes(encoded(".png", clear))
    assert np.array_equal(read_film(tmp_path / "clear.png"), NOISE)
    assert film_size(tmp_path / "clear.png") == NOISE.shape


READ = """
import json, sys
from pathlib import Path
from ceph.data.images import read_film
from ceph.errors import DataError
for name in sys.argv[1:]:
    try:
        shape = list(read_film(Path(name)).shape)
    except DataError as error:
        shape = str(error)
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
    print(json.dumps([name, shape, peak]), flush=True)
"""


def peaks(*files: Path) -> list[tuple[str, object, int]]:
    """What became of each film, and the peak of memory in MiB up to it, of a process that reads them in turn."""
    command = [sys.executable, "-c", READ, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_row_10_a_bomb_of_400_megapixels_costs_no_memory(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(".png", random.Random(1))[1])
    assert path.stat().st_size < 400 * 1024
    ((_, said, peak),) = peaks(path)
    assert "megapixels" in said
    assert peak < 1000


@pytest.mark.slow
def test_row_10_the_largest_films_that_are_read_stay_below_a_gigabyte(tmp_path):
    side = 10_000
    files = []
    for name, film, options in (
        ("grey.png", Image.new("L", (side, side)), {}),
        ("colour.png", Image.new("RGB", (side, side)), {}),
        ("alpha.png", Image.new("RGBA", (side, side)), {}),
        ("deep.png", Image.new("I;16", (side, side)), {}),
        ("colour.tif", Image.new("RGB", (side, side)), {"compression": "tiff_lzw"}),
        ("colour.bmp", Image.new("RGB", (side, side)), {}),
        ("colour.jpg", Image.new("RGB", (side, side)), {"progressive": True, "subsampling": 0}),
    ):
        film.save(tmp_path / name, **options)
        files.append(tmp_path / name)
    for file in files:
        ((_, shape, peak),) = peaks(file)
        print(f"row 10: {file.name}: {peak} MiB")
        assert shape == [side, side]
        assert peak < 1000


@tries(1, 8)
def test_row_10_no_run_trains_on_a_broken_film_without_a_word(tiny_set, tmp_path, tries, nursery):
    import shutil

    for attempt in range(tries):
        films = tmp_path / f"films-{attempt}"
        shutil.copytree(tiny_set, films)
        victim = sorted((films / "train" / "Cephalograms").iterdir())[attempt]
        whole = victim.read_bytes()
        victim.write_bytes(whole[: len(whole) * 2 // 3])
        code, errors = nursery.run(
            run_words(films, tmp_path / str(attempt), workers=(attempt + 1) % 2), tmp_path / f"{attempt}-io"
        )
        assert code == 2, errors
        assert one_message(errors), errors
        assert f"{victim}: is damaged or cut off" in errors
        assert "hint: copy it again" in errors
