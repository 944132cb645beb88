"""DICOM films: grey as they are meant to be seen, the spacing in the plane of the head, and no word about a patient."""

from __future__ import annotations

import base64
import io
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ceph.data import dicom
from ceph.data.convert import convert
from ceph.data.dicom import dicom_spacing
from ceph.data.formats.find import read
from ceph.data.images import film_size, read_film
from ceph.errors import ConfigError, DataError
from ceph.run.predictions import find_films

pydicom = pytest.importorskip("pydicom", reason="needs the extra `dicom`")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

H, W = 60, 48
ROWS, COLUMNS = np.mgrid[:H, :W]
TWELVE = (ROWS * 40 + COLUMNS * 30).astype(np.uint16)  # 0 to 3770
OWN_RANGE = np.round(TWELVE / TWELVE.max() * 255).astype(np.uint8)


def write_dicom(path, film=TWELVE, *, syntax=ExplicitVRLittleEndian, frame=None, bits=12, **elements):
    """Write a film as DICOM, `frame` being its compressed pixels, with a patient's name in it."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.PatientName, data.PatientID = "Doe^Jane", "77-123"
    data.Rows, data.Columns, data.SamplesPerPixel = *film.shape, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = film.dtype.itemsize * 8, bits, bits - 1
    data.PixelRepresentation = 0
    for name, value in elements.items():
        setattr(data, name, value)
    data.PixelData = encapsulate([frame]) if frame else film.tobytes()
    data["PixelData"].VR = "OB" if frame or film.dtype.itemsize == 1 else "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def compressed(film, kind, **settings):
    stream = io.BytesIO()
    Image.fromarray(film).save(stream, format=kind, **settings)
    return stream.getvalue()


def test_a_film_fills_its_own_range_without_a_window(tmp_path):
    path = write_dicom(tmp_path / "f.dcm")
    assert film_size(path) == (H, W)
    np.testing.assert_array_equal(read_film(path), OWN_RANGE)


def test_white_is_zero_in_monochrome1(tmp_path):
    path = write_dicom(tmp_path / "f.dcm", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_film(path), 255 - OWN_RANGE)


def test_values_are_rescaled_and_seen_through_the_first_window(tmp_path):
    path = write_dicom(
        tmp_path / "f.dcm", RescaleSlope=2, RescaleIntercept=-100, WindowCenter=[1000, 5], WindowWidth=[500, 5]
    )
    expected = np.clip((2.0 * TWELVE - 100 - 999.5) / 499 + 0.5, 0, 1) * 255  # PS3.3, C.11.2.1.2.1
    np.testing.assert_array_equal(read_film(path), np.round(expected))


@pytest.mark.parametrize(
    ("function", "at"), [("LINEAR_EXACT", {900: 0, 1000: 128, 1100: 255}), ("SIGMOID", {900: 30, 1000: 128, 1100: 225})]
)
def test_other_windows_follow_the_standard(tmp_path, function, at):
    film = np.tile(np.array([0, 900, 1000, 1100, 4000], dtype=np.uint16), (20, 4))
    path = write_dicom(tmp_path / "f.dcm", film, WindowCenter=1000, WindowWidth=200, VOILUTFunction=function)
    seen = read_film(path)
    assert {value: seen[film == value][0] for value in at} == at


def test_a_table_of_values_is_applied(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 8], [0, 10, 200, 255]
    film = np.tile(np.arange(4, dtype=np.uint8), (20, 5))
    path = write_dicom(tmp_path / "f.dcm", film, bits=8)
    data = pydicom.dcmread(path)
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    data.VOILUTSequence = [table]
    data.save_as(path)
    assert read_film(path)[0, :4].tolist() == [0, 10, 200, 255]


def test_jpeg_2000_is_exact(tmp_path):
    frame = compressed(TWELVE, "JPEG2000", no_jp2=True, irreversible=False)
    path = write_dicom(tmp_path / "f.dcm", syntax=JPEG2000Lossless, frame=frame, bits=16)
    np.testing.assert_array_equal(read_film(path), OWN_RANGE)


def test_rle_is_exact(tmp_path):
    path = write_dicom(tmp_path / "f.dcm")
    data = pydicom.dcmread(path)
    data.compress(RLELossless)
    data.save_as(path)
    np.testing.assert_array_equal(read_film(path), OWN_RANGE)


def test_jpeg_is_close(tmp_path):
    frame = compressed(OWN_RANGE, "JPEG", quality=95)
    path = write_dicom(tmp_path / "f.dcm", OWN_RANGE, syntax=JPEGBaseline8Bit, frame=frame, bits=8)
    assert np.abs(read_film(path).astype(int) - OWN_RANGE).max() <= 6


# A frame of 16 x 16 pixels, 200 * row + 7 * column, compressed by GDCM 3.2.6 (process 14, selection value 1).
LOSSLESS = (
    "/9j/wwALEAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAwgQ/9oACAEBAAEAAM7u7u7u7u7vZDu7u7u7u7u9kO7u7u7u7u72Q7u7u7u7u7vZ"
    "Du7u7u7u7u9kO7u7u7u7u72Q7u7u7u7u7vZDu7u7u7u7u9kO7u7u7u7u72Q7u7u7u7u7vZDu7u7u7u7u9kO7u7u7u7u72Q7u7u7u7u7vZDu7u7u7"
    "u7u9kO7u7u7u7u72Q7u7u7u7u7v/AP/Z"
)


def test_lossless_jpeg_is_exact_and_needs_its_codec(tmp_path, monkeypatch):
    film = (200 * ROWS[:16, :16] + 7 * COLUMNS[:16, :16]).astype(np.uint16)
    path = write_dicom(tmp_path / "f.dcm", film, syntax=JPEGLosslessSV1, frame=base64.b64decode(LOSSLESS))
    np.testing.assert_array_equal(read_film(path), np.round(film / film.max() * 255))
    monkeypatch.setattr("ceph.data.dicom.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"this kind of compression needs the extra `dicom`"):
        read_film(path)


@pytest.mark.parametrize(
    ("elements", "spacing", "source"),
    [
        ({"PixelSpacing": [0.1, 0.1]}, 0.1, "DICOM PixelSpacing"),
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.2, 0.2]}, 0.1, "DICOM PixelSpacing"),
        (
            {"ImagerPixelSpacing": [0.11, 0.11], "EstimatedRadiographicMagnificationFactor": 1.1},
            0.1,
            "DICOM ImagerPixelSpacing / magnification 1.1",
        ),
        ({"ImagerPixelSpacing": [0.11, 0.11]}, None, ""),
        ({}, None, ""),
        # Not corrected for magnification, PS3.3 10.7.1.1: the detector's own spacing under another name.
        ({"PixelSpacing": [0.11, 0.11], "ImagerPixelSpacing": [0.11, 0.11]}, None, ""),
        ({"PixelSpacing": [0.11, 0.11], "NominalScannedPixelSpacing": [0.11, 0.11]}, None, ""),
        (
            {
                "PixelSpacing": [0.11, 0.11],
                "ImagerPixelSpacing": [0.11, 0.11],
                "EstimatedRadiographicMagnificationFactor": 1.1,
            },
            0.1,
            "DICOM ImagerPixelSpacing / magnification 1.1",
        ),
        (
            {
                "PixelSpacing": [0.11, 0.11],
                "ImagerPixelSpacing": [0.11, 0.11],
                "PixelSpacingCalibrationType": "FIDUCIAL",
            },
            0.11,
            "DICOM PixelSpacing (FIDUCIAL)",
        ),
        (
            {
                "ImagerPixelSpacing": [0.11, 0.11],
                "DistanceSourceToDetector": 1650,
                "DistanceSourceToPatient": 1500,
            },
            0.1,
            "DICOM ImagerPixelSpacing / magnification 1.1 (source-detector 1650 / source-patient 1500 mm)",
        ),
        (
            {
                "PixelSpacing": [0.11, 0.11],
                "NominalScannedPixelSpacing": [0.11, 0.11],
                "DistanceSourceToDetector": 1650,
                "DistanceSourceToPatient": 1500,
            },
            0.1,
            "DICOM NominalScannedPixelSpacing / magnification 1.1 (source-detector 1650 / source-patient 1500 mm)",
        ),
        # Zero is written where the distance is not known.
        (
            {"ImagerPixelSpacing": [0.11, 0.11], "DistanceSourceToDetector": 1650, "DistanceSourceToPatient": 0},
            None,
            "",
        ),
    ],
)
def test_the_spacing_is_that_of_the_head(tmp_path, elements, spacing, source):
    found, told, why = dicom_spacing(write_dicom(tmp_path / "f.dcm", **elements))
    assert found == pytest.approx(spacing)
    assert told == source
    assert bool(why) == (spacing is None)


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"PixelSpacing": [25.4, 25.4]}, "PixelSpacing 25.4 is no spacing of a film"),
        ({"PixelSpacing": [1, 1]}, "PixelSpacing 1 is no spacing of a film"),
        ({"PixelSpacing": [0.0001, 0.0001]}, "from 0.02 to below 1 mm (0.0001 metres are 0.1 mm); give data.mm_per_px"),
        (
            {"ImagerPixelSpacing": [0.11, 0.11], "EstimatedRadiographicMagnificationFactor": 110},
            "EstimatedRadiographicMagnificationFactor 110 is no magnification of a head",
        ),
        (
            {"ImagerPixelSpacing": [0.11, 0.11], "EstimatedRadiographicMagnificationFactor": 110},
            "it lies between 1 and 1.5; 110 % are a factor of 1.1; give data.mm_per_px in its place",
        ),
        (
            {"ImagerPixelSpacing": [0.1, 0.1], "DistanceSourceToDetector": 1650, "DistanceSourceToPatient": 150},
            "DistanceSourceToDetector 1650 mm over DistanceSourceToPatient 150 mm is no magnification of a head",
        ),
        (
            {"ImagerPixelSpacing": [2, 2], "EstimatedRadiographicMagnificationFactor": 1.25},
            "ImagerPixelSpacing 2 / magnification 1.25 is no spacing of a film",
        ),
    ],
)
def test_a_spacing_or_a_magnification_that_nothing_has_is_refused_with_what_to_do(tmp_path, elements, says):
    path = write_dicom(tmp_path / "f.dcm", **elements)
    with pytest.raises(DataError) as error:
        dicom_spacing(path)
    assert says in str(error.value)
    assert str(error.value).startswith(str(path))


def test_a_spacing_that_was_not_corrected_is_told_to_be_the_detectors(tmp_path):
    elements = {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}
    says = r"f1 \(its DICOM header states 0\.2 on the detector \(PixelSpacing is ImagerPixelSpacing, uncorrected\)"
    with pytest.raises(ConfigError, match=says):
        read(write_set(tmp_path, **elements))
    assert {sample.mm_per_px for sample in read(tmp_path, mm_per_px=0.18).samples} == {0.18}


def test_pixels_that_are_no_squares_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"f\.dcm: PixelSpacing 0\.1 x 0\.2 mm: pixels of a film are squares"):
        dicom_spacing(write_dicom(tmp_path / "f.dcm", PixelSpacing=[0.1, 0.2]))


@pytest.mark.parametrize(
    ("elements", "says"),
    [
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "its pixels are PALETTE COLOR, not grey"),
        ({"NumberOfFrames": 2}, "holds 2 frames"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels is more than"),
        ({"Rows": 4}, "48 x 4 pixels is no film"),
    ],
)
def test_what_is_no_single_grey_film_is_refused(tmp_path, elements, says):
    path = write_dicom(tmp_path / "f.dcm", **elements)
    for look in (film_size, read_film):
        with pytest.raises(DataError, match=says):
            look(path)


def test_no_dicom_file_is_named(tmp_path):
    (tmp_path / "f.dcm").write_bytes(b"no film at all")
    with pytest.raises(DataError, match=r"f\.dcm: is no DICOM film that can be read"):
        read_film(tmp_path / "f.dcm")


def write_set(folder, **elements):
    """A plain table of two DICOM films."""
    for name in ("f1", "f2"):
        write_dicom(folder / f"{name}.dcm", **elements)
    (folder / "points.csv").write_text("film,split,S_x,S_y\nf1.dcm,train,10,20\nf2.dcm,validation,11,21\n")
    return folder


def test_a_set_may_hold_dicom_films_and_has_their_spacing(tmp_path):
    data = read(write_set(tmp_path, PixelSpacing=[0.12, 0.12]))
    assert {(sample.mm_per_px, sample.spacing_source) for sample in data.samples} == {(0.12, "DICOM PixelSpacing")}


def test_a_spacing_on_the_detector_alone_is_told_to_be_of_no_use(tmp_path):
    with pytest.raises(ConfigError, match=r"f1 \(its DICOM header states 0\.2 on the detector, but not how much"):
        read(write_set(tmp_path, ImagerPixelSpacing=[0.2, 0.2]))


def test_conversion_writes_png_and_no_word_about_the_patient(tmp_path):
    write_set(tmp_path / "set", PixelSpacing=[0.12, 0.12])
    assert convert(tmp_path / "set", tmp_path / "there", "labelme").redrawn == 2
    data = read(tmp_path / "there")
    assert {sample.path.suffix for sample in data.samples} == {".png"}
    assert {(sample.mm_per_px, sample.spacing_source) for sample in data.samples} == {(0.12, "DICOM PixelSpacing")}
    np.testing.assert_array_equal(read_film(data.samples[0].path), OWN_RANGE)
    for path in (tmp_path / "there").rglob("*"):
        if path.is_file():
            assert not any(word in path.read_bytes() for word in (b"Doe", b"Jane", b"77-123"))


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "f.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    dicom._reader.cache_clear()
    with pytest.raises(ConfigError, match=r"needs the extra `dicom`\n  hint: pip install 'ceph-trainer\[dicom\]'"):
        read_film(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4), cut=st.floats(0.1, 2))
def test_a_damaged_file_is_read_or_named(tmp_path, changes, cut):
    frame = compressed(OWN_RANGE, "JPEG", quality=80)
    path = write_dicom(tmp_path / "f.dcm", OWN_RANGE, syntax=JPEGBaseline8Bit, frame=frame, bits=8)
    raw = bytearray(path.read_bytes())
    for place, value in changes:
        raw[int(place * (len(raw) - 1))] = value
    path.write_bytes(bytes(raw[: int(cut * len(raw))]))
    try:
        found = read_film(path)
    except DataError as error:
        found = str(error)
    assert str(path) in found if isinstance(found, str) else found.ndim == 2


def levels(film):
    return len(np.unique(film))


def test_padding_is_no_grey_level_of_the_film(tmp_path):
    film = TWELVE + np.uint16(1000)
    film[:, :10] = 65535
    path = write_dicom(tmp_path / "f.dcm", film, bits=16, PixelPaddingValue=65535)
    inside = film[:, 10:].astype(float)
    seen = np.round((inside - inside.min()) * 255 / (inside.max() - inside.min()))
    np.testing.assert_array_equal(read_film(path)[:, 10:], seen)
    film[:, :5] = 65000
    path = write_dicom(
        tmp_path / "g.dcm", film, bits=16, PixelPaddingValue=64000, PixelPaddingRangeLimit=65535, WindowWidth=None
    )
    np.testing.assert_array_equal(read_film(path)[:, 10:], seen)


def test_signed_padding_is_left_out_too(tmp_path):
    film = TWELVE.astype(np.int16)
    film[:, :10] = -2000
    path = write_dicom(tmp_path / "f.dcm", film, bits=16, PixelRepresentation=1, PixelPaddingValue=-2000)
    assert np.abs(read_film(path)[:, 10:] - OWN_RANGE[:, 10:].astype(int)).max() <= 20  # 300 of 3770 were painted over
    assert levels(read_film(path)[:, 10:]) > 200


@pytest.mark.parametrize(
    ("centre", "width"),
    [
        (32768, 65536),  # of 16 bits: 15 of 256 levels
        (127.5, 256),  # of 8 bits: white beyond the first 256 of 3770
        (60000, 100),  # all black
        (2000, 1),  # black and white
    ],
)
def test_a_window_of_another_depth_is_not_looked_through(tmp_path, centre, width):
    path = write_dicom(tmp_path / "f.dcm", WindowCenter=centre, WindowWidth=width)
    np.testing.assert_array_equal(read_film(path), OWN_RANGE)
    inverse = write_dicom(
        tmp_path / "i.dcm", WindowCenter=centre, WindowWidth=width, PhotometricInterpretation="MONOCHROME1"
    )
    np.testing.assert_array_equal(read_film(inverse), 255 - OWN_RANGE)


def test_a_table_of_another_depth_is_not_looked_through(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 8], [0, 10, 200, 255]
    path = write_dicom(tmp_path / "f.dcm")
    data = pydicom.dcmread(path)
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    data.VOILUTSequence = [table]
    data.save_as(path)
    np.testing.assert_array_equal(read_film(path), OWN_RANGE)


# --- by content -----------------------------------------------------------------------------------------------------


def test_a_film_without_an_ending_is_dicom_by_its_content(tmp_path):
    folder = tmp_path / "films"
    names = ("1.2.840.7", "1.2.840.8", "IM0001", "scan.DICOM")
    for name in (*names, "DICOMDIR"):
        write_dicom(folder / name, PixelSpacing=[0.1, 0.1])
    (folder / "README").write_text("no film")
    (folder / "points.csv").write_text("film,S_x,S_y\nIM0001,1,2\n1.2.840.7,3,4\n1.2.840.8,5,6\nscan,7,8\n")
    data = read(folder)
    assert {s.id: s.points[0, 0].tolist() for s in data.samples} == {
        "IM0001": [1, 2],
        "1.2.840.7": [3, 4],
        "1.2.840.8": [5, 6],
        "scan": [7, 8],
    }
    assert {s.mm_per_px for s in data.samples} == {0.1}
    np.testing.assert_array_equal(read_film(folder / "1.2.840.8"), OWN_RANGE)
    assert [film.name.name for film in find_films([folder])] == list(names)
    convert(folder, tmp_path / "as-png", "csv")
    assert sorted(path.name for path in (tmp_path / "as-png").rglob("*.png")) == [
        f"{name}.png" for name in (*names[:-1], "scan")
    ]


def test_a_dicom_film_that_is_named_as_a_picture_is_told_so(tmp_path):
    with pytest.raises(DataError, match=r"a\.png: is a DICOM file by its content.*\n.*rename it to a\.dcm"):
        read_film(write_dicom(tmp_path / "a.png"))
