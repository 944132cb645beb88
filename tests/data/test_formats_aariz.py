"""The Aariz layout: splits, two readers, spacing by film, and every fault named by file and field."""

from __future__ import annotations

import json
import logging
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.small_sets import aariz_json, noise_film, shared_data, some_points, write_aariz, write_stage

from ceph.data.formats.aariz import CVM, LANDMARKS, MARKS, TABLE, parse_points, parse_table, read_labels
from ceph.data.formats.find import read
from ceph.data.strict_json import read_json
from ceph.data.types import Sample
from ceph.errors import CephError, ConfigError, DataError

JUNIOR, SENIOR = MARKS / "Junior Orthodontists", MARKS / "Senior Orthodontists"


@pytest.fixture
def small(tmp_path):
    return write_aariz(tmp_path / "set")


def mark(folder, film="train000", **changes):
    """Change the senior's annotation of a film: symbol -> (x, y), None to leave it out, or any JSON value."""
    file = folder / "train" / SENIOR / f"{film}.json"
    data = json.loads(file.read_text())
    data["landmarks"] = [entry for entry in data["landmarks"] if changes.get(entry["symbol"], 0) is not None]
    for entry in data["landmarks"]:
        if entry["symbol"] in changes:
            entry["value"] = changes[entry["symbol"]]
    file.write_text(json.dumps(data))
    return file


def test_the_set_is_found_by_its_folders_and_read_whole(small):
    data = read(small)
    assert data.format == "aariz"
    assert data.landmarks == LANDMARKS
    assert len(LANDMARKS) == 29
    assert data.readers == ("senior", "junior")
    splits = [(sample.id, sample.split) for sample in data.samples]
    assert splits == [
        ("train000", "train"),
        ("train001", "train"),
        ("valid000", "validation"),
        ("valid001", "validation"),
        ("test000", "test"),
        ("test001", "test"),
    ]


def test_a_sample_carries_points_of_both_readers_spacing_machine_and_size(small):
    sample = read(small).samples[1]
    np.testing.assert_array_equal(sample.points[0], some_points(29, 1))
    np.testing.assert_array_equal(sample.points[1], some_points(29, 1) + 1)
    assert sample.points.dtype == np.float64
    assert sample.valid.all()
    assert (sample.size, sample.mm_per_px, sample.machine, sample.group) == ((80, 64), 0.1, "Machine 1", "train001")
    assert sample.path == small.resolve() / "train" / "Cephalograms" / "train001.png"


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".bmp", ".tif"])
def test_films_of_every_kind_are_found(tmp_path, suffix):
    assert len(read(write_aariz(tmp_path, 1, suffix=suffix)).samples) == 3


def test_a_folder_of_one_split_is_enough(tmp_path):
    data = read(write_aariz(tmp_path, {"test": 3}))
    assert {sample.split for sample in data.samples} == {"test"}


def test_a_set_of_one_reader_has_one(tmp_path):
    data = read(write_aariz(tmp_path, readers=("junior",)))
    assert data.readers == ("junior",)
    assert data.samples[0].points.shape == (1, 29, 2)


def test_a_reader_who_is_missing_in_one_split_is_not_valid_there(tmp_path):
    write_aariz(tmp_path, {"train": 1})
    write_aariz(tmp_path, {"train": 1, "valid": 1}, readers=("senior",))
    train, validation = read(tmp_path).samples
    assert train.valid.all()
    assert validation.valid.tolist() == [[True] * 29, [False] * 29]
    assert np.isnan(validation.points[1]).all()


def test_a_landmark_that_is_not_listed_or_stands_at_minus_one_is_masked(small):
    mark(small, A=None, B={"x": -1, "y": -1})
    sample = read(small).samples[0]
    a, b = LANDMARKS.index("A"), LANDMARKS.index("B")
    assert sample.valid[0].sum() == 27
    assert not sample.valid[0, [a, b]].any()
    assert np.isnan(sample.points[0, [a, b]]).all()
    assert sample.valid[1].all()
    assert not sample.outside.any()


def test_a_point_outside_the_film_is_masked_and_one_warning_names_film_and_symbol(small, caplog):
    mark(small, A={"x": 64, "y": 10}, S={"x": 63.4, "y": 79.4})
    mark(small, "train001", Go={"x": 3, "y": -900})
    with caplog.at_level(logging.WARNING, "ceph"):
        first, second = read(small).samples[:2]
    assert not first.valid[0, LANDMARKS.index("A")]
    assert first.valid[0, LANDMARKS.index("S")]
    assert not second.valid[0, LANDMARKS.index("Go")]
    (record,) = [one for one in caplog.records if hasattr(one, "outside") and one.outside]
    assert record.getMessage() == (
        "2 points lie outside their film and are left out: A of film train000 (senior: x 64, y 10; film 64 x 80); "
        "Go of film train001 (senior: x 3, y -900; film 64 x 80)"
    )


def test_a_film_s_cvm_stage_is_a_label_where_there_is_one(small):
    write_stage(small, "train000", 3)
    assert [sample.labels for sample in read(small).samples][:2] == [{"cvm_stage": 3}, {}]


@pytest.mark.parametrize("stage", [0, 7, 2.5, "2", None, [1]])
def test_a_stage_that_is_none_is_named_by_file_and_field(small, stage):
    file = write_stage(small, "valid001", stage)
    with pytest.raises(DataError, match=r"cvm_stage\.value") as caught:
        read(small)
    assert str(file) in str(caught.value)


def test_the_given_spacing_overrides_the_table(small):
    assert {sample.mm_per_px for sample in read(small, mm_per_px=0.25).samples} == {0.25}


@pytest.mark.parametrize("table", ["empty cell", "no row", "no table"])
def test_an_unknown_spacing_is_an_error_that_names_the_film_unless_it_is_given(tmp_path, table):
    write_aariz(tmp_path, {"train": 2}, mm_per_px=None if table == "empty cell" else 0.1)
    if table == "no row":
        (tmp_path / TABLE).write_text("cephalogram_id,machine,pixel_size\ntrain001,x,0.1\n")
    if table == "no table":
        (tmp_path / TABLE).unlink()
    with pytest.raises(ConfigError, match=r"data\.mm_per_px: the mm per pixel of film train000 .*unknown"):
        read(tmp_path)
    assert read(tmp_path, mm_per_px=0.2).samples[0].mm_per_px == 0.2


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("cephalogram_id,pixel_size\na,0.1\nb,0.1\na,0.1\n", "csv:4:1: film 'a' stands here and in line 2"),
        ("cephalogram_id,pixel_size\na,100\n", "csv:2:1: pixel_size '100' is no spacing"),
        ("cephalogram_id,pixel_size\na,nan\n", "csv:2:1: pixel_size 'nan' is no spacing"),
        ("cephalogram_id,pixel_size\na\n", "csv:2:1: has 1 columns, the first line 2"),
        ("cephalogram_id,machine\na,b\n", "csv:1:1: must have one column 'pixel_size'"),
        ("", "csv:1:1: must have one column 'cephalogram_id'"),
        ('cephalogram_id,pixel_size\n"a,0.1\n', "is no table"),
    ],
)
def test_a_fault_in_the_table_is_named_by_its_line(small, rows, says):
    (small / TABLE).write_text(rows)
    with pytest.raises(DataError) as error:
        read(small)
    assert says in str(error.value)
    assert str(small / TABLE) in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda d: d["landmarks"][2].update(symbol="PNSS"),
            "landmarks[2].symbol: unknown landmark 'PNSS'",
        ),
        (lambda d: d["landmarks"][3].update(symbol="A"), "landmarks[3].symbol: the landmark A stands twice"),
        (lambda d: d["landmarks"][1]["value"].update(x="12"), "landmarks[1].value.x: must be a number, not '12'"),
        (lambda d: d["landmarks"][1]["value"].pop("y"), "landmarks[1].value: 'y' is missing"),
        (lambda d: d["landmarks"].append(3), "landmarks[29]: must be an object with 'symbol', not 3"),
        (lambda d: d.pop("landmarks"), "the file: 'landmarks' is missing"),
        (lambda d: d.update(ceph_id="other"), "ceph_id: is 'other', but the file is named for film train000"),
    ],
)
def test_a_fault_in_an_annotation_is_named_by_file_and_field(small, change, says):
    file = small / "train" / SENIOR / "train000.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    with pytest.raises(DataError) as error:
        read(small)
    assert f"{file.resolve()}: {says}" in str(error.value)


def test_all_faults_of_a_set_are_told_at_once(small):
    (small / "train" / SENIOR / "train000.json").write_text("{")
    (small / "train" / JUNIOR / "train001.json").unlink()
    (small / "valid" / "Cephalograms" / "valid000.png").write_bytes(b"")
    (small / "test" / "Cephalograms" / "test001.png").unlink()
    with pytest.raises(DataError) as error:
        read(small)
    text = str(error.value)
    assert "train000.json:1:2: is not valid JSON" in text
    assert "train001.png: has no annotation" in text
    assert "valid000.png: is empty" in text
    assert "test001.json: senior marks a film that is not in" in text
    assert len(error.value.problems) == 5


def test_hundreds_of_faults_are_counted_not_printed(tmp_path):
    write_aariz(tmp_path, {"train": 30})
    for file in (tmp_path / "train" / SENIOR).iterdir():
        file.unlink()
    with pytest.raises(DataError, match="and 10 more problems"):
        read(tmp_path)


def test_a_film_that_stands_twice_is_refused(small):
    noise_film(small / "test" / "Cephalograms" / "train000.png")
    for reader in (SENIOR, JUNIOR):
        (small / "test" / reader / "train000.json").write_text(aariz_json("train000", some_points(29, 0)))
    noise_film(small / "valid" / "Cephalograms" / "valid000.bmp")
    with pytest.raises(DataError) as error:
        read(small)
    assert "the film train000 is also" in str(error.value)
    assert "beside it has the same name" in str(error.value)


def test_a_film_or_annotation_outside_the_folder_is_not_followed(small, tmp_path):
    film = small / "train" / "Cephalograms" / "train000.png"
    film.rename(tmp_path / "elsewhere.png")
    film.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(DataError, match=r"train000\.png: leads out of the data folder"):
        read(small)


def test_a_link_to_the_whole_set_is_fine(small, tmp_path):
    (tmp_path / "link").symlink_to(small, target_is_directory=True)
    assert len(read(tmp_path / "link").samples) == 6


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode), table=st.booleans())
def test_arbitrary_bytes_raise_nothing_but_data_errors(small, content, table):
    file = small / TABLE if table else small / "train" / SENIOR / "train000.json"
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        with pytest.raises(CephError) as error:
            read(small)
        assert isinstance(error.value, DataError)
        assert file.name in str(error.value)
    finally:
        file.write_bytes(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), character=st.characters(max_codepoint=0x2FF))
def test_a_changed_character_is_read_or_named(small, place, character):
    file = small / "train" / SENIOR / "train000.json"
    whole = file.read_text(encoding="utf-8")
    at = int(place * (len(whole) - 1))
    file.write_text(whole[:at] + character + whole[at + 1 :], encoding="utf-8")
    try:
        assert all(isinstance(sample, Sample) for sample in read(small).samples)
    except DataError as error:
        said = str(error)
        assert file.name in said
    finally:
        file.write_text(whole, encoding="utf-8")


def test_the_table_of_origins_is_plain_data():
    table = parse_table("cephalogram_id,machine,pixel_size,mode\r\na, X5 ,0.089,Train\r\n\r\n", None)
    assert (table["a"].machine, table["a"].mm_per_px) == ("X5", 0.089)


def test_a_hundred_films_are_read_in_a_moment(tmp_path):
    write_aariz(tmp_path, {"train": 100})
    read(tmp_path)
    start = time.process_time()
    read(tmp_path)
    # Measured 0.1 s for 100 films; the bound is for a busy machine and still excludes decoding the films.
    assert time.process_time() - start < 1.0


@pytest.mark.shared
def test_genuine_files_are_read(tmp_path):
    shared = shared_data()
    example = read_json(shared / "formats" / "aariz_landmarks_example.json")
    points = parse_points(example, example["ceph_id"].text())
    assert points[0].tolist() == [1209, 85]
    assert points[-1].tolist() == [1806, 949]
    stage = shared / "formats" / "aariz_cvm_example.json"
    film = read_json(stage)["ceph_id"].text()
    (tmp_path / CVM).mkdir(parents=True)
    (tmp_path / CVM / f"{film}.json").write_bytes(stage.read_bytes())
    assert read_labels(tmp_path, tmp_path, film) == {"cvm_stage": 1}
    file = shared / "aariz" / TABLE
    table = parse_table(file.read_text(encoding="utf-8"), file)
    assert len(table) == 1000
    assert {origin.mm_per_px for origin in table.values()} == {0.1, 0.144, 0.139, 0.089, 0.135}
    assert len({origin.machine for origin in table.values()}) == 7
