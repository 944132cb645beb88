"""Tables of points in workbooks, in files of other endings, and for films in a folder for each patient."""

from __future__ import annotations

import sys
import zipfile

import pytest
from tests.data.small_sets import noise_film
from tests.data.test_formats_strangers import LONG, WIDE, point

from ceph.data.formats import workbook
from ceph.data.formats.find import read
from ceph.errors import DataError

HEADINGS = ["film", "S_x", "S_y", "N_x", "N_y"]
ROWS = [HEADINGS, ["001.png", 1.5, 2, 3, 4.25], ["002.png", 5, 6]]


def write(folder, sheets, name="points.xlsx", films=("001", "002")):
    """A set of two films and a workbook: rows of cells by the title of their sheet."""
    openpyxl = pytest.importorskip("openpyxl", reason="needs the extra `xlsx`")
    for film in films:
        noise_film(folder / f"{film}.png")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(folder / name)
    return folder / name


def points(data):
    return [(point(data, film, "S"), point(data, film, "N")) for film in ("001", "002")]


RIGHT = [((1.5, 2), (3, 4.25)), ((5, 6), None)]


@pytest.mark.parametrize(
    "sheets",
    [
        {"Tabelle1": ROWS},
        {"notes": [["who", "when"], ["kim", "May"]], "points": ROWS},
        {"points": [[], [], *ROWS, [], [None, None]], "empty": []},
        {"a": ROWS[:2], "b": [HEADINGS, ROWS[2]]},
        {"points": [["Image", "S X", "S Y", "Nasion x", "Nasion y"], [1, *ROWS[1][1:]], [2, *ROWS[2][1:]]]},
        {"points": [[*HEADINGS, None], *ROWS[1:], ["", "", ""]]},
        {"long": [line.split(",") for line in LONG.splitlines()]},
        {"commas": [HEADINGS, ["001", "1,5", "2", "3", "4,25"], ["002", "5", "6"]]},
    ],
)
def test_the_sheets_of_a_workbook_are_read_as_they_were_meant(tmp_path, sheets):
    write(tmp_path, sheets)
    data = read(tmp_path, mm_per_px=0.1)
    assert (data.format, data.landmarks, points(data)) == ("csv", ("S", "N"), RIGHT)


def test_a_sheet_may_state_the_split(tmp_path):
    write(tmp_path, {"train": ROWS[:2], "validation": [HEADINGS, ROWS[2]]})
    assert {s.id: s.split for s in read(tmp_path, mm_per_px=0.1).samples} == {"001": "train", "002": "validation"}


def test_of_a_workbook_and_a_table_the_table_is_read(tmp_path, caplog):
    write(tmp_path, {"points": ROWS})
    (tmp_path / "points.csv").write_text(WIDE.replace("1.5", "7.5"))
    assert point(read(tmp_path, mm_per_px=0.1), "001", "S") == (7.5, 2)
    assert ".xlsx files that are not of the format csv" in caplog.text


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [HEADINGS, ["001.png", 1, 2, "=3*2", 4]],
            "points.xlsx (sheet points):2:4: is a formula whose value is not saved",
        ),
        ([HEADINGS, ["001.png", 1, "x", 3, 4]], "points.xlsx (sheet points):2:1: S_y must be a number, not 'x'"),
        ([HEADINGS, [], ["001.png", 1, 2, 3, 4, 5]], "points.xlsx (sheet points):3:1: has 6 columns, the first line 5"),
        ([HEADINGS, ["009.png", 1, 2, 3, 4]], "points.xlsx (sheet points):2:1: the film '009.png' is not in"),
        (
            [["who", "S_x", "S_y"], ["kim", 1, 2]],
            "points.xlsx (sheet points):1:1: must have one column with the film's",
        ),
    ],
)
def test_what_is_wrong_in_a_workbook_is_told_with_sheet_and_row(tmp_path, rows, says):
    write(tmp_path, {"points": rows})
    with pytest.raises(DataError) as error:
        read(tmp_path, mm_per_px=0.1)
    assert says in str(error.value)


def test_a_date_that_a_program_made_of_a_number_is_no_number(tmp_path):
    from datetime import date

    write(tmp_path, {"points": [HEADINGS, ["001.png", date(2026, 5, 3), 2, 3, 4]]})
    with pytest.raises(DataError, match="S_x must be a number, not '2026-05-03"):
        read(tmp_path, mm_per_px=0.1)


def replace_part(file, name, text):
    """Write a workbook anew with another text in one of its parts."""
    with zipfile.ZipFile(file) as book:
        parts = {part: book.read(part) for part in book.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as book:
        for part, content in {**parts, name: text}.items():
            book.writestr(part, content)


SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    '<dimension ref="A1:XFD1048576"/><sheetData>{}</sheetData></worksheet>'
)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b" " * (workbook.MAX_XML_BYTES + 1), "unpacks to 64 MB"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>', "defines entities"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x><x/>'.encode("utf-16"), "defines entities"),
        (SHEET.format('<row r="900000000"><c r="A900000000"><v>1</v></c></row>').encode(), "more than 40000 cells"),
        (
            SHEET.format("".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 400))).encode(),
            "more than 40000 cells",
        ),
        (b"<worksheet", "is no workbook that can be read"),
    ],
)
def test_a_workbook_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch, content, says):
    monkeypatch.setattr(workbook, "MAX_CELLS", 40_000)
    file = write(tmp_path, {"points": ROWS})
    replace_part(file, "xl/worksheets/sheet1.xml", content)
    with pytest.raises(DataError) as error:
        read(tmp_path, format="csv", mm_per_px=0.1)
    assert says in str(error.value)


def test_without_the_extra_a_workbook_is_told_what_to_do(tmp_path, monkeypatch):
    noise_film(tmp_path / "001.png")
    (tmp_path / "points.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert "points.xlsx: reading a workbook needs the extra `xlsx`: pip install 'ceph-trainer[xlsx]', or save" in str(
        error.value
    )


def test_a_workbook_of_another_kind_is_to_be_saved_as_a_table(tmp_path):
    noise_film(tmp_path / "001.png")
    (tmp_path / "points.ods").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"points\.ods is a workbook of a kind that is not read: save its sheet as CSV"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["points.tsv", "points.TXT"])
def test_a_table_of_text_may_have_another_ending(tmp_path, name):
    for film in ("001", "002"):
        noise_film(tmp_path / f"{film}.png")
    (tmp_path / name).write_text(WIDE.replace(",", "\t"), encoding="utf-16")
    assert points(read(tmp_path, mm_per_px=0.1)) == RIGHT


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("film,S_x,S_y\nP1/ceph.png,1,2\nP2/ceph.png,3,4\n", ["P1_ceph", "P2_ceph"]),
        ("patient,film,S_x,S_y\nP1,ceph.png,1,2\nP2,ceph,3,4\n", ["P1", "P2"]),
        ("film,S_x,S_y\nP1,1,2\np2,3,4\n", ["P1_ceph", "P2_ceph"]),
        ("film,group,S_x,S_y\nP1/ceph.png,a,1,2\nP2/ceph,b,3,4\n", ["a", "b"]),
    ],
)
def test_films_in_a_folder_for_each_patient(tmp_path, text, names):
    for patient in ("P1", "P2"):
        noise_film(tmp_path / patient / "ceph.png")
    (tmp_path / "points.csv").write_text(text)
    data = read(tmp_path, mm_per_px=0.1)
    found = {sample.id: sample for sample in data.samples}
    assert [point(data, film, "S") for film in ("P1_ceph", "P2_ceph")] == [(1, 2), (3, 4)]
    assert [found[film].group for film in ("P1_ceph", "P2_ceph")] == names


@pytest.mark.parametrize(
    ("films", "grouped"),
    [
        ([f"P{n}/{view}.png" for n in range(5) for view in ("a", "b")], True),
        ([f"P{n}/films/{view}.png" for n in range(5) for view in ("a", "b")], True),
        ([f"{split}/P{n}/{view}.png" for n in range(5) for split in ("train", "test") for view in "ab"], True),
        ([f"P{n}/{view}.png" for n in range(4) for view in ("a", "b")], False),
        ([f"P{n}/a.png" for n in range(6)], False),
        ([f"batch{n % 5}/{n}.png" for n in range(65)], False),
        (["lies loose.png", *(f"P{n}/{view}.png" for n in range(5) for view in ("a", "b"))], False),
    ],
)
def test_the_films_of_a_patient_s_folder_are_one_group(tmp_path, films, grouped):
    for film in films:
        noise_film(tmp_path / film)
    (tmp_path / "points.csv").write_text("film,S_x,S_y\n" + "".join(f"{film},1,2\n" for film in films))
    samples = read(tmp_path, mm_per_px=0.1).samples
    assert all((sample.group != sample.id) == grouped for sample in samples)
    assert len({sample.group for sample in samples}) == (5 if grouped else len(films))
    if not films[0].startswith("train"):
        assert len({(sample.group, sample.split) for sample in samples}) == len({sample.group for sample in samples})


def test_a_film_that_two_folders_have_is_refused_where_nothing_says_whose_it_is(tmp_path):
    for patient in ("P1", "P2"):
        noise_film(tmp_path / patient / "ceph.png")
    (tmp_path / "points.csv").write_text("film,S_x,S_y\nceph.png,1,2\n")
    with pytest.raises(DataError, match="both fit the name 'ceph.png'"):
        read(tmp_path, mm_per_px=0.1)
