"""`ceph data check`: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
from PIL import Image

from ceph.cli.app import main


@pytest.fixture
def films(tiny_set, tmp_path):
    """A copy of the tiny set that a test may break."""
    return shutil.copytree(tiny_set, tmp_path / "films")


def film_files(folder, part="train"):
    return sorted((folder / part / "Cephalograms").iterdir())


def marks(folder, part, film, reader="Senior"):
    return folder / part / "Annotations" / "Cephalometric Landmarks" / f"{reader} Orthodontists" / f"{film}.json"


def check(folder, *words):
    return main(["data", "check", str(folder), *words])


def test_a_good_set_ends_with_0_and_shows_what_it_holds(tiny_set, capsys):
    assert check(tiny_set) == 0
    out = capsys.readouterr().out
    assert f"{tiny_set}: aariz, 16 films, 29 landmarks, readers: senior, junior" in out
    for word in ("split", "machine", "synthetic 100", "distance between the readers, mm", "Pog`", "habit x, y"):
        assert word in out
    assert "errors" not in out
    assert "16 films are too few to tell which landmarks are out of place (at least 30)" in out


def test_a_film_in_two_splits_ends_with_1_also_where_it_was_saved_anew(films, capsys, tmp_path):
    source, target = film_files(films)[0], film_files(films, "test")[0]
    with Image.open(source) as image:
        image.convert("L").resize((image.width // 2, image.height // 2)).point(lambda v: min(v + 30, 255)).save(target)
    # The points of the test film now lie outside its smaller picture, in part.
    assert check(films, "--json", str(tmp_path / "check.json")) == 1
    out = capsys.readouterr().out
    assert (
        f"{source.stem} (train) and {target.stem} (test) are one film: what is learned in train is known in test" in out
    )
    assert "outside its film, and left out: " in out
    found = json.loads((tmp_path / "check.json").read_text("utf-8"))
    copies = [f for f in found["findings"] if f["kind"] == "copy"]
    assert [(f["films"], f["level"]) for f in copies] == [([source.stem, target.stem], "error")]
    outside = [f for f in found["findings"] if f["kind"] == "outside"]
    impossible = [f for f in found["findings"] if f["kind"] == "impossible"]
    assert "most points lie outside the film in 1 of" in impossible[0]["text"]
    assert found["errors"] == len(outside) + len(impossible) + 1


def test_the_file_holds_what_was_printed_and_more(tiny_set, tmp_path, capsys):
    assert check(tiny_set, "--json", str(tmp_path / "check.json")) == 0
    found = json.loads((tmp_path / "check.json").read_text("utf-8"))
    assert found["format"] == "aariz"
    assert found["counts"]["films"] == 16
    assert sum(kind["films"] for kind in found["counts"]["kinds"]) == 16
    assert {row["landmark"] for row in found["disagreement"]} == set(found["landmarks"])
    assert found["errors"] == 0
    assert found["warnings"] == len(found["findings"])
    assert set(found["findings"][0]) == {"kind", "level", "text", "films", "landmarks", "mm"}
    assert list(tmp_path.iterdir()) == [tmp_path / "check.json"]


def test_a_film_that_is_cut_off_is_named_and_the_others_are_checked(films, capsys):
    film = film_files(films)[1]
    film.write_bytes(film.read_bytes()[:-2000])
    assert check(films) == 1
    out = capsys.readouterr().out
    assert f"{film}: is damaged or cut off" in out
    assert "errors: 1" in out
    assert "16 films" in out


def test_files_that_are_no_set_are_named_all_at_once(films, capsys, tmp_path):
    film, other = (file.stem for file in film_files(films)[:2])
    marks(films, "train", film).write_text("{", encoding="utf-8")
    marks(films, "train", other, "Junior").unlink()
    assert check(films, "--json", str(tmp_path / "check.json")) == 1
    out = capsys.readouterr().out
    assert f"{film}.json" in out
    assert f"{other}.json" in out
    found = json.loads((tmp_path / "check.json").read_text("utf-8"))
    assert [f["kind"] for f in found["findings"]] == ["unreadable", "unreadable"]
    assert found["format"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-folder"], "no-such-folder' cannot be opened"),
        (["."], "is no data set of a known format"),
        (["{set}", "--json", "no-folder/check.json"], "cannot write no-folder/check.json"),
        (["{set}", "--set", "data.format=isbi2015"], "is not in the format 'isbi2015'"),
        (["{set}", "--set", "data.landmarks=[S,NN]"], "this set has no landmark 'NN'"),
    ],
    ids=["missing", "no set", "json", "format", "landmark"],
)
def test_a_wrong_call_ends_with_2(words, message, tiny_set, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", *(word.format(set=tiny_set) for word in words)]) == 2
    assert message in capsys.readouterr().err


def test_landmarks_and_spacing_are_those_of_the_config(tiny_set, tmp_path, capsys):
    assert check(tiny_set, "--set", "data.landmarks=[S,N]", "--set", "data.mm_per_px=0.02") == 1
    out = capsys.readouterr().out
    assert "2 landmarks" in out
    assert "the mm per pixel are wrong" in out


def test_a_run_tells_of_a_film_that_is_in_both_its_splits_and_looks_at_no_test_film(films, tiny, caplog, monkeypatch):
    from ceph.run import prepare as run

    source, again = film_files(films)[0], film_files(films, "valid")[0]
    again.write_bytes(source.read_bytes())
    seen = []
    digests = run.make_films.__globals__["digests"]
    monkeypatch.setitem(run.make_films.__globals__, "digests", lambda paths: seen.extend(paths) or digests(paths))
    with caplog.at_level(logging.WARNING, "ceph"):
        run.prepare(run.as_resolved(tiny(data={"path": str(films)})))
    assert f"{source.stem} (train), {again.stem} (validation) are one film, byte for byte" in caplog.text
    assert {path.parents[1].name for path in seen} == {"train", "valid"}


def test_a_run_and_an_evaluation_warn_of_a_spacing_with_which_heads_are_too_small(tiny, tmp_path, caplog):
    import ceph

    wrong = "mm in the median film, in heads 45 to 100: the mm per pixel are wrong (ceph data check tells more)"
    ceph.train(tiny(data={"mm_per_px": 0.25}, train={"epochs": 1}), out=tmp_path / "run")
    assert wrong in (tmp_path / "run" / "log.txt").read_text("utf-8")
    assert caplog.text.count(wrong) == 2  # as it begins, and beside the figures at its end
    caplog.clear()
    ceph.load(tmp_path / "run").evaluate()
    assert caplog.text.count(wrong) == 1
    caplog.clear()
    ceph.load(tmp_path / "run", settings=["data.mm_per_px=null"]).evaluate()
    assert wrong not in caplog.text
