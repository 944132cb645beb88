"""Read a film from its file: grey, 8 bit, complete, and refused with a reason where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from ceph.data import dicom
from ceph.data.files import COPY_AGAIN, FEWER, refuse_size, regular
from ceph.data.grey import histogram, own_range
from ceph.errors import DataError, is_out_of_memory

ORIENTATION = 0x0112  # EXIF and TIFF
PHOTOMETRIC = 0x0106  # TIFF; 0 means that white is zero


class Kind(NamedTuple):
    """A kind of image file: how it begins, how its name ends, and Pillow's class for it."""

    name: str
    magics: tuple[bytes, ...]
    suffixes: tuple[str, ...]
    decoder: type[ImageFile.ImageFile]


KINDS = (
    Kind("JPEG", (b"\xff\xd8\xff",), (".jpg", ".jpeg"), JpegImageFile),
    Kind("PNG", (b"\x89PNG\r\n\x1a\n",), (".png",), PngImageFile),
    Kind("BMP", (b"BM",), (".bmp",), BmpImageFile),
    Kind("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), (".tif", ".tiff"), TiffImageFile),
)
SUFFIXES = (*(suffix for kind in KINDS for suffix in kind.suffixes), dicom.SUFFIX)


def is_film(path: Path) -> bool:
    """Whether a file's name says that it is a film, or, where the name says nothing, its content that it is DICOM."""
    return path.suffix.lower() in SUFFIXES or dicom.is_dicom(path)


def stem_of(path: Path) -> str:
    """What a film's file is called without its ending; all of `1.2.840.7`, which has none."""
    return path.stem if path.suffix.lower() in (*SUFFIXES, *dicom.MAYBE) else path.name


def film_size(path: Path) -> tuple[int, int]:
    """(H, W) of the film in `path`, from the file's header alone; raises DataError as `read_film` does for a header."""
    if dicom.is_dicom(path):
        return dicom.dicom_size(path)
    with _opened(path) as image:
        return image.size[1], image.size[0]


def read_film(path: Path) -> NDArray[np.uint8]:
    """The film in `path` as grey [H, W], 0 black.

    Colour becomes luma (ITU-R 601), transparency is ignored, a palette is applied. 16-bit films are scaled linearly so
    that their own range (`grey.own_range`) fills 0 to 255: scanners fill very different parts of the 16 bits.
    Raises DataError naming the file for a film that is cut off, no image, too large, named for another kind, rotated
    by its EXIF data, or of a kind that cannot be turned into grey without guessing (CMYK, floats, one bit).
    """
    if dicom.is_dicom(path):
        return dicom.read_dicom(path)
    if path.suffix.lower() == ".png":
        # Pillow checks no checksum of a PNG's pixels while it decodes them.
        with _opened(path) as image:
            image.verify()
    with _opened(path) as image:
        if isinstance(image, JpegImageFile) and image.mode == "RGB":
            # A JPEG stores luma beside colour: decode only that, in half the time and a quarter of the memory.
            image.draft("L", None)
        film = _decoded_in_place(image)
        if isinstance(image, PngImageFile):
            _refuse_rotation(image, path)  # a PNG may carry EXIF data after its pixels
        if image.mode.startswith("I"):
            return _sixteen_to_eight(np.asarray(image), path, inverted=_white_is_zero(image))
        if film is not None:
            return film
        image.info.pop("transparency", None)
        return np.array(image if image.mode == "L" else image.convert("L"))


def _decoded_in_place(image: ImageFile.ImageFile) -> NDArray[np.uint8] | None:
    """Decode the pixels; those of a grey image straight into an array [H, W], and None for any other.

    `np.array(image)` would encode them again into bytes and copy these twice: a third of the time of decoding.
    """
    if image.mode != "L":
        image.load()
        return None
    film = np.zeros((image.size[1], image.size[0]), np.uint8)
    own = Image.frombuffer("L", image.size, film, "raw", "L", 0, 1).im
    image.im = own
    image.load()
    return film if image.im is own else None  # a decoder may replace its pixels by others, as of a turned TIFF


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The image in `path`, with its header read and checked; whatever goes wrong inside becomes a DataError.

    The decoder is called directly: Pillow's `open` would warn of a bomb at 89 megapixels, which real films exceed, and
    its limit is a global of the process. It also leaves out the dozens of formats that no film comes in.
    """
    if regular(path) == 0:
        raise DataError(f"{path}: is empty", hint=COPY_AGAIN)
    part = "its header"
    try:
        with path.open("rb") as stream:
            kind = _kind(stream.read(256), path)
            stream.seek(0)
            image = kind.decoder(stream)
            _refuse(image, path)
            part = f"its {image.size[0]} x {image.size[1]} pixels"
            yield image
    except DataError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise DataError(f"{path}: out of memory while reading {part}", hint=FEWER) from error
        # Decoders raise OSError, SyntaxError, struct.error, zlib.error, IndexError ... for one and the same thing.
        raise DataError(f"{path}: is damaged or cut off ({error})", hint=COPY_AGAIN) from error


def _kind(start: bytes, path: Path) -> Kind:
    """The kind that the first bytes tell; it must be the one that the name tells."""
    for kind in KINDS:
        if start.startswith(kind.magics):
            if path.suffix.lower() not in kind.suffixes:
                raise DataError(
                    f"{path}: is a {kind.name} file by its content, not what its name ends in",
                    hint=f"rename it to {path.stem}{kind.suffixes[0]}, or find out what went wrong when it was saved",
                )
            return kind
    if dicom.begins_so(start):
        raise DataError(
            f"{path}: is a DICOM file by its content, not what its name ends in",
            hint=f"rename it to {stem_of(path)}{dicom.SUFFIX}",
        )
    raise DataError(f"{path}: is no image: a film is a {', '.join(k.name for k in KINDS)} file", hint=COPY_AGAIN)


def _refuse(image: ImageFile.ImageFile, path: Path) -> None:
    """Raise DataError for what the header shows to be no film, or none that can be read without guessing."""
    refuse_size(path, *image.size)
    remedies = {
        "CMYK": "it was saved for printing: save it again as grey",
        "LAB": "save it again as grey",
        "F": "save it again as 16-bit grey: the range of its floats is unknown",
        "1": "it has one bit a pixel, black or white: scan it again as grey",
    }
    if image.mode in remedies:
        raise DataError(f"{path}: its colours ({image.mode}) cannot be read as grey", hint=remedies[image.mode])
    # Asking a PNG decodes it whole if its header has no EXIF data: read_film asks again after decoding.
    if not isinstance(image, PngImageFile) or "exif" in image.info:
        _refuse_rotation(image, path)


def _refuse_rotation(image: ImageFile.ImageFile, path: Path) -> None:
    """Raise DataError for a film that viewers show rotated: its points may be meant for either picture."""
    orientation = image.getexif().get(ORIENTATION, 1)
    if orientation not in (0, 1):  # 0 is not defined; viewers take it for 1
        raise DataError(
            f"{path}: its EXIF data says that viewers must rotate or mirror it (orientation {orientation}), "
            "so its points may be meant for either picture",
            hint="rotate the pixels as the points need it and remove the tag, for example with "
            f"`exiftool -Orientation=1 -n {path.name}` where the points fit the stored pixels",
        )


def _white_is_zero(image: ImageFile.ImageFile) -> bool:
    """Whether a TIFF stores white as zero; Pillow inverts such films of 8 bits, but not of 16."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == 0


def _sixteen_to_eight(film: NDArray[np.generic], path: Path, *, inverted: bool) -> NDArray[np.uint8]:
    """Scale integers [H, W] of at most 16 bits to 0..255 by the film's own range."""
    low, high = int(film.min()), int(film.max())
    if low < 0 or high > 65535:
        raise DataError(
            f"{path}: its values ({low} to {high}) are not 16-bit grey", hint="save it again as 16-bit grey"
        )
    first, last = (low + place for place in own_range(histogram(film, low, high)))
    ramp = np.arange(65536, dtype=np.float64).clip(first, last)
    table = np.round((ramp - first) * (255 / max(last - first, 1))).astype(np.uint8)
    return (255 - table if inverted else table)[film.astype(np.uint16, copy=False)]
