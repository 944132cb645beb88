"""`ceph data convert`: one call from a set to another format, and a plain word about what that loses."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.small_sets import noise_film, write_csv, write_isbi

from ceph.cli.app import main
from ceph.data.formats.find import read


@pytest.fixture
def source(tmp_path):
    return write_csv(tmp_path / "set")


def test_a_set_is_written_and_what_came_of_it_is_said(source, tmp_path, capsys):
    assert main(["data", "convert", str(source), str(tmp_path / "there"), "--to", "cvat"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("wrote 8 films of format csv as cvat into ")
    assert "ceph-films.csv there holds what cvat has no place for" in out
    assert read(tmp_path / "there").format == "cvat"


def test_what_is_lost_is_a_warning(source, tmp_path, capsys):
    call = ["data", "convert", str(source), str(tmp_path / "there"), "--to", "cldetection2023", "--truth", "senior"]
    assert main(call) == 0
    assert capsys.readouterr().err == "not kept: the 2 readers senior, junior: one is written, senior\n"


def test_spacing_format_and_landmarks_are_options(tmp_path, capsys):
    write_isbi(tmp_path / "set", {"TrainingData": 4})
    call = ["data", "convert", str(tmp_path / "set"), str(tmp_path / "there"), "--to", "coco"]
    assert main(call) == 2
    assert "data.mm_per_px: the mm per pixel of film 001" in capsys.readouterr().err
    assert main([*call, "--mm-per-px", "0.2", "--format", "isbi2015", "--landmarks", "S, Go"]) == 0
    data = read(tmp_path / "there")
    assert data.landmarks == ("S", "Go")
    assert {sample.mm_per_px for sample in data.samples} == {0.2}


def test_numbered_columns_get_their_names_here(tmp_path):
    noise_film(tmp_path / "set/f.png")
    (tmp_path / "set/scan.csv").write_text("1,2,3,4,filename\n10,20,30,40,f.png\n")
    call = ["data", "convert", str(tmp_path / "set"), str(tmp_path / "there"), "--to", "csv", "--mm-per-px", "0.1"]
    assert main(call) == 2
    assert main([*call, "--landmarks", "S,N"]) == 0
    assert read(tmp_path / "there").samples[0].points[0].tolist() == [[10, 20], [30, 40]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "cocoo"], "error: --to: unknown format 'cocoo'\n  hint: did you mean 'coco'?"),
        (
            ["--to", "coco", "--format", "cvta"],
            "error: data.format: unknown format 'cvta'\n  hint: did you mean 'cvat'?",
        ),
        (["--to", "coco", "--landmarks", "S,Nn"], "error: data.landmarks: this set has no landmark 'Nn'"),
        (["--to", "cldetection2023", "--truth", "Ann"], "error: data.truth: no reader 'Ann' in this set"),
        (["--to", "coco", "--plugin", "none"], "none"),
    ],
)
def test_a_wrong_call_is_told_and_writes_nothing(source, tmp_path, capsys, arguments, says):
    assert main(["data", "convert", str(source), str(tmp_path / "there"), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_a_plugins_format_is_read(tmp_path):
    plugin = Path(__file__).parents[2] / "examples" / "clinic_csv.py"
    if not plugin.is_file():
        pytest.skip("the example plugin is not there")
    for name in ("a", "b"):
        noise_film(tmp_path / f"set/{name}.png")
    rows = "a.png,P1,train,0.1,5,6\nb.png,P2,validation,0.1,7,8\n"
    (tmp_path / "set/films.csv").write_text(f"file,patient,split,mm_per_px,S_x,S_y\n{rows}")
    call = ["data", "convert", str(tmp_path / "set"), str(tmp_path / "there"), "--to", "coco", "--plugin", str(plugin)]
    assert main(call) == 0
    data = read(tmp_path / "there")
    assert [(s.id, s.group, s.split, s.spacing_source) for s in data.samples] == [
        ("a", "P1", "train", "clinic-csv"),
        ("b", "P2", "validation", "clinic-csv"),
    ]
    assert data.readers == ("clinic",)
