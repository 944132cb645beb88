"""Sets as strangers have them: many files, foreign files among them, names that contradict others, odd spellings."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from tests.data.small_sets import H, W, noise_film, write_csv

from ceph.data.convert import convert
from ceph.data.formats.find import FORMATS, read
from ceph.data.formats.spelling import key
from ceph.data.formats.symbols import SYMBOLS
from ceph.errors import DataError
from ceph.report.predictions import FilmPoints, Source, pages, render

MANY = 70
SPLIT_UP = ("coco", "labelstudio", "cvat", "cldetection2023", "labelme", "csv")


def coco(films, symbols=("S", "N"), marks=((10, 20), (30, 40)), **more):
    """A COCO file of some films in which every one has the same points."""
    category = {"id": 1, "name": "head", "keypoints": list(symbols)}
    images = [{"id": n, "file_name": f, "width": W, "height": H, "spacing": 0.1} for n, f in enumerate(films)]
    keypoints = [value for x, y in marks for value in (x, y, 2)]
    annotations = [{"image_id": n, "category_id": 1, "keypoints": keypoints} for n in range(len(films))]
    return {**more, "images": images, "annotations": annotations, "categories": [category]}


def region(x, y, label, **more):
    """A Label Studio region: a point in pixels on a small film."""
    value = {"x": (x + 0.5) / W * 100, "y": (y + 0.5) / H * 100, "keypointlabels": [label]}
    return {"type": "keypointlabels", "original_width": W, "original_height": H, "value": value, **more}


def labelme(film, points, **more):
    """A LabelMe file; `points` by label, in film px."""
    shapes = [
        {"label": label, "points": [[x + 0.5, y + 0.5]], "shape_type": "point"} for label, (x, y) in points.items()
    ]
    return {**more, "shapes": shapes, "imagePath": film, "imageHeight": H, "imageWidth": W}


def put(path, content):
    """Write JSON, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def point(data, film, symbol, reader=0):
    """Where a reader marked a landmark; None where not."""
    sample = next(sample for sample in data.samples if sample.id == film)
    k = data.landmarks.index(symbol)
    return tuple(sample.points[reader, k].tolist()) if sample.valid[reader, k] else None


# --- many files, foreign files, late marks ---------------------------------------------------------------------------


def one_file_each(folder, name):
    """A set of MANY films, each with an annotation file of its own; S of film n is at (n / 2, 7)."""
    for n in range(1, MANY + 1):
        noise_film(folder / f"films/{n}.png")
        labels = folder / "labels" / f"a{n:03d}"
        x = n / 2
        if name == "coco":
            put(labels.with_suffix(".json"), coco([f"{n}.png"], ["S"], [(x, 7)]))
        elif name == "labelstudio":
            result = [region(x, 7, "S", to_name="image")]
            put(labels.with_suffix(".json"), [{"data": {"image": f"{n}.png"}, "annotations": [{"result": result}]}])
        elif name == "labelme":
            put(folder / f"films/{n}.json", labelme(f"{n}.png", {"S": (x, 7)}))
        elif name == "cldetection2023":
            content = {"type": "Multiple points", "points": [{"name": "1", "point": [x, 7, n], "scale": "0.1"}]}
            put(labels.with_suffix(".json"), content)
        else:
            labels.parent.mkdir(exist_ok=True)
            image = f'<image name="{n}.png" width="{W}" height="{H}"><points label="S" points="{x + 0.5},7.5"/></image>'
            text = f"<annotations><version>1.1</version>{image}</annotations>"
            if name == "csv":
                text = f"film,mm_per_px,S_x,S_y\n{n}.png,0.1,{x},7\n"
            labels.with_suffix(".xml" if name == "cvat" else ".csv").write_text(text)
    return folder / "films" if name == "labelme" else folder


@pytest.mark.parametrize("name", SPLIT_UP)
def test_every_annotation_file_of_a_set_is_read_however_many_there_are(tmp_path, name):
    data = read(one_file_each(tmp_path, name), mm_per_px=0.1)
    assert data.format == name
    assert {sample.id: point(data, sample.id, "S") for sample in data.samples} == {
        str(n): (n / 2, 7.0) for n in range(1, MANY + 1)
    }


def test_a_conversion_keeps_the_films_of_every_file_and_names_those_without_one(tmp_path):
    source = one_file_each(tmp_path / "set", "coco")
    noise_film(source / "films/bare.png")
    done = convert(source, tmp_path / "there", "csv")
    assert done.films == MANY
    assert done.lost == ("1 films without an annotation: films/bare.png",)


@pytest.mark.parametrize(
    ("name", "file"), [("coco", "z.json"), ("labelstudio", "z.json"), ("labelme", "z.json"), ("cvat", "z.xml")]
)
def test_a_set_is_known_behind_any_number_of_foreign_files(tmp_path, caplog, name, file):
    convert(write_csv(tmp_path / "source"), tmp_path / "set", name)
    folder = tmp_path / "set"
    if name == "labelme":
        folder = folder / "train"
    for n in range(MANY):
        (folder / f"a{n:02d}{file[1:]}").write_text("<html/>" if file.endswith("xml") else '{"compilerOptions": {}}')
    with caplog.at_level(logging.WARNING, "ceph"):
        assert read(folder, mm_per_px=0.1).format == name
    assert f"{file[1:]} files that are not of the format {name} ({MANY} times)" in caplog.text


def test_a_mark_behind_the_first_64_kib_is_found(tmp_path):
    noise_film(tmp_path / "labelme/f.png")
    noise_film(tmp_path / "coco/f.png")
    long = "x" * 200_000
    put(tmp_path / "labelme/f.json", {"imageData": long, **labelme("f.png", {"S": (3, 4)})})
    put(tmp_path / "coco/set.json", {"info": {"description": long}, **coco(["f.png"])})
    assert point(read(tmp_path / "labelme", mm_per_px=0.1), "f", "S") == (3, 4)
    assert point(read(tmp_path / "coco"), "f", "N") == (30, 40)


def test_a_mark_that_lies_across_two_pieces_is_found(tmp_path):
    noise_film(tmp_path / "f.png")
    for before in range(2**16 - 40, 2**16, 3):
        text = json.dumps({"imageData": "", **labelme("f.png", {"S": (3, 4)})})
        (tmp_path / "f.json").write_text(text.replace('""', f'"{"x" * (before - text.index("shapes"))}"', 1))
        assert read(tmp_path, mm_per_px=0.1).format == "labelme"


def test_a_named_format_is_taken_at_its_word_and_says_what_is_wrong_in_which_file(tmp_path):
    noise_film(tmp_path / "f.png")
    put(tmp_path / "set.json", {"image": [], "annotation": []})
    with pytest.raises(DataError) as error:
        read(tmp_path, format="coco")
    assert "is not in the format 'coco'" in str(error.value)
    assert "set.json: the file: 'categories' is missing" in str(error.value)


# --- whose picture a point is on -------------------------------------------------------------------------------------


def two_pictures(folder, data, regions):
    for name in ("a.png", "b.png"):
        noise_film(folder / name)
    put(folder / "export.json", [{"data": data, "annotations": [{"result": regions}]}])
    return folder


def test_points_of_a_task_with_two_pictures_go_to_the_one_that_to_name_names(tmp_path):
    regions = [region(1, 2, "S", to_name="first"), region(3, 4, "S", to_name="second")]
    data = read(two_pictures(tmp_path, {"first": "/x/a.png", "second": "/x/b.png"}, regions), mm_per_px=0.1)
    assert (point(data, "a", "S"), point(data, "b", "S")) == ((1, 2), (3, 4))


def test_points_of_a_task_with_a_list_of_pictures_go_to_the_one_that_item_index_counts(tmp_path):
    regions = [
        region(1, 2, "S", to_name="image", item_index=1),
        region(3, 4, "S", to_name="image", item_index=0),
    ]
    data = read(two_pictures(tmp_path, {"pages": ["/x/a.png", "/x/b.png"]}, regions), mm_per_px=0.1)
    assert (point(data, "a", "S"), point(data, "b", "S")) == ((3, 4), (1, 2))


@pytest.mark.parametrize(
    ("data", "more", "says"),
    [
        (
            {"image1": "a.png", "image2": "b.png"},
            {"to_name": "img1"},
            "result[0]: the point is on 'img1', and nothing says which picture of the task that is (pictures: image1, ",
        ),
        ({"pages": ["a.png", "b.png"]}, {"to_name": "i"}, "nothing says which of the 2 pictures of 'pages' the point"),
        ({"pages": ["a.png", "b.png"]}, {"item_index": 2}, "the point is on picture 2 of 'pages', which has 2"),
        ({"image": "a.png"}, {"to_name": "i", "item_index": 1}, "the point is on picture 1 of 'image', which has 1"),
        ({"image": "a.png", "other": "c.png"}, {"to_name": "other"}, "the film 'c.png' is not in"),
    ],
)
def test_a_point_of_which_nothing_says_on_which_picture_it_is_is_refused(tmp_path, data, more, says):
    with pytest.raises(DataError) as error:
        read(two_pictures(tmp_path, data, [region(1, 2, "S", **more)]), mm_per_px=0.1)
    assert says in str(error.value)


def test_two_tags_on_the_one_picture_of_a_task_are_refused(tmp_path):
    regions = [region(1, 2, "S", to_name="left"), region(3, 4, "N", to_name="right")]
    with pytest.raises(DataError, match=r"the point is on 'right'.* points on: left, right"):
        read(two_pictures(tmp_path, {"image": "a.png"}, regions), mm_per_px=0.1)


def test_one_picture_under_two_keys_is_one_film(tmp_path):
    regions = [region(1, 2, "S", to_name="img")]
    data = read(two_pictures(tmp_path, {"image": "/x/a.png", "link": "/x/a.png"}, regions), mm_per_px=0.1)
    assert [(sample.id, point(data, "a", "S")) for sample in data.samples] == [("a", (1, 2))]


@pytest.mark.parametrize("name", ["labelme", "coco"])
def test_an_annotation_that_names_another_film_than_its_own_file_is_refused_with_both_names(tmp_path, name):
    for film in ("001", "002"):
        noise_film(tmp_path / f"{film}.png")
        other = {"001": "002.png", "002": "001.png"}[film]
        put(tmp_path / f"{film}.json", labelme(other, {"S": (1, 2)}) if name == "labelme" else coco([other]))
    with pytest.raises(DataError) as error:
        read(tmp_path, mm_per_px=0.1)
    for film, other in (("001", "002"), ("002", "001")):
        assert f"{tmp_path}/{film}.json: " in str(error.value)
        assert f"is of the film {tmp_path}/{other}.png, but its file is called like the film" in str(error.value)


def test_an_annotation_in_another_folder_names_its_film_by_name_or_path(tmp_path):
    noise_film(tmp_path / "images/001.png")
    put(tmp_path / "labels/001.json", labelme("../images/001.png", {"S": (1, 2)}))
    put(tmp_path / "labels/task-7.json", labelme("../images/002.png", {"S": (3, 4)}))
    noise_film(tmp_path / "images/002.png")
    data = read(tmp_path, mm_per_px=0.1)
    assert (point(data, "001", "S"), point(data, "002", "S")) == ((1, 2), (3, 4))


# --- spellings ----------------------------------------------------------------------------------------------------


def marked(folder, *films, readers=None):
    """A LabelMe set: for each film, its points by label."""
    for n, points in enumerate(films):
        noise_film(folder / f"{n}.png")
        put(folder / f"{n}.json", labelme(f"{n}.png", points))
    return read(folder, mm_per_px=0.1)


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (["S", "S "], "S"),
        (["S", "\tS"], "S"),
        (["S", "S\u00a0"], "S"),
        (["S", "\u200bS"], "S"),
        (["POG", "Pog", "POG"], "Pog"),
        (["Pog\u2019", "Pog`"], "Pog`"),
        (["Sella", "S", "sella "], "S"),
        (["soft-tissue pogonion", "Pog`"], "Pog`"),
        (["My  mark", "my mark", "my mark"], "my mark"),
    ],
)
def test_spellings_of_one_landmark_are_one_landmark(tmp_path, spellings, name):
    data = marked(tmp_path, *({spelling: (n, 7)} for n, spelling in enumerate(spellings, 1)))
    assert data.landmarks == (name,)
    assert [point(data, str(n), name) for n in range(len(spellings))] == [(n, 7) for n in range(1, len(spellings) + 1)]


@pytest.mark.parametrize(("one", "other"), [("S", "S "), ("S", "S\u00a0")])
def test_one_landmark_twice_on_a_film_is_refused_with_both_spellings(tmp_path, one, other):
    with pytest.raises(DataError) as error:
        marked(tmp_path, {one: (1, 2), other: (3, 4)})
    assert f"0.png: has points of both {one!r} and {other!r}, two spellings of one landmark" in str(error.value)


def test_spellings_that_meet_on_few_films_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"1\.png: has points of both 'Pog' and 'POG'"):
        marked(tmp_path, {"Pog": (1, 2)}, {"Pog": (1, 2), "POG": (3, 4)})


def test_names_that_nearly_every_film_has_both_of_are_two_landmarks(tmp_path):
    data = marked(tmp_path, *[{"Xy": (1, 2), "XY": (3, 4)}] * 3, {"XY": (5, 6)})
    assert data.landmarks == ("Xy", "XY")
    assert (point(data, "3", "Xy"), point(data, "3", "XY")) == (None, (5, 6))


def test_the_case_of_a_single_letter_says_what_it_means(tmp_path):
    assert marked(tmp_path, {"N": (1, 2), "l6": (9, 9)}, {"n": (3, 4)}).landmarks == ("N", "l6", "n")


def test_a_lower_incisor_is_no_lower_lip(tmp_path):
    assert marked(tmp_path, {"LI": (1, 2)}, {"Li": (3, 4)}).landmarks == ("LI", "Li")


@pytest.mark.parametrize("empty", ["", " ", "\u00a0"])
def test_a_landmark_without_a_name_is_refused(tmp_path, empty):
    with pytest.raises(DataError, match=r"1\.png: a landmark of this film has no name"):
        marked(tmp_path, {"S": (1, 2)}, {"S": (1, 2), empty: (3, 4)})


def test_spellings_of_one_reader_are_one_reader(tmp_path):
    noise_film(tmp_path / "a.png")
    noise_film(tmp_path / "b.png")
    rows = "a.png,0.1,Senior,1,2\na.png,0.1,junior,3,4\nb.png,0.1,senior ,5,6\nb.png,0.1,Junior,7,8\n"
    (tmp_path / "points.csv").write_text("film,mm_per_px,reader,S_x,S_y\n" + rows)
    data = read(tmp_path)
    assert data.readers == ("Senior", "junior")
    assert [[point(data, film, "S", row) for row in (0, 1)] for film in "ab"] == [[(1, 2), (3, 4)], [(5, 6), (7, 8)]]


def test_two_readers_of_nearly_one_name_on_one_film_are_refused_where_others_have_one(tmp_path):
    for film in "abc":
        noise_film(tmp_path / f"{film}.png")
    rows = "a.png,0.1,Senior,1,2\na.png,0.1,senior,3,4\nb.png,0.1,senior,5,6\nc.png,0.1,Senior,7,8\n"
    (tmp_path / "points.csv").write_text("film,mm_per_px,reader,S_x,S_y\n" + rows)
    with pytest.raises(DataError, match=r"a\.png: has .* both 'Senior' and 'senior', two spellings of one reader"):
        read(tmp_path)


def test_landmarks_are_found_by_any_of_their_names_and_called_as_asked(tmp_path):
    noise_film(tmp_path / "a.png")
    (tmp_path / "points.csv").write_text("film,mm_per_px,Sella_x,Sella_y,N_x,N_y\na.png,0.1,1,2,3,4\n")
    assert read(tmp_path).landmarks == ("S", "N")
    data = read(tmp_path, landmarks=["Nasion", "Sella"])
    assert data.landmarks == ("Nasion", "Sella")
    assert (point(data, "a", "Sella"), point(data, "a", "Nasion")) == ((1, 2), (3, 4))


# --- tables of clinics ----------------------------------------------------------------------------------------------


def table(folder, text, encoding="utf-8", films=("001", "002")):
    """A set of two films and a table, read with its format named by nobody."""
    for film in films:
        noise_film(folder / f"{film}.png")
    (folder / "points.csv").write_bytes(text.encode(encoding))
    return read(folder, mm_per_px=0.1)


WIDE = "film,S_x,S_y,N_x,N_y\n001.png,1.5,2,3,4.25\n002.png,5,6,,\n"
LONG = "film,landmark,x,y\n001.png,S,1.5,2\n001.png,N,3,4.25\n002.png,S,5,6\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (WIDE, "utf-8"),
        (WIDE, "utf-8-sig"),
        (WIDE, "utf-16"),
        (WIDE.replace("\n", "\r\n"), "utf-8"),
        (WIDE.replace(",", "\t"), "utf-16"),
        (WIDE.replace(",", ";").replace(".5", ",5").replace(".25", ",25"), "utf-8"),
        ("sep=;\n" + WIDE.replace(",", ";"), "utf-8"),
        ("sep=;\r\n" + WIDE.replace(",", ";").replace(".5", ",5").replace(".25", ",25"), "utf-8-sig"),
        (WIDE.replace("film", "Image").replace("_x", " X").replace("_y", " Y"), "utf-8"),
        (WIDE.replace("film", "FILENAME").replace("_x", "_X").replace("_y", "_Y"), "utf-8"),
        (WIDE.replace("_x", "_x_px").replace("_y", "_y (px)"), "utf-8"),
        (WIDE.replace("S_", "Sella ").replace("N_", "nasion "), "utf-8"),
        (WIDE.replace(".png", ""), "utf-8"),
        (WIDE.replace("film", ",film").replace("001", "0,001").replace("002", "1,002"), "utf-8"),
        (WIDE.replace("film", "Nr.,film").replace("001", "1,001").replace("002", "2,002"), "utf-8"),
        (LONG, "utf-8"),
        (LONG.replace(".png", "").replace("film", "Image").replace("landmark,x,y", "Point,X,Y"), "utf-8"),
        (LONG.replace(",", ";").replace(".5", ",5").replace(".25", ",25"), "utf-16"),
        (LONG + "002.png,N,,\n", "utf-8"),
        (WIDE.replace("001.png", "1").replace("002.png", "2"), "utf-8"),
        (WIDE.replace(".png", ".PNG"), "utf-8"),
        (WIDE.replace("film", "patient,film").replace("001", "7,001").replace("002", "8,002"), "utf-8"),
    ],
)
def test_a_table_of_a_clinic_is_read_as_it_was_meant(tmp_path, text, encoding):
    data = table(tmp_path, text, encoding)
    assert (data.format, data.landmarks) == ("csv", ("S", "N"))
    assert [(point(data, film, "S"), point(data, film, "N")) for film in ("001", "002")] == [
        ((1.5, 2), (3, 4.25)),
        ((5, 6), None),
    ]


def predicted(folder, kind):
    """A film with two predicted points in a file of a kind, as `ceph predict` leaves it beside the film."""
    noise_film(folder / "001.png")
    points = np.array([[1.5, 2.25], [30.125, 39.3]])
    found = FilmPoints(str(folder / "001.png"), (H, W), 0.1, points, np.array([0.9, 0.8]), name="001.png")
    if kind == "labelme":
        for place, text in pages(lambda: [found], Source("run", ("S", "N"), "run@1"), folder):
            place.write_text(text())
    else:
        (folder / f"points.{ENDINGS.get(kind, 'json')}").write_text(render(kind, [found], ("S", "N"), "run", {}))
    return folder


ENDINGS = {"csv": "csv", "cvat": "xml"}


@pytest.mark.parametrize("kind", ["json", "csv", "coco", "labelstudio", "cvat", "labelme"])
def test_what_predict_writes_is_what_training_reads(tmp_path, kind):
    data = read(predicted(tmp_path, kind), mm_per_px=0.1)
    assert (data.format, data.readers) == ("predicted" if kind == "json" else kind, ("predicted",))
    assert point(data, "001", "S") == pytest.approx((1.5, 2.25), abs=1e-6)
    assert point(data, "001", "N") == pytest.approx((30.125, 39.3), abs=1e-6)


def through_labelstudio(folder):
    tasks = json.loads((folder / "points.json").read_text())
    for task in tasks:
        result = [{**region, "origin": "prediction"} for region in task["predictions"][0]["result"]]
        task["annotations"] = [{"completed_by": 7, "result": result, "parent_prediction": 3}]
    (folder / "points.json").write_text(json.dumps(tasks))


def through_cvat(folder):
    text = (folder / "points.xml").read_text()
    (folder / "points.xml").write_text(text.replace("<meta>", "<meta><dumped>2026-11-28</dumped>"))


def through_labelme(folder):
    content = json.loads((folder / "001.json").read_text())
    (folder / "001.json").write_text(json.dumps({**content, "version": "6.3.1"}))


@pytest.mark.parametrize("tool", [through_labelstudio, through_cvat, through_labelme])
def test_points_that_a_person_saw_in_a_tool_are_those_of_another_reader(tmp_path, tool):
    folder = predicted(tmp_path, tool.__name__.removeprefix("through_"))
    tool(folder)
    assert read(folder, mm_per_px=0.1).readers == ("corrected",)


def test_points_that_nobody_saw_stay_predicted_in_another_format(tmp_path):
    convert(predicted(tmp_path / "set", "json"), tmp_path / "there", "labelme")
    assert read(tmp_path / "there").readers == ("predicted",)


def test_predicted_points_beside_a_set_are_not_taken_for_it(tmp_path):
    predicted(tmp_path, "json")
    predicted(tmp_path, "csv")
    through_labelme(predicted(tmp_path, "labelme"))
    assert read(tmp_path, mm_per_px=0.1).format == "labelme"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("film;S_x;S_y\n001;1,5;2.5\n", "points.csv:2:1: S_x must be a number, not '1,5'"),
        ("film;S_x;S_y\n001;1,234;987\n", "points.csv: its numbers with a comma may be thousands or decimals"),
        ("film,landmark,x,y\n001,S,1,2\n001,S,3,4\n", "points.csv:3:1: S of 001.png stands twice"),
        ("film,landmark,x,y\n001,,1,2\n", "points.csv:2:1: a point without a landmark's name"),
        ("film,_x,_y\n001,1,2\n", "points.csv:1:1: the column '_x' is no half of a point"),
        ("film,S_x,S_y\n03,1,2\n", "points.csv:2:1: the film '03' is not in"),
        ("film,S_x\n001,1\n", "points.csv:1:1: the column 'S_x' has no other half"),
        ("patient,S_x,S_y\n001,1,2\n", "points.csv:1:1: must have one column with the film's file, not 0"),
    ],
)
def test_what_is_wrong_in_a_table_is_told_with_the_file(tmp_path, text, says):
    with pytest.raises(DataError) as error:
        table(tmp_path, text)
    assert says in str(error.value)


def test_every_symbol_of_a_format_is_in_the_docs_with_what_it_is():
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8").replace("\\`", "`")
    rows = [f"| {symbol} | {what} | {', '.join(names)} |" for symbol, (what, names) in SYMBOLS.items()]
    assert [row for row in rows if row not in page] == []
    assert {symbol for one in FORMATS for symbol in one.landmarks or ()} <= SYMBOLS.keys()


def test_no_name_means_two_landmarks():
    names = [key(name) for symbol, (_, names) in SYMBOLS.items() for name in (symbol, *names)]
    assert names == [symbol for symbol, (_, names) in SYMBOLS.items() for _ in (symbol, *names)]
