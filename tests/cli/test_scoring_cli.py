"""Points that any tool has found are scored, and compared with runs, as a run's own are."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from tests.data.small_sets import shared_data

import ceph
from ceph.cli.app import main
from ceph.config.load import from_values
from ceph.data.formats.find import read
from ceph.errors import ConfigError, DataError
from ceph.runfolder import Predictions, State, write_predictions, write_state


@pytest.fixture(scope="module")
def train(tiny_set):
    """The films of `train`, their landmarks, and what is true of them [F, K, 2] in film px."""
    data = read(tiny_set)
    films = [sample for sample in data.samples if sample.split == "train"]
    return films, data.landmarks, np.stack([film.points.mean(axis=0) for film in films])


def cells(path):
    return list(csv.reader(path.read_text("utf-8").splitlines()))


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def long(path, films, landmarks, points, name=lambda film: film.id):
    rows = [
        (name(film), symbol, *point)
        for film, of_film in zip(films, points, strict=True)
        for symbol, point in zip(landmarks, of_film, strict=True)
    ]
    return write(path, [("film", "symbol", "x_px", "y_px"), *rows])


def test_a_line_a_point_and_a_line_a_film_are_scored_alike_whatever_a_film_is_called(train, tiny_set, tmp_path):
    films, landmarks, truth = train
    found = truth + np.where(np.arange(len(landmarks))[:, None] % 2, (3.0, 4.0), 0.0)
    expected = np.mean([film.mm_per_px * 5 for film in films]) * (len(landmarks) // 2) / len(landmarks)
    tables = [
        long(tmp_path / "by-id.csv", films, landmarks, found),
        long(tmp_path / "by-path.csv", films, landmarks, found, name=lambda film: film.path.name),
        long(tmp_path / "elsewhere.csv", films, landmarks, found, name=lambda film: f"C:\\scans\\{film.id}.tif"),
        write(
            tmp_path / "wide.csv",
            [("image", *(f"{symbol}_{axis}" for symbol in landmarks for axis in "xy"))]
            + [(film.path, *points.ravel()) for film, points in zip(films, found, strict=True)],
        ),
    ]
    for table in tables:
        figures, split = ceph.evaluate(predictions=table, data=tiny_set)
        assert (split, figures["n_points"]) == ("train", truth[..., 0].size)
        assert figures["mre_mm"] == pytest.approx(expected)
        assert figures["per_landmark"][landmarks[0]]["mre_mm"] == pytest.approx(0, abs=1e-12)


def test_what_is_not_scored_is_named(train, tiny_set, tmp_path, caplog):
    films, landmarks, truth = train
    table = long(tmp_path / "points.csv", films, landmarks, truth)
    rows = cells(table)
    rows = [row for row in rows if row[0] != films[0].id and row[1] != "Me"]
    rows.remove(next(row for row in rows if row[1] == "Go"))
    write(table, [*rows, ("stranger", "S", 1, 1), (films[1].id, "Wing", 1, 1)])
    figures, _ = ceph.evaluate(predictions=table, data=tiny_set)
    text = "\n".join(record.getMessage() for record in caplog.records)
    for part in (
        "films that the set does not have: stranger",
        "landmarks that the set does not have: Wing",
        f"films without points: {films[0].id}",
        "landmarks without points: Me",
        "landmarks without a point in some films: Go",
    ):
        assert part in text
    assert figures["n_images"] == len(films) - 1
    assert figures["per_landmark"]["Go"]["n"] == len(films) - 2


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda rows: [*rows, rows[1]], DataError, "stands twice"),
        (lambda rows: [*rows, [*rows[1][:2], "", "3"]], DataError, "has y_px, but not x_px"),
        (lambda rows: [rows[0], [*rows[1][:2], "100000", "3"]], DataError, "points.csv:2:1: .* outside the film, at x"),
        (lambda rows: [rows[0], ["nobody", *rows[1][1:]]], DataError, "no film of it is in the set"),
        (lambda rows: [rows[0], [rows[1][0], "wing", "3", "3"]], DataError, "no landmark of it is in the set"),
        (lambda rows: rows[:1], DataError, "holds no points"),
        (lambda rows: [*rows, ["", *rows[1][1:]]], DataError, "a line without a film"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_it(train, tiny_set, tmp_path, change, error, words):
    films, landmarks, truth = train
    table = long(tmp_path / "points.csv", films, landmarks, truth)
    write(table, change(cells(table)))
    with pytest.raises(error, match=words):
        ceph.evaluate(predictions=table, data=tiny_set)


def test_films_of_two_splits_want_one_to_be_named(tiny_set, tmp_path):
    data = read(tiny_set)
    table = long(tmp_path / "all.csv", data.samples, data.landmarks, [s.points.mean(axis=0) for s in data.samples])
    with pytest.raises(ConfigError, match="has films of test, train, validation"):
        ceph.evaluate(predictions=table, data=tiny_set)
    assert ceph.evaluate(predictions=table, data=tiny_set, split="test")[0]["mre_mm"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "words", [[], ["run", "--predictions", "points.csv"], ["--predictions", "points.csv"], ["--predictions", "no.csv"]]
)
def test_a_call_that_does_not_say_what_to_score_on_what_is_wrong(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *words]) == 2
    assert "error: " in capsys.readouterr().err


def test_a_table_stands_beside_a_run_film_by_film(train, tiny_set, tmp_path, capsys):
    films, landmarks, truth = train
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(from_values({"data": {"path": str(tiny_set)}, "plugins": {}}).dump())
    write_state(run, State("finished"))
    spacing = np.array([film.mm_per_px for film in films])
    errors = np.broadcast_to(10 * spacing[:, None], truth.shape[:2])
    ids = tuple(film.id for film in films)
    write_predictions(run, "train", Predictions(ids, landmarks, truth + np.array((6, 8)), errors, truth, errors))
    table = long(tmp_path / "theirs.csv", films, landmarks, truth + np.array((3, 4)))
    assert main(["compare", str(run), str(table)]) == 0
    out = capsys.readouterr().out
    assert "theirs against run" in out
    assert "seed 0 of run; theirs is a table of points" in out
    assert "-50.0" in out.partition("MRE")[2]
    write(table, cells(table)[:-1])
    assert main(["compare", str(run), str(table)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "left out 1 point that not every run or table has" in out
    assert "-50.0" in out
    again = long(tmp_path / "again.csv", films, landmarks, truth)
    assert main(["compare", str(table), str(again), "--data", str(tiny_set)]) == 0
    assert "-100.0" in capsys.readouterr().out
    assert main(["compare", str(run), str(table), "--set", "data.truth=senior"]) == 2
    assert "the truth of" in capsys.readouterr().err
    assert main(["compare", str(run), str(run), "--data", str(tiny_set)]) == 2


@pytest.mark.shared
@pytest.mark.parametrize(
    ("truth", "mre_mm", "sdr"), [("mean", 1.132, 87.3), ("senior", 1.695, 71.1), ("junior", 1.606, 70.6)]
)
def test_a_published_model_s_points_have_the_figures_that_are_known_of_them(truth, mre_mm, sdr):
    shared = shared_data()
    settings = ("data.mm_per_px=0.1", f"data.truth={truth}")
    anchor = shared / "anchors" / "delr_isbi2015_test1.csv"
    figures, split = ceph.evaluate(predictions=anchor, data=shared / "isbi2015_full", settings=settings)
    assert (split, figures["n_images"]) == ("test1", 128)
    assert figures["mre_mm"] == pytest.approx(mre_mm, abs=5e-4)
    assert figures["sdr_percent"]["2.0"] == pytest.approx(sdr, abs=0.05)
