"""A set trains where its points can be right and each split has some; landmarks that nothing taught are called so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ceph.data.formats.aariz import FILMS, MARKS
from ceph.errors import DataError
from ceph.run.report import report
from ceph.run.train import check, train
from ceph.run.trained import load


@pytest.fixture
def films(tiny_set, tmp_path):
    """A copy of the tiny set, to be changed."""
    return Path(shutil.copytree(tiny_set, tmp_path / "films"))


def change(folder, part, how):
    """Let `how` change the points of every annotation in a part, a dict {x, y} each; None takes the point out."""
    for file in (folder / part / MARKS).rglob("*.json"):
        content = json.loads(file.read_text("utf-8"))
        marks = [{**mark, "value": how(mark["symbol"], mark["value"])} for mark in content["landmarks"]]
        content["landmarks"] = [mark for mark in marks if mark["value"]]
        file.write_text(json.dumps(content), encoding="utf-8")


def resized(_symbol, value):
    return {"x": value["x"] * 2, "y": value["y"] * 2}


def test_points_of_films_that_were_resized_are_refused_unless_told_and_an_evaluation_warns(
    tiny, films, tmp_path, caplog
):
    config = tiny(data={"path": str(films)}, train={"epochs": 1})
    train(config, out=tmp_path / "run")
    change(films, "train", resized)
    change(films, "valid", resized)
    with pytest.raises(DataError) as caught:
        check(config)
    told = str(caught.value)
    assert "most points lie outside the film in" in told
    assert str(films / "train" / FILMS) in told
    assert "scale the points" in told
    assert "data.doubtful_points=train" in told
    check(tiny(data={"path": str(films), "doubtful_points": "train"}))
    caplog.clear()
    load(tmp_path / "run").evaluate("validation", films)
    assert any("most points lie outside the film" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(("part", "split"), [("train", "train"), ("valid", "validation")])
def test_a_split_in_which_no_film_has_a_point_is_an_error(tiny, films, part, split):
    change(films, part, lambda *_: None)
    with pytest.raises(DataError, match=f"films of {split} has a marked landmark"):
        check(tiny(data={"path": str(films)}))


def test_a_reader_who_marked_no_validation_film_makes_no_truth(tiny, films):
    reader = next(path for path in sorted((films / "valid" / MARKS).iterdir()) if "Senior" in path.name)
    for file in reader.glob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "landmarks": []}), encoding="utf-8")
    with pytest.raises(DataError, match="of validation has a marked landmark by senior"):
        check(tiny(data={"path": str(films), "truth": "senior"}))
    check(tiny(data={"path": str(films)}))


def test_few_validation_films_are_a_warning(tiny, films, caplog):
    check(tiny(data={"path": str(films)}))
    (few,) = [record.getMessage() for record in caplog.records if "too few to choose" in record.getMessage()]
    assert few.startswith("2 validation films with points")


def test_a_landmark_that_no_training_film_has_is_called_so_in_training_prediction_evaluation_and_report(
    tiny, films, tmp_path, caplog
):
    change(films, "train", lambda symbol, value: None if symbol in ("Go", "A") else value)

    def said():
        found = [record.getMessage() for record in caplog.records if "did not learn" in record.getMessage()]
        caplog.clear()
        return found

    folder = train(tiny(data={"path": str(films)}, train={"epochs": 1}), out=tmp_path / "run").folder
    first, *_ = said()
    assert first.startswith("A, Go: marked in no training film")
    trained = load(folder)
    assert said() == [first]
    trained.evaluate("validation")
    report(folder)
    assert "did not learn where they are: A, Go." in (folder / "report.html").read_text("utf-8")
