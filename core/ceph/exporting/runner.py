"""Find the landmarks of films with the model in this folder: numpy, onnxruntime and pillow (DICOM: pydicom) suffice.

    python predict.py FILM_OR_FOLDER... --out points.csv [--mm-per-px 0.1] [--threads 1]

Written by `ceph export`. Points are (x, y) in pixels of the film, x right, y down; the centre of the first pixel is
(0, 0). From Python: `points, scores = Model().predict(film)`, film [H, W] uint8. No medical device.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re  # noqa: F401 - for what is put in here
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol  # noqa: F401

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageFile

from ceph.data.dicom import DECODERS, spacing_in, windowed
from ceph.data.grey import histogram, own_range
from ceph.data.names import guarded, shown
from ceph.evaluation.difficulty import Shape, difficulty_px
from ceph.evaluation.spread import FLOOR

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".dcm")
COLUMNS = ("film", "symbol", "x_px", "y_px", "score", "x_mm", "y_mm", "assumed_mm_per_px", "radius_px", "radius_mm")
ALWAYS, PLACES = 7, (3, 3, 4, 3, 3, 5, 2, 2)  # columns; decimals of numbers
MAX_PIXELS, MIN_SIDE, ORIENTATION, PHOTOMETRIC = 100_000_000, 16, 0x0112, 0x0106
LEAST_SHARE = 1e-3  # of a pixel, to be counted
STATIONS: dict[str, dict[str, Any]] = {}


class FilmError(Exception):
    """A film cannot be read; says why."""


# --- from the film to the network's image ----------------------------------------------------------------------------


def taps(image: NDArray[Any], first: NDArray[Any], weights: NDArray[Any], axis: int) -> NDArray[Any]:
    """Along an axis the sums of the pixels first, first + 1 ... [n] of an image, by their weights [taps, n]."""
    shape, total = ((-1, 1), (1, -1))[axis], np.float32(0)
    for tap, weight in enumerate(weights.astype(np.float32)):
        at = (first + tap).clip(0, image.shape[axis] - 1)
        total = total + image.take(at, axis) * weight.reshape(shape)
    return np.asarray(total)


def shrunk(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image by area averages at a smaller size (H, W), to the last bit as OpenCV's INTER_AREA has it."""
    found: NDArray[Any] = image
    for axis in (1, 0):  # across, then down: so the sums are rounded alike
        scale = image.shape[axis] / size[axis]
        start = np.arange(size[axis]) * scale
        first = np.floor(start).astype(int)
        at = first + np.arange(math.ceil(scale) + 1)[:, None]
        share = (np.minimum(at + 1, start + scale) - np.maximum(at, start)).clip(0)
        width = np.minimum(scale, image.shape[axis] - start)
        found = taps(found, first, np.where(share > LEAST_SHARE, share, 0) / width, axis)
    halved = image.shape == (2 * size[0], 2 * size[1])  # where a half is rounded up
    return (np.floor(found + np.float32(0.5)) if halved else np.rint(found)).astype(np.uint8)


class Letterbox(NamedTuple):
    """Where film px land in an image of `size` (H, W): x * scale + offset (x, y)."""

    size: tuple[int, int]
    scale: float
    offset: tuple[float, float]


def letterbox(film: tuple[int, ...], size: tuple[int, int]) -> Letterbox:
    """The film as large as it fits into an image of `size`, in its middle."""
    scale = min(size[0] / film[0], size[1] / film[1])
    x, y = ((size[axis] - film[axis] * scale) / 2 + (scale - 1) / 2 for axis in (1, 0))
    return Letterbox(size, scale, (x, y))


class Levels:
    """A film [H, W] and smaller copies of it, as `ceph` shrinks it: level i has the scale 2 ** (-i / 2)."""

    def __init__(self, film: NDArray[np.uint8]) -> None:
        self.film, self.kept = film, {0: film}

    def at(self, scale: float) -> NDArray[np.uint8]:
        """The smallest level that is not below a scale."""
        return self._level(max(0, min(math.floor(-2 * math.log2(scale) + 1e-6), 16)))

    def line(self, level: NDArray[np.uint8], box: Letterbox, axis: int) -> tuple[float, float]:
        """Where along an axis network px 0 lies in a level, and how many of its px a network px is wide."""
        step = level.shape[axis] / self.film.shape[axis] / box.scale
        return 0.5 * (step * box.scale - 1) - box.offset[1 - axis] * step, step

    def _level(self, level: int) -> NDArray[np.uint8]:
        if level not in self.kept:
            H, W = (max(1, round(side * 2.0 ** (-level / 2))) for side in self.film.shape)
            self.kept[level] = shrunk(self._level((level - 1) // 2 * 2), (H, W))
        return self.kept[level]


def bilinear(image: NDArray[np.uint8], x: NDArray[Any], y: NDArray[Any], border: int = 0) -> NDArray[np.uint8]:
    """An image at x [..., w] and y [..., h], px of what is inside a `border`: [..., h, w], as OpenCV rounds it."""
    sides = []
    for at, side in ((x, image.shape[1]), (y, image.shape[0])):
        at = at.astype(np.float32)
        low = np.floor(at)
        first, second = ((low.astype(int) + border + tap).clip(0, side - 1) for tap in (0, 1))
        sides.append((first, second, at - low))
    (left, right, across), (above, below, down) = sides

    def row(at: NDArray[Any]) -> NDArray[Any]:
        first, second = (image[at[..., :, None], x[..., None, :]].astype(np.float32) for x in (left, right))
        return np.asarray(first + (second - first) * across[..., None, :])

    top = row(above)
    return np.asarray(np.rint(top + (row(below) - top) * down[..., :, None]), np.uint8)


def boxed(levels: Levels, box: Letterbox) -> NDArray[np.uint8]:
    """The film as the network sees it, black around it; places are rounded as in OpenCV, which fuses x's alone."""
    level = levels.at(box.scale)
    (x0, step_x), (y0, step_y) = (levels.line(level, box, axis) for axis in (1, 0))
    x = np.arange(box.size[1]) * float(np.float32(step_x)) + float(np.float32(x0))
    y = np.arange(box.size[0], dtype=np.float32) * np.float32(step_y) + np.float32(y0)
    return bilinear(np.pad(level, 1), x, y, border=1)


def windows(levels: Levels, box: Letterbox, centre: NDArray[Any], step: float, px: int) -> NDArray[np.uint8]:
    """Windows [..., px, px] about `centre` [..., 2] in network px, whose pixels are `step` network px wide."""
    level, along = levels.at(box.scale / step), (np.arange(px) - (px - 1) / 2) * step
    (x0, step_x), (y0, step_y) = (levels.line(level, box, axis) for axis in (1, 0))
    x, y = (centre[..., axis, None] + along for axis in (0, 1))
    return bilinear(level, x * step_x + x0, y * step_y + y0)


# --- the model --------------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What a station may ask of a film: maps [1, K, h, w], the image's size, the mm of its pixels, `look`."""

    maps: NDArray[Any]
    size: tuple[int, int]
    mm_per_px: float
    look: Any


class Found(NamedTuple):
    """Points [K, 2] in px of the film, scores [K], and the radii [K] in px within which the truth lies so often.

    How often is `radius_level` of the manifest. NaN: none is known of that landmark; None: none of any.
    """

    points: NDArray[np.float64]
    scores: NDArray[np.float64]
    radii_px: NDArray[np.float64] | None


def spread(maps: NDArray[Any], points: NDArray[Any], stride: float) -> NDArray[Any]:
    """The root mean square distance [K] in network px of the mass of maps [K, h, w] from points [K, 2]."""
    mass = (maps - FLOOR * maps.max((-2, -1), keepdims=True)).clip(0)
    mass /= mass.sum((-2, -1), keepdims=True).clip(1e-12)
    off = [(np.arange(maps.shape[2 - axis]) + 0.5) * stride - 0.5 - points[:, axis, None] for axis in (0, 1)]
    return np.asarray(np.sqrt(sum((mass.sum(1 + axis) * off[axis] ** 2).sum(-1) for axis in (0, 1))))


class Model:
    """The model of a folder; `threads` 0: as many as there are cores."""

    def __init__(self, folder: Path | str | None = None, threads: int = 0) -> None:
        self.folder, self.threads = Path(folder) if folder else Path(__file__).parent, threads
        self.manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text("utf-8"))
        self.symbols = [landmark["symbol"] for landmark in self.manifest["landmarks"]]
        self.graph = self._session("model.onnx")
        self.stations = {
            name: [self._station(part, make()) for part, make in parts.items()] for name, parts in STATIONS.items()
        }
        self.held_out = self._values("radius") if self.manifest["radius_level"] else None

    def _station(self, part: str, move: Any) -> Any:
        graph = f"{part}.onnx"
        run = partial(self._run, self._session(graph)) if (self.folder / graph).exists() else None
        values = self._values(part)
        return lambda points, scores, film: move(points, scores, film, run, **values)

    def _values(self, name: str) -> dict[str, NDArray[Any]]:
        with np.load(self.folder / "stations.npz", allow_pickle=False) as kept:
            return {key.split(".")[1]: kept[key] for key in kept.files if key.split(".")[0] == name}

    def _session(self, name: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        return onnxruntime.InferenceSession(self.folder / name, options, providers=["CPUExecutionProvider"])

    @staticmethod
    def _run(session: Any, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
        names = [given.name for given in session.get_inputs()]
        found: list[NDArray[Any]] = session.run(None, dict(zip(names, arrays, strict=True)))
        return found

    def predict(
        self, film: NDArray[np.uint8], mm_per_px: float | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points [K, 2] in px of a film [H, W] and scores [K]; `mm_per_px` (None: unknown) is for a second look."""
        return self.find(film, mm_per_px)[:2]

    def find(self, film: NDArray[np.uint8], mm_per_px: float | None = None) -> Found:
        """As `predict`, with radii."""
        levels, sizes = Levels(film), [tuple(size) for size in self.manifest["sizes"]]
        boxes = [letterbox(film.shape, size) for size in sizes]
        images = [boxed(levels, box) for box in boxes]
        on_film, scores, *maps = self._run(self.graph, *images, np.array(film.shape))
        on_film, scores = on_film.astype(np.float64), scores.astype(np.float64)
        if not maps:
            return Found(on_film, scores, None)
        box = boxes[0]
        mm = mm_per_px / box.scale if mm_per_px else self.manifest["assumed_mm_per_network_px"] or math.nan

        def look(centre: NDArray[Any], mm_wide: float, px: int) -> NDArray[np.uint8]:
            return windows(levels, box, centre, float(mm_wide) / int(px) / mm, int(px))

        seen = Seen(maps[0][None], box.size, mm, look)
        points, scores = on_film[None] * box.scale + box.offset, scores[None]
        doubted = points  # before `adapt`, whose offsets are no doubt
        for name, parts in self.stations.items():
            found = [part(points, scores, seen) for part in parts]  # of several runs' second looks the mean
            found = [one for one in found if (one[0] != points).any()] or found  # of those who looked
            points, scores = (np.mean(each, axis=0) for each in zip(*found, strict=True))
            doubted = doubted if name == "adapt" else points
        if self.stations:
            on_film = (points[0] - box.offset) / box.scale
        if self.held_out is None:
            return Found(on_film, scores[0], None)
        wide = spread(maps[0], doubted[0], box.size[1] / maps[0].shape[-1]) / box.scale
        shape = Shape(self.held_out["mean"], self.held_out["covariance"])
        hard = difficulty_px(on_film[None], scores, wide[None], np.array([mm_per_px or math.nan]), shape)
        return Found(on_film, scores[0], self.held_out["factor"] * hard[0])

    def assumed(self, film: NDArray[np.uint8]) -> float | None:
        """The mm of a pixel that a second look takes a film without spacing to have; None where there is no look."""
        if "refiner" not in STATIONS:
            return None
        size = self.manifest["sizes"][0]
        return round(float(self.manifest["assumed_mm_per_network_px"]) * letterbox(film.shape, size).scale, 5)


# --- films and answers ------------------------------------------------------------------------------------------------


def read_film(path: Path) -> NDArray[np.uint8]:
    """The film in a file as grey [H, W], 0 black. Raises FilmError."""
    if is_dicom(path):
        return read_dicom(path)
    try:
        if path.suffix.lower() == ".png":
            with opened(path) as image:
                image.verify()  # the checksums, which decoding leaves out
        with opened(path) as image:
            if image.format == "JPEG" and image.mode == "RGB":
                image.draft("L", None)  # the luma that it stores
            image.load()
            require_upright(image)
            if image.mode.startswith("I"):
                white_is_zero = image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == 0  # type: ignore[attr-defined]
                return eight_bits(np.asarray(image), inverted=white_is_zero)
            image.info.pop("transparency", None)
            return np.array(image if image.mode == "L" else image.convert("L"))
    except FilmError:
        raise
    except Exception as error:  # decoders raise what they like
        raise FilmError(f"is damaged or cut off ({error})") from error


def opened(path: Path) -> ImageFile.ImageFile:
    """The image in a file, its header read. Raises FilmError."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    image = Image.open(path, formats=("JPEG", "PNG", "BMP", "TIFF"))
    if image.width * image.height > MAX_PIXELS or min(image.size) < MIN_SIDE:
        raise FilmError(f"{image.width} x {image.height} pixels is no film")
    if image.mode in ("CMYK", "LAB", "F", "1"):
        raise FilmError(f"its colours ({image.mode}) cannot be read as grey")
    return image


def require_upright(image: ImageFile.ImageFile) -> None:
    """Raise FilmError for a film that viewers show turned."""
    if image.getexif().get(ORIENTATION, 1) not in (0, 1):
        raise FilmError("its EXIF data says that viewers must rotate or mirror it")


def eight_bits(film: NDArray[Any], *, inverted: bool) -> NDArray[np.uint8]:
    """Integers [H, W] of at most 16 bits as 0..255, by the film's own range."""
    low, high = int(film.min()), int(film.max())
    if low < 0 or high > 65535:
        raise FilmError(f"its values ({low} to {high}) are not 16-bit grey")
    first, last = (low + place for place in own_range(histogram(film, low, high)))
    ramp = np.arange(65536, dtype=np.float64).clip(first, last)
    table = np.round((ramp - first) * (255 / max(last - first, 1))).astype(np.uint8)
    return (255 - table if inverted else table)[film.astype(np.uint16, copy=False)]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its name or, where that says nothing, by its content."""
    ending = path.suffix.lower()
    if ending == ".dcm":
        return True
    if not (ending in ("", ".dicom", ".dic", ".ima") or ending[1:].isdigit()) or path.name.upper() == "DICOMDIR":
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def dicom_reader() -> Any:
    """What reads a DICOM file. Raises FilmError where pydicom is missing."""
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise FilmError("DICOM films need pydicom: pip install pydicom pylibjpeg pylibjpeg-libjpeg") from error
    return dcmread


def dicom_mm_per_px(path: Path) -> float | None:
    """What a DICOM header says of the mm of a pixel; what it cannot say is told. Raises FilmError."""

    def fail(what: str, *, hint: str) -> NoReturn:
        raise FilmError(f"{what} ({hint.replace('data.mm_per_px', '--mm-per-px')})")

    try:
        mm_per_px, _, why = spacing_in(dicom_reader()(path, stop_before_pixels=True), fail)
    except FilmError as error:
        mm_per_px, why = None, str(error)
    if why:
        print(f"{shown(str(path))}: its mm are not known: {why}", file=sys.stderr)
    return mm_per_px


def read_dicom(path: Path) -> NDArray[np.uint8]:
    """The film in a DICOM file as it is meant to be seen. Raises FilmError."""
    dcmread = dicom_reader()
    try:
        data = dcmread(path)
        if decoder := DECODERS.get(data.file_meta.TransferSyntaxUID):
            data.pixel_array_options(decoding_plugin=decoder)
        film, photometric = data.pixel_array, str(data.get("PhotometricInterpretation", ""))
        if film.ndim == 2 and photometric in ("MONOCHROME1", "MONOCHROME2"):
            seen = windowed(film, data)
            return 255 - seen if photometric == "MONOCHROME1" else seen
    except Exception as error:  # decoders raise what they like
        raise FilmError(f"is no DICOM film that can be read ({error})") from error
    raise FilmError(f"holds {photometric} pixels of shape {film.shape}, not one grey film")


def find_films(paths: Sequence[Path]) -> Iterator[Path]:
    """The films that are named, and those in folders, however deep, sorted; each once."""
    taken = set()
    for path in paths:
        for film in sorted(path.rglob("*")) if path.is_dir() else [path]:
            hidden = path.is_dir() and any(part.startswith(".") for part in film.relative_to(path).parts)
            wanted = film == path or (film.is_file() and (film.suffix.lower() in SUFFIXES or is_dicom(film)))
            if wanted and not hidden and film.resolve() not in taken:
                taken.add(film.resolve())
                yield film


def main() -> int:
    """Predict the films that the command line names; 1 where one could not be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM_OR_FOLDER")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.csv")
    parser.add_argument(
        "--mm-per-px",
        type=float,
        metavar="X",
        help="millimetres of a pixel of all these films; default: what DICOM headers say",
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="cores to use; 0: all")
    call = parser.parse_args()
    if missing := [str(path) for path in call.films if not path.exists()]:
        parser.error(f"there is no {', '.join(missing)}")
    model, table, broken, count = Model(threads=call.threads), [], 0, 0
    for path in find_films(call.films):
        try:
            film = read_film(path)
            mm = call.mm_per_px or (dicom_mm_per_px(path) if is_dicom(path) else None)
        except FilmError as error:
            print(f"{shown(str(path))}: {error}", file=sys.stderr)
            broken += 1
            continue
        count += 1
        points, scores, radii = model.find(film, mm)
        known = np.full(len(points), np.nan) if radii is None else radii
        for symbol, (x, y), score, radius in zip(model.symbols, points, scores, known, strict=True):
            values = [x, y, score, *([x * mm, y * mm] if mm else [None] * 2)]
            more = [None if mm else model.assumed(film), radius, radius * mm if mm else None]
            table.append([guarded(shown(str(path))), guarded(symbol), *map(told, [*values, *more], PLACES)])
    used = [at for at in range(len(COLUMNS)) if at < ALWAYS or any(row[at] != "" for row in table)]
    with call.out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([row[at] for at in used] for row in [COLUMNS, *table])
    print(f"predicted {count} of {count + broken} films; wrote {call.out}")
    return 1 if broken or not count else 0


def told(value: float | None, places: int) -> float | str:
    """A number of the table, rounded; nothing where it is unknown."""
    return "" if value is None or math.isnan(value) else round(float(value), places)


if __name__ == "__main__":
    sys.exit(main())
