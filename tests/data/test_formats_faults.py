"""A fault in an annotation is named by file and field, in every format; no mutation of a file raises anything else."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.small_sets import noise_film, write_csv

from ceph.data.convert import convert
from ceph.data.formats.base import DataSet
from ceph.data.formats.film_table import TABLE
from ceph.data.formats.find import FORMATS, read
from ceph.data.formats.locate import Films, annotation_files, head
from ceph.data.formats.splits import held_out, split_of
from ceph.errors import ConfigError, DataError

FILES = {
    "cldetection2023": "labels/train-gt.json",
    "cldetection2023-csv": "train.csv",
    "cldetection2024": "labels.csv",
    "coco": "annotations/train.json",
    "labelstudio": "export.json",
    "labelme": "train/f1.json",
    "cvat": "annotations.xml",
    "csv": "points.csv",
}
BY_NAME = {one.name: one for one in FORMATS}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small set in every format."""
    folder = tmp_path_factory.mktemp("written")
    source = write_csv(folder / "source")
    for name in FILES:
        convert(source, folder / name, name)
    return folder


@pytest.fixture
def small(written, tmp_path):
    """A copy of the small set in one format, to be spoilt."""

    def copy(name):
        shutil.copytree(written / name, tmp_path / name)
        return tmp_path / name

    return copy


def spoil(file, change):
    """Change the JSON value of a file in place."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def reads_or_names(name, folder, file):
    """Whether the reader gives a set or raises a DataError that names the file (or the folder, if none is left)."""
    try:
        found = BY_NAME[name].read(folder, mm_per_px=0.1)
    except DataError as error:
        found = str(error)
    assert isinstance(found, DataSet) or file.name in found or str(folder) in found


@pytest.mark.parametrize("name", sorted(FILES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), what=st.characters() | st.sampled_from(["", "-", "9" * 50, "1e999", "\0", ",", '"', "<"]))
def test_a_mutated_file_is_read_or_named(written, name, place, what):
    folder = written / name
    file = folder / FILES[name]
    whole = file.read_bytes()
    text = whole.decode()
    at = int(place * (len(text) - 1))
    file.write_bytes((text[:at] + what + text[at + 1 :]).encode("utf-8", "surrogatepass"))
    try:
        reads_or_names(name, folder, file)
    finally:
        file.write_bytes(whole)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("name", [name for name, file in sorted(FILES.items()) if file.endswith(".json")])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=JSON_VALUES, drop=st.booleans())
def test_a_mutated_field_is_read_or_named(written, name, data, value, drop):
    folder = written / name
    file = folder / FILES[name]
    whole = file.read_bytes()
    content = parent = json.loads(whole)
    while True:
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(parent[key], dict | list) or not parent[key] or data.draw(st.integers(0, 9)) == 0:
            break
        parent = parent[key]
    if drop:
        del parent[key]
    else:
        parent[key] = value
    file.write_text(json.dumps(content))
    try:
        reads_or_names(name, folder, file)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("coco", lambda d: d["annotations"][0]["keypoints"].pop(), "annotations[0].keypoints: holds 14 numbers"),
        ("coco", lambda d: d["annotations"][0]["keypoints"].__setitem__(2, 3), "keypoints[2]: 3 is no visibility"),
        ("coco", lambda d: d["annotations"][0].update(image_id=99), "annotations[0].image_id: 99 is no image"),
        ("coco", lambda d: d["annotations"][1].update(reader="senior"), "annotations[1]: a second annotation of image"),
        ("coco", lambda d: d["images"][1].update(id=1), "images[1].id: 1 stands twice"),
        ("coco", lambda d: d["images"][0].update(spacing=100), "images[0].spacing: 100 is no spacing"),
        ("coco", lambda d: d["images"][0].update(split="trian"), "images[0].split: unknown split 'trian'"),
        ("coco", lambda d: d["images"][0].update(width=65), "images[0]: is made for a film of 65 x 80 pixels"),
        ("coco", lambda d: d["images"][0].update(file_name="../../x.png"), "images[0].file_name: '../../x.png' is not"),
        ("coco", lambda d: d["categories"].append(d["categories"][0]), "categories: must hold one category with keyp"),
        ("coco", lambda d: d["categories"][0]["keypoints"].__setitem__(1, "S"), "must name each keypoint once"),
        ("labelme", lambda d: d["shapes"][0].update(points=[[1, 2], [3, 4]]), "shapes[0].points: must hold one point"),
        ("labelme", lambda d: d["shapes"][1].update(label="S"), "shapes[1].label: the landmark S stands twice"),
        ("labelme", lambda d: d["shapes"][0].update(group_id=3), "shapes[0].group_id: must be the number of a reader"),
        ("labelme", lambda d: d.update(imageHeight=81), "is made for a film of 64 x 81 pixels"),
        ("labelme", lambda d: d.update(imagePath="f9.png"), "imagePath: the film 'f9.png' is not in"),
        (
            "labelstudio",
            lambda d: d[0]["annotations"][0]["result"][0].update(image_rotation=90),
            "[0].annotations[0].result[0].image_rotation: the film was rotated",
        ),
        (
            "labelstudio",
            lambda d: d[0]["annotations"][0]["result"][0]["value"].update(keypointlabels=["A", "B"]),
            "value.keypointlabels: must be one landmark, not 2",
        ),
        ("labelstudio", lambda d: d[0]["annotations"][1].update(reader="senior"), "a second annotation by senior"),
        (
            "labelstudio",
            lambda d: d[0]["annotations"][0]["result"][0]["value"].update(x="7"),
            "result[0].value.x: must be a number, not '7'",
        ),
        (
            "cldetection2023",
            lambda d: d["points"][0].update(point=[1, 2]),
            "points[0].point: must be x, y and the film's",
        ),
        (
            "cldetection2023",
            lambda d: d["points"][0].update(point=[1, 2, 0]),
            "points[0].point: 0 is no number of a film",
        ),
        ("cldetection2023", lambda d: d["points"][0].update(name="39"), "points[0].name: '39' is no number of a landm"),
        ("cldetection2023", lambda d: d["points"].append(d["points"][0]), "point 1 (S) of film 1 stands twice"),
        ("cldetection2023", lambda d: d["points"][1].update(scale="0.2"), "points[1].scale: 0.2, though other points"),
        ("cldetection2023", lambda d: d["points"][0].update(scale="wide"), "points[0].scale: 'wide' is no spacing"),
    ],
)
def test_a_fault_in_json_is_named_by_file_and_field(small, name, change, says):
    folder = small(name)
    spoil(folder / FILES[name], change)
    with pytest.raises(DataError) as error:
        read(folder)
    assert says in str(error.value)
    assert str(folder / FILES[name]) in str(error.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("csv", "S_x,S_y", "S_x,S_z", "points.csv:1:1: the column 'S_z' is no half of a point"),
        ("csv", "S_x,S_y", "S_x,T_y", "points.csv:1:1: the column 'S_x' has no other half"),
        ("csv", "S_x,S_y,", "N_x,S_y,", "points.csv:1:1: the column 'N_x' stands twice"),
        ("csv", "f0.png,train", "f0.png,trian", "points.csv:2:1: unknown split 'trian'"),
        ("csv", "f0.png,train", "f9.png,train", "points.csv:2:1: the film 'f9.png' is not in"),
        ("csv", ",0.1,", ",wide,", "points.csv:2:1: mm_per_px 'wide' is no spacing"),
        ("csv", "junior", "senior", "points.csv:3:1: f0.png stands twice"),
        (
            "csv",
            "Machine 0",
            "Machine 9",
            "points.csv:3:1: f0.png stands with another split, group, machine or spacing",
        ),
        ("cldetection2024", "p2x", "p9x", "labels.csv:1:1: the column 'p9x' does not belong here"),
        ("cldetection2023-csv", "p38x,p38y", "q,r", "train.csv:1:1: the column 'q' does not belong here"),
        ("cvat", 'outside="0"', 'outside="0" points="1"', "is not valid XML: duplicate attribute"),
        ("cvat", 'label="N"', 'label="S"', "image 'f0.png': the landmark S stands twice"),
        ("cvat", ">junior<", ">senior<", "image 'f0.png': has two skeletons of senior"),
        ("cvat", 'width="64"', 'width="65"', "image 'f0.png': is made for a film of 65 x 80 pixels"),
        ("cvat", 'width="64"', 'width="wide"', "image 'f0.png': width must be a number of pixels"),
        ("cvat", 'name="f0.png"', 'name="f9.png"', "image 'f9.png': is not in"),
        ("cvat", "<meta>", "<track /><meta>", "is an export of a video"),
    ],
)
def test_a_fault_in_a_table_or_xml_is_named_by_file_and_place(small, name, old, new, says):
    folder = small(name)
    file = folder / FILES[name]
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as error:
        read(folder, format=name)
    assert says in str(error.value)
    assert file.name in str(error.value)


@pytest.mark.parametrize(
    "bomb",
    [
        '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;&x;&x;">]>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    ],
)
def test_xml_with_entities_is_refused_before_it_is_parsed(small, bomb):
    folder = small("cvat")
    file = folder / "annotations.xml"
    first, rest = file.read_text().split("\n", 1)
    file.write_text(f"{first}\n{bomb}\n{rest}")
    with pytest.raises(DataError, match=r"annotations\.xml: has a DOCTYPE"):
        read(folder)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("f0,,trian,,,,", "csv:2:1: unknown split 'trian'\n  hint: did you mean 'train'?"),
        ("f0,../f0,,,,,", "csv:2:1: id '../f0' is no name of a film"),
        ("f0,,,,,9,", "csv:2:1: mm_per_px '9' is no spacing"),
        ("f0,,,,,,\nf0,,,,,,", "csv:3:1: film 'f0' stands twice"),
        ("f0,,,,,0.2,", "film f0 has 0.1 mm per pixel by the set itself, 0.2 by ceph-films.csv"),
        ("f0,,test,,,,", "film f0 is in train by the set itself, in test by the table of films"),
    ],
)
def test_a_fault_in_the_table_of_films_is_named_by_its_line(small, line, says):
    folder = small("coco")
    (folder / TABLE).write_text(f"film,id,split,group,machine,mm_per_px,spacing_source\n{line}\n")
    with pytest.raises(DataError) as error:
        read(folder)
    assert says in str(error.value)


def test_the_table_of_films_gives_any_set_groups_spacings_and_names(small):
    folder = small("labelme")
    (folder / TABLE).write_text("film,id,group,mm_per_px\n" + "".join(f"f{k},film-{k},g,0.3\n" for k in range(8)))
    data = read(folder)
    assert {(sample.id, sample.group, sample.mm_per_px, sample.spacing_source) for sample in data.samples} == {
        (f"film-{k}", "g", 0.3, TABLE) for k in range(8)
    }


def test_a_film_that_two_names_fit_is_refused(tmp_path):
    for folder in ("a", "b"):
        noise_film(tmp_path / folder / "f.png")
    (tmp_path / "points.csv").write_text("film,mm_per_px,S_x,S_y\nf.png,0.1,1,1\n")
    with pytest.raises(DataError, match=r"both fit the name 'f\.png'"):
        read(tmp_path)
    (tmp_path / "points.csv").write_text("film,mm_per_px,S_x,S_y\na/f.png,0.1,1,1\n/x/b/f.png,0.1,2,2\n")
    assert {(sample.id, sample.points[0, 0, 0]) for sample in read(tmp_path).samples} == {("a_f", 1.0), ("b_f", 2.0)}


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    noise_film(tmp_path / "elsewhere.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/f.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "set/points.csv").write_text("film,mm_per_px,S_x,S_y\nf.png,0.1,1,1\n")
    with pytest.raises(DataError, match=r"f\.png: leads out of the data folder"):
        read(tmp_path / "set")


def test_films_and_shapes_of_no_use_are_counted_in_a_warning(small, caplog):
    folder = small("labelme")
    noise_film(folder / "train/other.png")
    spoil(folder / "train/f1.json", lambda d: d["shapes"][0].update(shape_type="polygon"))
    with caplog.at_level(logging.WARNING, "ceph"):
        read(folder)
    assert [text for record in caplog.records if (text := record.getMessage()).startswith("left out")] == [
        "left out: shapes that are no points",
        "left out: films without an annotation",
    ]


def test_a_set_that_states_no_split_holds_films_out_by_lot(tmp_path):
    for number in range(40):
        noise_film(tmp_path / f"{number}.png")
    rows = "".join(f"{number}.png,0.1,1,1\n" for number in range(40))
    (tmp_path / "points.csv").write_text("film,mm_per_px,S_x,S_y\n" + rows)
    first = {sample.id: sample.split for sample in read(tmp_path).samples}
    assert set(first.values()) == {"train", "validation"}
    (tmp_path / "points.csv").write_text("film,mm_per_px,S_x,S_y\n" + rows.partition("\n")[2])
    later = {sample.id: sample.split for sample in read(tmp_path).samples}
    assert later == {film: split for film, split in first.items() if film != "0"}


def test_a_split_that_some_films_lack_is_a_fault(tmp_path):
    noise_film(tmp_path / "train/a.png")
    noise_film(tmp_path / "b.png")
    (tmp_path / "points.csv").write_text("film,mm_per_px,S_x,S_y\na.png,0.1,1,1\nb.png,0.1,1,1\n")
    with pytest.raises(DataError, match=r"b\.png: nothing says which split this film is in"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("TrainingData", "train"),
        ("person_keypoints_val2017", "validation"),
        ("Test1Data", "test1"),
        ("test_2", "test"),
        ("latest", ""),
        ("train_val", ""),
    ],
)
def test_a_name_states_its_split(name, split):
    assert split_of(name) == split


def test_at_least_one_of_several_is_held_out_and_never_all():
    assert len(held_out(["a"])) <= 1
    assert all(0 < len(held_out([f"{n}", f"{n + 1}"])) < 2 for n in range(50))


def test_a_folder_that_fits_two_formats_asks_for_one(small):
    folder = small("coco")
    shutil.copy(small("labelstudio") / "export.json", folder)
    with pytest.raises(DataError, match=r"several formats \(coco, labelstudio\)"):
        read(folder)
    shutil.copy(small("csv") / "points.csv", folder)
    (folder / "export.json").unlink()
    assert read(folder).format == "coco"  # a plain table comes last


def test_looking_opens_regular_files_only(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.json")
    assert head(tmp_path / "pipe.json") == ""
    assert annotation_files(tmp_path, ".json") == []
    assert annotation_files(tmp_path / "none", ".json") == []


def test_a_name_never_leads_out_of_the_folder(tmp_path):
    noise_film(tmp_path / "set/f.png")
    noise_film(tmp_path / "g.png")
    films = Films(tmp_path / "set")
    assert films.find("../g.png") is None
    assert films.find("/etc/../f.png") == tmp_path / "set/f.png"
    assert films.find("C:\\films\\f.png") == tmp_path / "set/f.png"
    assert films.find("") is None


def test_a_wrong_count_of_names_is_a_wrong_setting(small):
    with pytest.raises(ConfigError, match=r"this set has 5 points without names, and 2 names"):
        read(small("cldetection2024"), landmarks=["S", "N"])
