"""The ISBI 2015 layout: parts, the fixed validation films, two readers, and faults named by file and line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.small_sets import noise_film, shared_data, some_points, write_isbi

from ceph.data.formats.find import read
from ceph.data.formats.isbi2015 import BOUND, LANDMARKS, lot, parse_points
from ceph.data.truth import combine
from ceph.errors import ConfigError, DataError

MM = 0.25


@pytest.fixture
def small(tmp_path):
    return write_isbi(tmp_path / "set")


def senior(folder, film="001"):
    return folder / "AnnotationsByMD" / "400_senior" / f"{film}.txt"


def held_out(films):
    return [film for film in films if lot(film) < BOUND]


def test_the_set_is_found_by_its_folders_and_read_whole(small):
    data = read(small, mm_per_px=MM)
    assert (data.format, data.readers, data.landmarks) == ("isbi2015", ("senior", "junior"), LANDMARKS)
    assert [(sample.id, sample.split) for sample in data.samples] == [
        ("001", "train"),
        ("002", "train"),
        ("151", "test1"),
        ("152", "test1"),
        ("301", "test2"),
        ("302", "test2"),
    ]


def test_a_sample_carries_both_readers_points_and_the_films_size(small):
    sample = read(small, mm_per_px=MM).samples[1]
    np.testing.assert_array_equal(sample.points, [some_points(19, 2), some_points(19, 2) + 1])
    assert sample.valid.all()
    assert (sample.size, sample.mm_per_px, sample.group, sample.path.name) == ((80, 64), MM, "002", "002.bmp")


def test_exactly_20_of_the_150_training_films_are_held_out_and_always_the_same():
    films = [f"{number:03d}" for number in range(1, 151)]
    expected = "011 012 015 019 027 028 032 040 057 065 067 085 096 097 098 108 114 121 126 144"
    assert " ".join(held_out(films)) == expected
    assert held_out(str(int(film)) for film in films) == [str(int(film)) for film in held_out(films)]
    assert 0.10 < len(held_out(f"clinic-{number}" for number in range(2000))) / 2000 < 0.17


def test_what_is_held_out_does_not_depend_on_which_films_are_there(tmp_path):
    write_isbi(tmp_path, {"TrainingData": 20})
    for part, film in (("TrainingData", "005"), ("TrainingData", "001")):
        (tmp_path / "RawImage" / part / f"{film}.bmp").unlink()
    splits = {sample.id: sample.split for sample in read(tmp_path, mm_per_px=MM).samples}
    assert [film for film, split in splits.items() if split == "validation"] == ["011", "012", "015", "019"]


def test_test_films_are_never_held_out(tmp_path):
    write_isbi(tmp_path, {"Test1Data": 40})
    assert {sample.split for sample in read(tmp_path, mm_per_px=MM).samples} == {"test1"}


def test_annotations_of_films_that_are_not_there_are_no_fault(small):
    (small / "RawImage" / "Test2Data" / "302.bmp").unlink()
    assert len(read(small, mm_per_px=MM).samples) == 5


def test_the_original_films_have_the_challenges_spacing_and_others_none(tmp_path):
    write_isbi(tmp_path, {"TrainingData": 1}, suffix=".png")
    with pytest.raises(
        ConfigError, match=r"data\.mm_per_px: the mm per pixel of film 001 \(64 x 80 pixels\) is unknown"
    ):
        read(tmp_path)
    noise_film(tmp_path / "RawImage" / "TrainingData" / "001.png", size=(2400, 1935))
    assert read(tmp_path).samples[0].mm_per_px == 0.1
    assert read(tmp_path, mm_per_px=0.3).samples[0].mm_per_px == 0.3


@pytest.mark.parametrize("trailing", [(), ("1", "2", "1", "1", "3", "1", "2", "1", "1"), ("", " ", "4")])
def test_what_follows_the_points_is_ignored(tmp_path, trailing):
    write_isbi(tmp_path, {"TrainingData": 1}, trailing=trailing)
    assert read(tmp_path, mm_per_px=MM).samples[0].valid.all()


def test_windows_line_ends_a_byte_order_mark_and_spaces_are_read(small):
    senior(small).write_bytes(
        b"\xef\xbb\xbf" + senior(small).read_bytes().replace(b",", b" , ").replace(b"\n", b"\r\n")
    )
    np.testing.assert_array_equal(read(small, mm_per_px=MM).samples[0].points[0], some_points(19, 1))


def test_missing_points_are_masked_and_points_outside_are_masked_with_a_warning(small, caplog):
    lines = senior(small).read_text().splitlines()
    lines[0], lines[4] = "-1,-1", "3,80"
    senior(small).write_text("\n".join(lines))
    sample = read(small, mm_per_px=MM).samples[0]
    assert [LANDMARKS[k] for k in np.flatnonzero(~sample.valid[0])] == ["S", "A"]
    assert np.isnan(sample.points[0][[0, 4]]).all()
    (record, *_) = caplog.records  # another one is of the size of so small a head
    assert "A of film 001 (senior: x 3, y 80; film 64 x 80)" in record.getMessage()


@pytest.mark.parametrize(
    ("line", "text", "says"),
    [
        (1, "nan,3", "the point of S cannot be read: it must be two numbers"),
        (3, "1,1e400", "the point of Or is not finite"),
        (3, "1;2", "the point of Or cannot be read"),
        (19, "1,2,3", "the point of Ar cannot be read"),
        (20, "1.5,2", "a point after the 19"),
        (2, "٣,4", "the point of N cannot be read"),
        (2, "1_0,4", "the point of N cannot be read"),
    ],
)
def test_a_fault_in_an_annotation_is_named_by_file_and_line(small, line, text, says):
    lines = senior(small).read_text().splitlines()
    lines[line - 1] = text
    senior(small).write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read(small, mm_per_px=MM)
    assert f"{senior(small).resolve()}:{line}:1: {says}" in str(error.value)


def test_a_short_file_says_which_landmark_it_lacks(small):
    senior(small).write_text("\n".join(senior(small).read_text().splitlines()[:7]))
    with pytest.raises(DataError, match=r"001.txt:8:1: the point of Me cannot be read: the file ends before it"):
        read(small, mm_per_px=MM)


def test_missing_annotations_doubled_films_and_broken_films_are_told_at_once(small):
    senior(small, "002").unlink()
    noise_film(small / "RawImage" / "Test2Data" / "151.bmp")
    (small / "RawImage" / "Test1Data" / "152.bmp").write_bytes(b"BM")
    with pytest.raises(DataError) as error:
        read(small, mm_per_px=MM)
    text = str(error.value)
    assert "002.bmp: has no annotation" in text
    assert "the film 151 is also" in text
    assert "152.bmp: is damaged or cut off" in text


def test_folders_without_films_are_no_set(tmp_path):
    write_isbi(tmp_path, {"TrainingData": 1})
    (tmp_path / "RawImage" / "TrainingData" / "001.bmp").unlink()
    with pytest.raises(DataError, match="holds no films"):
        read(tmp_path, mm_per_px=MM)


def test_an_annotation_that_links_out_of_the_folder_is_refused(small, tmp_path):
    (tmp_path / "secret").write_text("1,1")
    senior(small).unlink()
    senior(small).symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="leads out of the data folder"):
        read(small, mm_per_px=MM)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=120) | st.text(alphabet="0123456789,.-+eE \n", max_size=200).map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_data_errors(small, content):
    file = senior(small)
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        with pytest.raises(DataError, match=r"001\.txt"):
            read(small, mm_per_px=MM)
    finally:
        file.write_bytes(whole)


@pytest.mark.shared
def test_the_real_set_has_its_known_films_splits_and_reader_disagreement():
    data = read(shared_data() / "isbi2015", mm_per_px=0.25)
    assert len(data.samples) == 278
    assert len(data.landmarks) == 19
    counts = {
        split: sum(sample.split == split for sample in data.samples) for split in ("train", "validation", "test1")
    }
    assert counts == {"train": 130, "validation": 20, "test1": 128}
    assert all(sample.valid.all() and sample.size == (960, 774) for sample in data.samples)
    points = np.stack([sample.points for sample in data.samples if sample.split == "test1"])
    between = 0.25 * np.linalg.norm(points[:, 0] - points[:, 1], axis=-1)
    # ../shared/design.md, section 6
    assert between.mean() == pytest.approx(2.36, abs=0.005)
    first = data.samples[0]
    mean, _ = combine(first.points, first.valid, "mean", data.readers)
    np.testing.assert_allclose(mean, first.points.mean(axis=0))


@pytest.mark.shared
def test_the_real_set_without_a_spacing_is_an_error():
    with pytest.raises(ConfigError, match=r"film 001 \(774 x 960 pixels\) \(and of 277 more\)"):
        read(shared_data() / "isbi2015")


@pytest.mark.shared
def test_a_genuine_annotation_is_read():
    file = shared_data() / "formats" / "isbi2015_senior_001.txt"
    points = parse_points(file.read_text(), file)
    assert points[0].tolist() == [835, 996]
    assert points[-1].tolist() == [664, 1340]
