"""Every format writes what it reads: points exactly, films byte for byte, and a word about what it cannot hold."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.data.small_sets import noise_film, shared_data, some_points, write_aariz, write_csv, write_isbi, write_stage

from ceph.data.convert import convert, fit
from ceph.data.formats.base import Reader, Writer
from ceph.data.formats.film_table import TABLE
from ceph.data.formats.find import FORMATS, READERS, WRITERS, read
from ceph.errors import ConfigError, DataError

NAMES = ["S", "N", "A", "B", "Pog`"]
ONE_READER = ["cldetection2023", "cldetection2023-csv", "cldetection2024"]
TWO_READERS = sorted(WRITERS.keys() - set(ONE_READER))
FACTS = ("split", "group", "machine", "size", "mm_per_px", "spacing_source")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("source") / "set")


def by_id(data):
    return {sample.id: sample for sample in data.samples}


def names_for(name):
    """The names that a format of numbered points is read back with."""
    return NAMES if name == "cldetection2024" else None


def test_every_format_is_a_reader_and_a_writer():
    assert len(FORMATS) == 10
    assert all(isinstance(one, Reader) and isinstance(one, Writer) for one in FORMATS)


@pytest.mark.parametrize("name", TWO_READERS)
def test_points_readers_and_all_that_is_known_of_a_film_come_back(source, tmp_path, name):
    before = read(source)
    done = convert(source, tmp_path / "there", name)
    assert done.lost == ()
    convert(tmp_path / "there", tmp_path / "back", "csv")
    for data in (read(tmp_path / "there"), read(tmp_path / "back")):
        assert data.readers == ("senior", "junior")
        there, columns = by_id(data), [data.landmarks.index(symbol) for symbol in NAMES]
        assert there.keys() == by_id(before).keys()
        for sample in before.samples:
            other = there[sample.id]
            np.testing.assert_allclose(other.points[:, columns], sample.points, rtol=0, atol=1e-9)
            np.testing.assert_array_equal(other.valid[:, columns], sample.valid)
            assert [getattr(other, key) for key in FACTS] == [getattr(sample, key) for key in FACTS]
            assert other.path.read_bytes() == sample.path.read_bytes()


@pytest.mark.parametrize("name", ONE_READER)
def test_a_format_of_one_reader_holds_their_mean_and_says_so(source, tmp_path, name):
    before = read(source)
    done = convert(source, tmp_path / "there", name)
    assert "the 2 readers senior, junior: one is written, their mean" in done.lost
    data = read(tmp_path / "there", landmarks=names_for(name))
    assert data.readers == ("reader",)
    assert data.landmarks == tuple(NAMES)
    there = by_id(data)
    for sample in before.samples:
        other = there[sample.id]
        seen = [sample.points[:, k][sample.valid[:, k]].mean(axis=0) for k in range(5)]
        np.testing.assert_allclose(other.points[0], seen, rtol=0, atol=1e-12)
        assert [getattr(other, key) for key in FACTS] == [getattr(sample, key) for key in FACTS]


def test_a_chosen_reader_is_written_instead_of_the_mean(source, tmp_path):
    convert(source, tmp_path / "there", "cldetection2023", truth="junior")
    there, before = by_id(read(tmp_path / "there")), by_id(read(source))
    np.testing.assert_array_equal(there["f3"].points[0], before["f3"].points[1])
    with pytest.raises(ConfigError, match=r"no reader 'middle' in this set\n  hint: valid: junior, mean, senior"):
        convert(source, tmp_path / "other", "cldetection2023", truth="middle")


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_the_format_that_was_written_is_found_by_looking(source, tmp_path, name):
    convert(source, tmp_path / "there", name)
    assert [reader.name for reader in READERS if reader.matches(tmp_path / "there")] == [name]


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_the_isbi_set_goes_through_every_format_and_back(tmp_path, name):
    write_isbi(tmp_path / "set", {"TrainingData": 8, "Test1Data": 2, "Test2Data": 1})
    before = read(tmp_path / "set", mm_per_px=0.2)
    convert(tmp_path / "set", tmp_path / "there", name, mm_per_px=0.2)
    landmarks = before.landmarks if name == "cldetection2024" else None
    convert(tmp_path / "there", tmp_path / "back", "isbi2015", landmarks=landmarks)
    after = read(tmp_path / "back")
    assert [sample.id for sample in after.samples] == [sample.id for sample in before.samples]
    for sample, other in zip(before.samples, after.samples, strict=True):
        points = sample.points if name in TWO_READERS else sample.points.mean(axis=0, keepdims=True)
        columns = [after.landmarks.index(symbol) for symbol in before.landmarks]
        np.testing.assert_array_equal(other.points[:, columns], points)
        assert (other.split, other.mm_per_px, other.spacing_source) == (sample.split, 0.2, "given")
        assert other.path.relative_to(tmp_path / "back") == sample.path.relative_to(tmp_path / "set")


def test_whole_numbers_stay_whole_in_files_of_text(tmp_path):
    write_isbi(tmp_path / "set", {"TrainingData": 1})
    convert(tmp_path / "set", tmp_path / "labelme", "labelme", mm_per_px=0.2)
    convert(tmp_path / "labelme", tmp_path / "back", "isbi2015")
    text = (tmp_path / "back/AnnotationsByMD/400_senior/001.txt").read_text()
    assert text.splitlines()[0] == ",".join(f"{value:g}" for value in some_points(19, 1)[0])


def test_landmarks_without_a_place_are_told(tmp_path):
    done = convert(write_aariz(tmp_path / "set", {"train": 2}), tmp_path / "there", "isbi2015")
    assert done.lost == ("landmarks that isbi2015 does not have: Pn, R, Co, LPM, LMT, UPM, UIA, UMT and 2 more",)
    with pytest.raises(ConfigError, match="nothing of this set has a place in isbi2015"):
        convert(tmp_path / "set", tmp_path / "other", "isbi2015", landmarks=["Pn", "R"])


def test_readers_without_a_place_are_told(source):
    data = replace(read(source), readers=("Ann", "Bob"))
    fitted, lost = fit(data, WRITERS["aariz"])
    assert fitted.readers == ("senior", "junior")
    assert lost == ["the names of the readers: Ann is written as senior, Bob is written as junior"]
    third = [replace(s, points=s.points[[0, 1, 1]], valid=s.valid[[0, 1, 1]]) for s in data.samples]
    fitted, lost = fit(replace(data, readers=("Ann", "Bob", "Cy"), samples=tuple(third)), WRITERS["aariz"])
    assert fitted.readers == ("senior",)
    assert lost == ["the 3 readers Ann, Bob, Cy: one is written, their mean"]


def test_a_film_and_a_landmark_that_nobody_marked_are_told(source):
    data = read(source)
    first, *rest = data.samples
    bare = replace(first, points=np.full_like(first.points, np.nan), valid=np.zeros_like(first.valid))
    fitted, lost = fit(replace(data, samples=(bare, *rest)), WRITERS["coco"])
    assert lost == ["films without a marked landmark: f0"]
    assert len(fitted.samples) == 7
    valid = first.valid.copy()
    valid[:, 1] = False
    _, lost = fit(replace(data, samples=(replace(first, valid=valid),)), WRITERS["coco"])
    assert lost == ["landmarks that no film has marked: N"]


def test_labels_come_back_where_a_format_has_them_and_are_told_where_it_has_not(tmp_path):
    write_aariz(tmp_path / "set", {"train": 2})
    write_stage(tmp_path / "set", "train000", 4)
    assert convert(tmp_path / "set", tmp_path / "coco", "coco").lost == ("cvm_stage of 1 films",)
    assert convert(tmp_path / "set", tmp_path / "there", "aariz").lost == ()
    assert [sample.labels for sample in read(tmp_path / "there").samples] == [{"cvm_stage": 4}, {}]


def test_films_are_linked_on_request(source, tmp_path):
    convert(source, tmp_path / "there", "coco", link=True)
    assert (tmp_path / "there/images/f0.png").samefile(source / "films/f0.png")


def test_a_target_with_something_in_it_is_left_alone(source, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine").touch()
    with pytest.raises(ConfigError, match="is there already and not empty"):
        convert(source, tmp_path / "there", "coco")
    with pytest.raises(ConfigError, match=r"--to: unknown format 'cocoo'\n  hint: did you mean 'coco'\?"):
        convert(source, tmp_path / "other", "cocoo")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_target_inside_the_set_is_refused(source):
    with pytest.raises(ConfigError, match="lies in the set itself"):
        convert(source, source / "coco", "coco")


def test_a_film_whose_name_no_file_can_have_is_refused(source):
    data = read(source)
    for change in ({"id": "../f0"}, {"split": "fold-1"}):
        with pytest.raises(DataError, match=r"f0\.png: "):
            fit(replace(data, samples=(replace(data.samples[0], **change),)), WRITERS["coco"])


def test_numbered_landmarks_may_be_named_when_they_are_read(tmp_path):
    noise_film(tmp_path / "set/images/f.png")
    columns = [f"p{k}{axis}" for k in range(1, 54) for axis in "xy"]
    cells = ",".join(["5"] * 106)
    (tmp_path / "set/labels.csv").write_text(f"image file,spacing(mm),{','.join(columns)}\nf.png,0.1,{cells}\n")
    assert read(tmp_path / "set").landmarks == tuple(f"p{k}" for k in range(1, 54))
    names = [f"n{k}" for k in range(53)]
    assert read(tmp_path / "set", landmarks=names).landmarks == tuple(names)
    assert read(tmp_path / "set", landmarks=["p7", "p2"]).landmarks == ("p7", "p2")


def test_a_numbered_column_that_is_empty_keeps_its_place(tmp_path):
    noise_film(tmp_path / "set/f.png")
    (tmp_path / "set/scan.csv").write_text("1,2,3,4,5,6,filename\n10,20,,,30,40,f.png\n")
    sample = read(tmp_path / "set", mm_per_px=0.1, landmarks=["S", "N", "A"]).samples[0]
    assert sample.valid.tolist() == [[True, False, True]]
    assert sample.points[0, 2].tolist() == [30, 40]


def test_nothing_is_left_of_a_conversion_that_failed(source, tmp_path, monkeypatch):
    monkeypatch.setattr("ceph.data.formats.coco.Coco.write", lambda *_: None)
    with pytest.raises(DataError):
        convert(source, tmp_path / "there", "coco")
    assert list(tmp_path.iterdir()) == []


def test_a_set_of_unknown_spacing_is_not_converted(tmp_path):
    write_isbi(tmp_path / "set", {"TrainingData": 1})
    with pytest.raises(ConfigError, match=r"data\.mm_per_px: the mm per pixel of film 001"):
        convert(tmp_path / "set", tmp_path / "there", "coco")


def test_coordinates_are_moved_by_half_a_pixel_where_a_format_measures_from_the_corner(tmp_path):
    noise_film(tmp_path / "set/f.png")
    (tmp_path / "set/points.csv").write_text("film,mm_per_px,S_x,S_y\nf.png,0.1,0,39.5\n")
    for name in ("labelme", "labelstudio", "cvat", "coco"):
        convert(tmp_path / "set", tmp_path / name, name)
    shape = json.loads((tmp_path / "labelme/train/f.json").read_text())["shapes"][0]
    assert shape["points"] == [[0.5, 40.0]]
    value = json.loads((tmp_path / "labelstudio/export.json").read_text())[0]["annotations"][0]["result"][0]["value"]
    assert (value["x"], value["y"]) == (0.5 / 64 * 100, 50.0)
    assert 'points="0.5,40.0"' in (tmp_path / "cvat/annotations.xml").read_text()
    keypoints = json.loads((tmp_path / "coco/annotations/train.json").read_text())["annotations"][0]["keypoints"]
    assert keypoints == [0, 39.5, 2]


def test_the_table_beside_a_set_says_what_its_format_has_no_place_for(source, tmp_path):
    assert convert(source, tmp_path / "cvat", "cvat").table == TABLE
    assert convert(source, tmp_path / "coco", "coco").table == ""
    lines = (tmp_path / "cvat" / TABLE).read_text().splitlines()
    assert lines[0] == "film,id,split,group,machine,mm_per_px,spacing_source"
    assert 'f1,,train,patient0,Machine 1,0.139,"a ruler, 1"' in lines
    assert not (tmp_path / "coco" / TABLE).exists()


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", sorted(WRITERS))
def test_the_real_isbi_set_goes_through_every_format_and_back(tmp_path, name):
    before = read(shared_data() / "isbi2015", mm_per_px=0.25)
    convert(shared_data() / "isbi2015", tmp_path / "there", name, mm_per_px=0.25)
    there = by_id(read(tmp_path / "there", landmarks=before.landmarks))
    for sample in before.samples:
        other = there[sample.id]
        points = sample.points if name in TWO_READERS else sample.points.mean(axis=0, keepdims=True)
        np.testing.assert_array_equal(other.points, points)
        assert [getattr(other, key) for key in FACTS] == [getattr(sample, key) for key in FACTS]
