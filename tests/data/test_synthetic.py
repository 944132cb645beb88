"""The embedded synthetic set: same films every time, points where they were drawn, the Aariz layout on disk."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest

from ceph.data.formats.find import read
from ceph.data.images import read_film
from ceph.data.synthetic import sets as synthetic
from ceph.data.synthetic.canvas import Canvas
from ceph.data.synthetic.clinic import Tissue
from ceph.data.synthetic.film import draw_head, sella
from ceph.data.synthetic.head import Head, smooth
from ceph.data.synthetic.sets import FOLDERS, LANDMARKS, MACHINES, draw, draw_shape, shape_table, split_of, write
from ceph.data.synthetic.sides import draw_sides
from ceph.data.synthetic.teeth import draw_teeth, occlusion

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("CEPH_SHARED", ROOT.parent / "shared"))
TABLE = ROOT / "core" / "ceph" / "data" / "synthetic" / "shape.json"
AARIZ = "A ANS B Me N Or Pog PNS Pn R S Ar Co Gn Go Po LPM LIT LMT UPM UIA UIT UMT LIA Li Ls N` Pog` Sn"


@pytest.fixture(scope="module")
def films():
    return [draw(index, height=480) for index in range(24)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "new" / "set"
    write(folder, films=10, seed=3, height=200)
    return folder


def at(symbol):
    return LANDMARKS.index(symbol)


def test_landmarks_are_those_of_aariz_in_its_order():
    assert " ".join(LANDMARKS) == AARIZ


def test_a_film_is_a_pure_function_of_its_arguments():
    one = draw(5, seed=2, height=200)
    draw(6, seed=2, height=200)
    other = draw(5, seed=2, height=200)
    for field in fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


@pytest.mark.parametrize("change", [{"index": 6}, {"seed": 3}])
def test_another_index_or_seed_gives_another_film(change):
    arguments = {"index": 5, "seed": 2}
    one, other = draw(**arguments, height=200), draw(**(arguments | change), height=200)
    assert np.abs(one.truth_px - other.truth_px).max() > 1
    assert one.image.shape != other.image.shape or not np.array_equal(one.image, other.image)


def test_the_split_is_only_a_label():
    one, other = draw(1, split="train", height=200), draw(1, split="test", height=200)
    assert (one.split, other.split) == ("train", "test")
    assert np.array_equal(one.image, other.image)


def test_the_same_head_is_drawn_at_every_height():
    small, large = draw(4, height=240), draw(4, height=480)
    span = [(f.truth_px[at("N")] - f.truth_px[at("Me")]) * f.mm_per_px for f in (small, large)]
    assert np.allclose(span[0], span[1], atol=0.1)


def test_films_have_the_promised_shapes_and_types(films):
    for film in films:
        assert film.image.dtype == np.uint8
        assert film.image.ndim == 2
        assert 0.75 * 480 < film.image.shape[0] < 1.25 * 480
        assert film.points_px.shape == (2, 29, 2)
        assert film.truth_px.shape == (29, 2)
        assert 1 <= film.cvm_stage <= 6


def test_every_point_lies_inside_the_film(films):
    for film in films:
        height, width = film.image.shape
        for points in (film.truth_px, *film.points_px):
            assert (points >= 0).all()
            assert (points <= (width - 1, height - 1)).all()


def test_the_truth_keeps_a_margin_to_the_edge(films):
    for film in films:
        height, width = film.image.shape
        margin = synthetic.MARGIN_MM / film.mm_per_px
        assert (film.truth_px >= margin - 0.01).all()
        assert (film.truth_px <= np.array([width, height]) - margin + 0.01).all()


def test_heads_face_right_and_stand_upright(films):
    for film in films:
        assert film.truth_px[at("N"), 0] > film.truth_px[at("S"), 0]
        assert film.truth_px[at("Me"), 1] > film.truth_px[at("N"), 1]


def test_mean_distances_between_landmarks_match_the_table():
    shapes = np.array([draw_shape(np.random.default_rng(i)) for i in range(400)])
    for one, other in (("S", "N"), ("N", "Me"), ("Go", "Me"), ("Co", "Gn"), ("ANS", "PNS"), ("Po", "Or")):
        drawn = np.linalg.norm(shapes[:, at(one)] - shapes[:, at(other)], axis=1).mean()
        table = np.linalg.norm(shape_table().mean_mm[at(one)] - shape_table().mean_mm[at(other)])
        assert drawn == pytest.approx(table, rel=0.03), (one, other)


def test_heads_have_a_human_size_on_every_machine(films):
    for film in films:
        sella_nasion = np.linalg.norm(film.truth_px[at("S")] - film.truth_px[at("N")]) * film.mm_per_px
        assert 55 < sella_nasion < 95


def test_readers_scatter_around_the_truth_as_the_table_says():
    errors = []
    for index in range(30):
        film = draw(index, height=64)
        errors.append((film.points_px - film.truth_px) * film.mm_per_px)
    measured = np.std(errors, axis=(0, 1, 3))
    assert measured == pytest.approx(shape_table().reader_sd_mm, rel=0.35)
    assert not np.array_equal(errors[0][0], errors[0][1])


def test_films_differ_in_machine_spacing_and_stage(films):
    assert len({film.machine for film in films}) >= 4
    assert len({film.mm_per_px for film in films}) >= 4
    assert len({film.cvm_stage for film in films}) >= 4
    assert len({machine.name for machine in MACHINES}) == len(MACHINES)


def test_films_use_the_range_of_greys(films):
    for film in films:
        dark, bright = np.percentile(film.image, (2, 99))
        assert bright - dark > 100


@pytest.mark.parametrize("symbol", ["UIT", "LIT", "UPM", "LMT", "ANS", "PNS", "Pn", "Sn", "Pog", "Me", "Ar", "Go"])
def test_there_is_something_to_see_at_a_landmark(films, symbol):
    """The grey around a landmark varies more than around a random place of the film."""
    rng = np.random.default_rng(0)
    here, elsewhere = [], []
    for film in films:
        smooth_film = cv2.GaussianBlur(film.image, (0, 0), 1.0)
        reach = max(2, round(2.0 / film.mm_per_px))

        def spread(x, y, film=smooth_film, reach=reach):
            return film[round(y) - reach : round(y) + reach + 1, round(x) - reach : round(x) + reach + 1].std()

        here.append(spread(*film.truth_px[at(symbol)]))
        height, width = film.image.shape
        places = rng.uniform(0.1, 0.9, (20, 2)) * (width, height)
        elsewhere.append(np.mean([spread(x, y) for x, y in places]))
    assert np.mean(here) > 1.5 * np.mean(elsewhere)


@pytest.mark.parametrize(
    ("symbol", "bright", "dark"),
    [
        ("Pn", (-3, 0), (3, 0)),
        ("Sn", (-3, 2), (4, 3)),
        ("Pog", (-2, 0), (3, 0)),
        ("Me", (0, -2), (0, 3)),
        ("ANS", (-4, 0.5), (3, 0)),
        ("PNS", (4, 0), (-2, -1)),
    ],
)
def test_an_edge_lies_exactly_at_a_landmark(films, symbol, bright, dark):
    """Inside is brighter than outside, a few mm to either side: the landmark is on the edge, not merely near one."""
    for film in films:
        x, y = film.truth_px[at(symbol)]
        image = cv2.GaussianBlur(film.image, (0, 0), 0.8)
        inside, outside = (
            int(image[round(y + dy / film.mm_per_px), round(x + dx / film.mm_per_px)]) for dx, dy in (bright, dark)
        )
        assert inside > outside + 5


@pytest.mark.parametrize("centre", [(25.0, 20.0), (25.3, 19.6), (24.5, 20.5)])
def test_a_shape_lies_where_its_outline_says(centre):
    """Area and centre of mass of a drawn disc and ring are those of the curve, to a twentieth of a pixel."""
    t = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    disc = np.array(centre) + 11 * np.stack([np.cos(t), np.sin(t)], axis=1)
    ys, xs = np.mgrid[:40, :50]
    for kind in ("fill", "stroke"):
        canvas = Canvas(40, 50, mm_per_px=1.0)
        if kind == "fill":
            canvas.fill(disc, 1.0)
            assert canvas.density.sum() == pytest.approx(np.pi * 11**2, rel=0.03)
        else:
            canvas.stroke(disc, 1.0, width_mm=2.0)
        mass = canvas.density.sum()
        middle = ((canvas.density * xs).sum() / mass, (canvas.density * ys).sum() / mass)
        assert middle == pytest.approx(centre, abs=0.05)


def test_a_shape_beside_the_film_leaves_it_alone():
    canvas = Canvas(20, 20, mm_per_px=1.0)
    canvas.fill(np.array([[-50.0, -50.0], [-40.0, -50.0], [-40.0, -40.0]]), 1.0)
    canvas.stroke(np.array([[100.0, 3.0], [120.0, 3.0]]), 1.0, width_mm=2.0)
    assert not canvas.density.any()


@pytest.mark.parametrize("closed", [True, False])
def test_a_curve_passes_through_its_points(closed):
    points = np.random.default_rng(1).uniform(0, 100, (9, 2))
    curve = smooth(points, np.arange(9) % 4 == 0, closed=closed)
    distance = np.linalg.norm(curve[:, None] - points, axis=-1).min(axis=0)
    assert distance == pytest.approx(0, abs=1e-9)


def test_bending_the_mean_head_to_itself_changes_nothing():
    mean = shape_table().mean_mm
    head = Head(LANDMARKS, mean, mean, 2.0, np.array([10.0, 20.0]))
    places = np.array([[0.0, 0.0], [-150.0, -90.0], [40.0, 50.0]])
    assert head.place(places) == pytest.approx(places, abs=1e-9)
    assert head.px(places) == pytest.approx(places * 2 + (10, 20))


@pytest.fixture(scope="module")
def varied():
    return [draw(index, height=330, varied=True) for index in range(24)]


def middle_height(film):
    """The height of the face, nasion to menton, as a share of the film's."""
    return float(film.truth_px[at("Me"), 1] - film.truth_px[at("N"), 1]) / film.image.shape[0]


def test_varied_films_keep_the_promises_of_films(varied):
    for film in varied:
        height, width = film.image.shape
        assert film.image.dtype == np.uint8
        assert np.all((film.points_px >= 0) & (film.points_px <= (width - 1, height - 1)))
        assert film.image.std() > 10, "nothing to see"
        assert film.truth_px[at("Pn"), 0] > film.truth_px[at("Po"), 0], "faces right"


def test_varied_films_differ_more_than_the_others_in_pose_size_and_grey_values(varied, films):
    def spread(films, what):
        return float(np.std([what(film) for film in films]))

    def turn(film):
        x, y = film.truth_px[at("N")] - film.truth_px[at("S")]
        return float(np.degrees(np.arctan2(y, x)))

    assert spread(varied, turn) > 1.5 * spread(films, turn)
    assert spread(varied, middle_height) > 1.2 * spread(films, middle_height)
    assert spread(varied, lambda film: film.image.mean()) > 1.5 * spread(films, lambda film: film.image.mean())


def test_a_varied_film_has_the_landmarks_where_its_bones_are():
    # The tip of the upper incisor: enamel above it, air or lips below; without its clutter it is the brightest edge.
    rises = []
    for index in range(8):
        film = draw(index, height=480, varied=True)
        x, y = film.truth_px[at("UIT")]
        apex = film.truth_px[at("UIA")]
        way = (apex - (x, y)) / np.hypot(*(apex - (x, y))) / film.mm_per_px
        inside, outside = (np.rint([x, y] + mm * way).astype(int) for mm in (2.0, -2.0))
        rises.append(int(film.image[inside[1], inside[0]]) - int(film.image[outside[1], outside[0]]))
    assert np.median(rises) > 15


def density_at(canvas, head, place_mm):
    """The density of a canvas at a place [2] in mm of a head, averaged over a square of 5 px."""
    x, y = np.rint(head.px(place_mm)).astype(int)
    return float(canvas.density[y - 2 : y + 3, x - 2 : x + 3].mean())


def bare_head(tissue):
    """The mean head, drawn on an empty canvas of 0.25 mm/px."""
    mean = shape_table().mean_mm
    head = Head(LANDMARKS, mean, mean, 4.0, np.array([400.0, 440.0]))
    canvas = Canvas(960, 880, 0.25)
    draw_head(canvas, head, np.random.default_rng(0), cvm_stage=3, ear_rod=False, tissue=tissue)
    return canvas, head


def test_a_lost_tooth_leaves_a_gap_and_no_bracket():
    mean = shape_table().mean_mm
    head = Head(LANDMARKS, mean, mean, 2.0, np.array([200.0, 220.0]))
    x, y = head.px(head["UPM"] - 4.2 * occlusion(head)).round().astype(int)
    densest = []
    for lost in ((), ("UPM",)):
        canvases = [Canvas(480, 440, 0.5) for _ in range(20)]
        for seed, canvas in enumerate(canvases):
            draw_teeth(canvas, head, np.random.default_rng(seed), lost=lost)
        densest.append(max(canvas.density[y, x] for canvas in canvases))
    assert densest[0] > 1.2 > 0.5 > densest[1]


def test_the_spine_of_a_varied_maxilla_fades_in_front_of_its_recess():
    (solid, head), (faint, _) = bare_head(Tissue()), bare_head(Tissue(spine=0.2, recess_mm=8.0))
    back = (head["PNS"] - head["ANS"]) / np.hypot(*(head["PNS"] - head["ANS"]))
    left = [
        density_at(faint, head, head["ANS"] + mm * back) / density_at(solid, head, head["ANS"] + mm * back)
        for mm in (2.5, 5, 10, 40)
    ]
    assert max(left[:2]) < 0.65, "in front of the recess"
    assert min(left[2:]) > 0.9, "behind it"


def test_the_sides_cover_the_edge_in_which_the_cranium_would_end():
    def edge(canvas, head):
        above, below = (
            np.mean([density_at(canvas, head, head.near("S", x, y)) for x in (14, 20, 26)]) for y in (-18, 6)
        )
        return above - below

    tissue = Tissue(skull=2.0)
    canvas, head = bare_head(tissue)
    bare = edge(canvas, head)
    covered = []
    for seed in range(5):
        canvas, head = bare_head(tissue)
        draw_sides(canvas, head, np.random.default_rng(seed), tissue)
        covered.append(edge(canvas, head))
    assert bare > 0.2
    assert np.mean(covered) < 0.6 * bare


def test_a_shade_takes_density_where_it_lies_and_nowhere_else():
    canvas = Canvas(120, 160, 0.5)
    canvas.density += 1
    canvas.shade(np.array([40.0, 60.0]), 5.0, 0.25)
    assert canvas.density[60, 40] == pytest.approx(0.25)
    assert canvas.density[60, 50] == pytest.approx(1 - 0.75 * np.exp(-0.5), abs=1e-5), "5 mm off"
    assert canvas.density[60, 150] == pytest.approx(1, abs=1e-5)


def test_a_shallow_sella_has_its_floor_nearer_to_its_landmark():
    path = (("S", 10, -6), ("S", 0, 5.2), ("Ar", -4, -7), "N!")
    shallow = sella(path, Tissue(sella_width=0.8, sella_depth=0.5))
    assert shallow == (("S", 8, -3), ("S", 0, 2.6), ("Ar", -4, -7), "N!")
    assert sella(path, Tissue()) == path

    def floor(tissue):  # mm below sella where the line of the skull's base is densest
        canvas, head = bare_head(tissue)
        x, y = np.rint(head.px(head["S"])).astype(int)
        return 0.25 * int(np.argmax(canvas.density[y : y + 32, x]))

    assert floor(Tissue(sella_depth=0.5)) == pytest.approx(0.5 * floor(Tissue()), abs=0.6)


def test_vertices_wander_together_and_landmarks_stay():
    mean = shape_table().mean_mm
    still = Head(LANDMARKS, mean, mean, 1.0, np.zeros(2))
    stray = Head(LANDMARKS, mean, mean, 1.0, np.zeros(2), np.random.default_rng(1))
    path = ("S", ("S", 5.5, -5.5), (-36, -60), "N!")
    apart = np.hypot(*(stray.vertices(path)[0] - still.vertices(path)[0]).T)
    assert apart[0] == apart[3] == 0
    assert np.all(apart[1:3] > 0)
    assert np.all(apart < 8)
    assert np.array_equal(stray.vertices(path)[0], stray.vertices(path)[0]), "curves that share a vertex still meet"


def test_a_varied_set_is_written_like_any_other(tmp_path):
    write(tmp_path / "set", films=4, height=120, varied=True)
    film = cv2.imread(str(tmp_path / "set" / "train" / "Cephalograms" / "synthetic-0001.png"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(film, draw(1, height=120, varied=True).image)
    assert not np.array_equal(film, draw(1, height=120).image)


def test_splits_are_seventy_fifteen_fifteen():
    counts = [sum(split_of(i, 64) == split for i in range(64)) for split in FOLDERS]
    assert counts == [44, 10, 10]


@pytest.mark.parametrize("films", [3, 4, 7, 100])
def test_every_split_has_a_film(films):
    assert {split_of(i, films) for i in range(films)} == set(FOLDERS)


def test_the_written_set_has_the_aariz_layout(written):
    with (written / "cephalogram_machine_mappings.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["cephalogram_id", "machine", "pixel_size", "image_format", "mode"]
    assert [row["mode"] for row in rows].count("Train") == 6
    folder_of = {"Train": "train", "Valid": "valid", "Test": "test"}
    for number, row in enumerate(rows):
        name = row["cephalogram_id"]
        split = written / folder_of[row["mode"]]
        film = draw(number, seed=3, height=200)
        assert name == film.id
        assert float(row["pixel_size"]) == film.mm_per_px
        image = cv2.imread(str(split / "Cephalograms" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(image, film.image)
        for reader, marks in zip(("Senior", "Junior"), film.points_px, strict=True):
            path = split / "Annotations" / "Cephalometric Landmarks" / f"{reader} Orthodontists" / f"{name}.json"
            read = json.loads(path.read_text(encoding="utf-8"))
            assert read["ceph_id"] == name
            assert [entry["symbol"] for entry in read["landmarks"]] == list(LANDMARKS)
            assert all(set(entry) == {"landmark_id", "title", "symbol", "value"} for entry in read["landmarks"])
            assert [[entry["value"]["x"], entry["value"]["y"]] for entry in read["landmarks"]] == marks.tolist()
        stage = json.loads((split / "Annotations" / "CVM Stages" / f"{name}.json").read_text(encoding="utf-8"))
        assert stage["cvm_stage"]["value"] == film.cvm_stage
    assert len(list(written.rglob("*.png"))) == 10
    assert len(list(written.rglob("*.json"))) == 30


def test_the_written_set_is_the_same_byte_for_byte(written, tmp_path):
    again = tmp_path / "again"
    again.mkdir()  # an empty folder is fine
    write(again, films=10, seed=3, height=200)
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((written / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_the_written_set_names_no_place_on_this_machine(written):
    for path in (*written.rglob("*.json"), *written.rglob("*.csv"), TABLE):
        text = path.read_text(encoding="utf-8")
        assert str(ROOT) not in text
        assert str(Path.home()) + "/" not in text


def test_an_exact_set_has_one_reader_who_marks_the_truth(tmp_path):
    write(tmp_path / "set", films=3, height=340, exact=True)
    data = read(tmp_path / "set")
    assert data.readers == ("senior",)
    for sample in data.samples:
        drawn = draw(int(sample.id.split("-")[-1]), height=340)
        np.testing.assert_allclose(sample.points[0], drawn.truth_px, atol=1e-3)
        np.testing.assert_array_equal(read_film(sample.path), drawn.image)


def test_too_few_films_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 3 films"):
        write(tmp_path / "set", films=2)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(FileExistsError, match="not empty"):
        write(tmp_path, films=3, height=64)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_set_that_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    def draw_beside_another(index, **arguments):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / "theirs.txt").write_text("done first", encoding="utf-8")
        return draw(index, **arguments)

    monkeypatch.setattr(synthetic, "draw", draw_beside_another)
    with pytest.raises(FileExistsError, match="not empty"):
        write(tmp_path / "set", films=3, height=64)
    assert [path.name for path in tmp_path.rglob("*")] == ["set", "theirs.txt"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def draw_two(index, **arguments):
        if index == 2:
            raise KeyboardInterrupt
        return draw(index, **arguments)

    monkeypatch.setattr(synthetic, "draw", draw_two)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set", films=5, height=64)
    assert not any(tmp_path.iterdir())


def test_unknown_splits_and_tiny_films_are_refused():
    with pytest.raises(ValueError, match="train, validation, test"):
        draw(0, split="valid")
    with pytest.raises(ValueError, match="at least 64"):
        draw(0, height=10)


def test_the_table_holds_statistics_only():
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    components = np.array(table["components"]).reshape(len(table["components"]), -1)
    assert 12 <= len(components) <= 16
    assert components @ components.T == pytest.approx(np.eye(len(components)), abs=1e-2)
    assert np.abs(np.array(table["mean_mm"]).mean(axis=0)).max() < 0.01
    assert all(0.05 < sd < 2 for sd in table["reader_sd_mm"])


@pytest.mark.shared
def test_the_table_can_be_regenerated_from_the_shared_data():
    source = SHARED / "data" / "aariz" / "landmarks.json"
    if not source.is_file():
        pytest.skip(f"{source} is missing: set CEPH_SHARED to the folder of shared data")
    script = ROOT / "benchmarks" / "make_synthetic_shape.py"
    spec = importlib.util.spec_from_file_location("make_synthetic_shape", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made, kept = module.make_table(source), json.loads(TABLE.read_text(encoding="utf-8"))
    assert list(made) == list(kept)
    for key in ("mean_mm", "component_sd_mm", "components", "reader_sd_mm"):
        assert np.array(made[key]) == pytest.approx(np.array(kept[key]), abs=2e-3), key
