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
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ceph.data.files import FEWER, refuse_size, regular
from ceph.data.grey import FEW_LEVELS, Counts, histogram, own_range
from ceph.data.spacing import GIVE, Fail, plausible_magnification, plausible_spacing
from ceph.errors import ConfigError, DataError, is_out_of_memory

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

SUFFIX = ".dcm"
MAYBE = (".dicom", ".dic", ".ima")  # how the name of one may end, as well as with nothing, or as a UID: with a number
PREAMBLE, MAGIC = 128, b"DICM"
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
SAME = 1e-3  # spacings that differ by less are one that was rounded: no head is magnified so little
DETECTOR = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")  # spacings in the plane of the detector or the film
CORRECTED = ("GEOMETRY", "FIDUCIAL")  # values of PixelSpacingCalibrationType
BETWEEN = 0.03  # of a film's pixels are neither black nor white, through whatever window it is meant to be seen
ONE_TONE = 8  # a window that shows the first or last eighth of a film's range, and nothing in the rest, is no film's
LAYOUT = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    *DETECTOR,
    "EstimatedRadiographicMagnificationFactor",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
)


def is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM film: by its name, or by its content where its name does not say what it is."""
    ending = path.suffix.lower()
    if ending == SUFFIX:
        return True
    untold = ending in ("", *MAYBE) or ending[1:].isdigit()
    if not untold or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return begins_so(stream.read(PREAMBLE + len(MAGIC)))
    except OSError:
        return False


def begins_so(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a DICOM file."""
    return start[PREAMBLE:].startswith(MAGIC)


def dicom_size(path: Path) -> tuple[int, int]:
    """(H, W) of the film in `path`, from its header."""
    with _opened(path, header=True) as data:
        return _size(data, path)


def dicom_spacing(path: Path) -> tuple[float | None, str, str]:
    """`spacing_in` the header of the film in `path`. Raises DataError naming the file."""

    def fail(what: str, *, hint: str) -> NoReturn:
        raise DataError(f"{path}: {what}", hint=hint)

    with _opened(path, header=True) as data:
        return spacing_in(data, fail)


def spacing_in(data: FileDataset, fail: Fail) -> tuple[float | None, str, str]:
    """Mm per pixel of a film in the plane of the head, where that is from, and why it is unknown.

    PixelSpacing, unless it is that of the detector or scanner (ImagerPixelSpacing, NominalScannedPixelSpacing) and no
    PixelSpacingCalibrationType says otherwise: then it was not corrected (DICOM PS3.3, 10.7.1.1). The spacing there is
    divided by EstimatedRadiographicMagnificationFactor, else by DistanceSourceToDetector over DistanceSourceToPatient;
    None without these. `fail` is called for pixels that are no squares, and for what no film and no head has.
    """
    stated = _square(data.get("PixelSpacing"), "PixelSpacing", fail)
    on_detector = {name: mm for name in DETECTOR if (mm := _square(data.get(name), name, fail))}
    same = [name for name, mm in on_detector.items() if stated and abs(mm - stated) <= SAME * mm]
    corrected = str(data.get("PixelSpacingCalibrationType") or "").strip()
    if stated and (corrected in CORRECTED or not same):
        source = "DICOM PixelSpacing" + (f" ({corrected})" if corrected in CORRECTED else "")
        return plausible_spacing(stated, f"PixelSpacing {stated:g}", fail, GIVE), source, ""
    if not on_detector:
        return None, "", "its DICOM header states none"
    name = (same or list(on_detector))[0]
    factor, how = _magnification(data, fail)
    if factor is None:
        also = f" (PixelSpacing is {name}, uncorrected)" if same else ""
        why = f"states {on_detector[name]:g} on the detector{also}, but not how much it is magnified"
        return None, "", f"its DICOM header {why}"
    given = f"{name} {on_detector[name]:g} / magnification {factor:g}"
    return (
        plausible_spacing(on_detector[name] / factor, given, fail, GIVE),
        f"DICOM {name} / magnification {factor:.4g}{how}",
        "",
    )


def read_dicom(path: Path) -> NDArray[np.uint8]:
    """The film in `path` as grey [H, W], 0 black.

    Decompressed, rescaled, and seen through its first window or VOI table; without one, or with one that was made for
    another depth and leaves hardly a level, its own range (`grey.own_range`, without padding) fills 0 to 255.
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
        seen = windowed(film, data)
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
    photometric = str(data.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or int(data.get("SamplesPerPixel", 1)) != 1:
        raise DataError(
            f"{path}: its pixels are {photometric or 'of an unknown kind'}, not grey",
            hint="a film is MONOCHROME1 or MONOCHROME2; save a screen shot as PNG instead",
        )
    if int(data.get("NumberOfFrames") or 1) != 1:
        raise DataError(f"{path}: holds {data.NumberOfFrames} frames", hint="a film has one; export it alone")
    H, W = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    refuse_size(path, W, H)
    return H, W


def _magnification(data: FileDataset, fail: Fail) -> tuple[float | None, str]:
    """How much larger the head is on the detector, and in words by which distances; None where nothing says it."""
    name = "EstimatedRadiographicMagnificationFactor"
    if (factor := float(data.get(name) or 0)) > 0:
        return plausible_magnification(factor, f"{name} {factor:g}", fail), ""
    detector, patient = (float(data.get(f"DistanceSourceTo{end}") or 0) for end in ("Detector", "Patient"))
    if not (detector > 0 and patient > 0):  # zero is written for "unknown"
        return None, ""
    given = f"DistanceSourceToDetector {detector:g} mm over DistanceSourceToPatient {patient:g} mm"
    factor = plausible_magnification(detector / patient, given, fail)
    return factor, f" (source-detector {detector:g} / source-patient {patient:g} mm)"


def _square(value: Any, name: str, fail: Fail) -> float | None:
    """The side of a pixel in mm out of [between rows, between columns]; None where the element is missing."""
    if value is None or len(value) == 0:
        return None
    rows, columns = float(value[0]), float(value[-1])
    if not rows > 0 or not columns > 0 or abs(rows - columns) > SQUARE * rows:
        fail(f"{name} {rows:g} x {columns:g} mm: pixels of a film are squares", hint=GIVE)
    return (rows + columns) / 2


def windowed(film: NDArray[Any], data: FileDataset) -> NDArray[np.uint8]:
    """Grey levels as displayed, 0..255: a table over the film's own levels, since a film has many more pixels."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    low, high = int(film.min()), int(film.max())
    levels = np.arange(low, high + 1).astype(film.dtype)
    counts = _unpadded(histogram(film, low, high), levels, data)
    first, last = own_range(counts)
    own = slice(first, last + 1)
    values = np.asarray(apply_modality_lut(levels, data), dtype=np.float64)
    seen = plain = _grey(_stretched(values, own))
    if data.get("VOILUTSequence"):
        looked_up = np.asarray(apply_voi(values.round().astype(np.int32), data), dtype=np.float64)
        seen = _grey(_stretched(looked_up, own))
    elif data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:
        function = str(data.get("VOILUTFunction", ""))
        seen = _grey(_window(values, _first(data.WindowCenter), _first(data.WindowWidth), function))
    other_depth = not _shows(seen[own], counts[own]) and _shows(plain[own], counts[own])
    return (plain if other_depth else seen)[film.astype(np.int32) - low]


def _shows(table: NDArray[np.uint8], counts: Counts) -> bool:
    """Whether `table` shows a film of this histogram: in many of 256 levels, and not nearly all of it in one."""
    between = counts[(table > 0) & (table < 255)].sum() >= BETWEEN * counts.sum()
    end = len(table) // ONE_TONE
    one_tone = table[end] == table[-1] or table[-1 - end] == table[0]
    return int(table.max()) - int(table.min()) >= FEW_LEVELS and bool(between) and not one_tone


def _unpadded(counts: Counts, levels: NDArray[Any], data: FileDataset) -> Counts:
    """The film's histogram over its `levels` without its padding (PixelPaddingValue, PixelPaddingRangeLimit)."""
    value = data.get("PixelPaddingValue")
    if value is None:
        return counts
    ends = np.array([value, data.get("PixelPaddingRangeLimit", value)]).astype(levels.dtype)
    left: Counts = np.where((levels >= ends.min()) & (levels <= ends.max()), 0, counts)
    return left if left.any() else counts


def _grey(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """0..1 as 0..255."""
    return np.round(values * 255).astype(np.uint8)


def _stretched(values: NDArray[np.float64], own: slice) -> NDArray[np.float64]:
    """Values moved, scaled and clipped so that those of the film itself, at the places `own`, fill 0..1."""
    low, high = values[own].min(), values[own].max()
    return np.asarray(((values - low) / max(high - low, 1e-12)).clip(0, 1))


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
