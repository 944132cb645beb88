"""Read a film from a DICOM file (extra `dicom`): its grey values as they are meant to be seen, and its spacing.

Only the elements named here are ever looked at; nothing about a patient is read into a result.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ceph.data.files import FEWER, regular
from ceph.errors import ConfigError, DataError, is_out_of_memory

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

SUFFIX = ".dcm"
INSTALL = "pip install 'ceph-trainer[dicom]'"
# Which decoder of pydicom's takes which compression; a syntax that is not here is not compressed. GDCM, which
# pydicom would prefer, ends the process on files that are slightly damaged.
DECODERS = {
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG, 8 bits
    "1.2.840.10008.1.2.4.90": "pillow",  # JPEG 2000
    "1.2.840.10008.1.2.4.91": "pillow",
    "1.2.840.10008.1.2.4.51": "pylibjpeg",  # JPEG, 12 bits
    "1.2.840.10008.1.2.4.57": "pylibjpeg",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "pylibjpeg",
    "1.2.840.10008.1.2.4.80": "pylibjpeg",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
}
SQUARE = 0.01  # rows and columns may differ by this share
LAYOUT = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
)


def is_dicom(path: Path) -> bool:
    """Whether the file's name says that it is a DICOM file."""
    return path.suffix.lower() == SUFFIX


def dicom_size(path: Path) -> tuple[int, int]:
    """(H, W) of the film in `path`, from its header."""
    with _opened(path, header=True) as data:
        return _size(data, path)


def dicom_spacing(path: Path) -> tuple[float | None, str, str]:
    """Mm per pixel of the film in `path` in the plane of the head, where that is from, and why it is unknown.

    PixelSpacing where it is there; else ImagerPixelSpacing, which holds on the detector, divided by
    EstimatedRadiographicMagnificationFactor; None without that factor. Raises DataError for pixels that are no squares.
    """
    with _opened(path, header=True) as data:
        if spacing := _square(data.get("PixelSpacing"), "PixelSpacing", path):
            return spacing, "DICOM PixelSpacing", ""
        if not (spacing := _square(data.get("ImagerPixelSpacing"), "ImagerPixelSpacing", path)):
            return None, "", " (its DICOM header states none)"
        factor = float(data.get("EstimatedRadiographicMagnificationFactor") or 0)
        if not factor >= 1:
            return None, "", f" (its DICOM header states {spacing:g} on the detector, but not how much it is magnified)"
        return spacing / factor, f"DICOM ImagerPixelSpacing / magnification {factor:g}", ""


def read_dicom(path: Path) -> NDArray[np.uint8]:
    """The film in `path` as grey [H, W], 0 black.

    Decompressed, rescaled, and seen through its first window or VOI table; without one, its own range fills 0 to 255.
    MONOCHROME1 (0 is white) is inverted. Raises DataError naming the file for what is no single grey film.
    """
    with _opened(path, header=False) as data:
        _size(data, path)
        photometric = str(data.get("PhotometricInterpretation", ""))
        if int(data.get("BitsAllocated", 0)) not in (8, 16):
            raise DataError(f"{path}: has {data.get('BitsAllocated')} bits a pixel; a film has 8 or 16")
        if decoder := DECODERS.get(data.file_meta.TransferSyntaxUID):
            if decoder == "pylibjpeg" and find_spec("libjpeg") is None:
                raise ConfigError(f"{path}: this kind of compression needs the extra `dicom`", hint=INSTALL)
            data.pixel_array_options(decoding_plugin=decoder)
        film = data.pixel_array
        if film.ndim != 2:
            raise DataError(f"{path}: holds an array of shape {film.shape}, not one grey film")
        seen = _windowed(film, data)
        return 255 - seen if photometric == "MONOCHROME1" else seen


@contextmanager
def _opened(path: Path, *, header: bool) -> Iterator[FileDataset]:
    """The dataset in `path`; whatever goes wrong inside becomes a DataError."""
    try:
        dcmread = _reader()
    except ImportError as error:
        raise ConfigError(f"{path}: reading DICOM films needs the extra `dicom`", hint=INSTALL) from error
    if regular(path) == 0:
        raise DataError(f"{path}: is empty")
    try:
        yield dcmread(path, stop_before_pixels=header, specific_tags=list(LAYOUT) if header else None)
    except (DataError, ConfigError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise DataError(f"{path}: out of memory while reading its pixels", hint=FEWER) from error
        # Decoders raise whatever they meet; their texts may span many lines.
        reason = str(error).strip().splitlines()
        raise DataError(
            f"{path}: is no DICOM film that can be read ({reason[0] if reason else type(error).__name__})",
            hint="export it again, as an uncompressed DICOM file or as PNG",
        ) from error


@cache
def _reader() -> Callable[..., FileDataset]:
    """Pydicom's reader, told once to say nothing of broken rules that have no bearing on the pixels of a film."""
    from pydicom import config, dcmread

    config.settings.reading_validation_mode = config.IGNORE
    warnings.filterwarnings("ignore", module="pydicom")
    return dcmread


def _size(data: FileDataset, path: Path) -> tuple[int, int]:
    """(H, W) by the header; DataError for what is no grey film of one frame and of a size that films have."""
    from ceph.data.images import MAX_PIXELS, MIN_SIDE

    photometric = str(data.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or int(data.get("SamplesPerPixel", 1)) != 1:
        raise DataError(
            f"{path}: its pixels are {photometric or 'of an unknown kind'}, not grey",
            hint="a film is MONOCHROME1 or MONOCHROME2; save a screen shot as PNG instead",
        )
    if int(data.get("NumberOfFrames") or 1) != 1:
        raise DataError(f"{path}: holds {data.NumberOfFrames} frames", hint="a film has one; export it alone")
    H, W = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    if H * W > MAX_PIXELS:
        raise DataError(f"{path}: {W} x {H} pixels is more than {MAX_PIXELS // 10**6} megapixels")
    if min(H, W) < MIN_SIDE:
        raise DataError(f"{path}: {W} x {H} pixels is no film")
    return H, W


def _square(value: Any, name: str, path: Path) -> float | None:
    """The side of a pixel in mm out of [between rows, between columns]; None where the element is missing."""
    if value is None or len(value) == 0:
        return None
    rows, columns = float(value[0]), float(value[-1])
    if not rows > 0 or not columns > 0 or abs(rows - columns) > SQUARE * rows:
        raise DataError(f"{path}: {name} {rows:g} x {columns:g} mm: pixels of a film are squares")
    return (rows + columns) / 2


def _windowed(film: NDArray[Any], data: FileDataset) -> NDArray[np.uint8]:
    """Grey levels as displayed, 0..255: a table over the film's own levels, since a film has many more pixels."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    low, high = int(film.min()), int(film.max())
    levels = np.arange(low, high + 1).astype(film.dtype)
    values = np.asarray(apply_modality_lut(levels, data), dtype=np.float64)
    if data.get("VOILUTSequence"):
        values = _stretched(np.asarray(apply_voi(values.round().astype(np.int32), data), dtype=np.float64))
    elif data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:
        function = str(data.get("VOILUTFunction", ""))
        values = _window(values, _first(data.WindowCenter), _first(data.WindowWidth), function)
    else:
        values = _stretched(values)
    return np.round(values * 255).astype(np.uint8)[film.astype(np.int64, copy=False) - low]


def _stretched(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values moved and scaled so that they fill 0..1."""
    low, high = values.min(), values.max()
    return np.asarray((values - low) / max(high - low, 1e-12))


def _window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Values seen through a window, 0..1 (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _first(value: Any) -> float:
    """The first of one or several values of an element."""
    return float(value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value)
