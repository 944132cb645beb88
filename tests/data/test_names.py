"""Names of strangers: not UTF-8, markup, escape sequences, formulas, what addresses read otherwise."""

from __future__ import annotations

import csv
import io
import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from tests.data.small_sets import noise_film, write_csv

from ceph.cli.app import main
from ceph.data.formats.find import read
from ceph.data.formats.locate import Films
from ceph.data.formats.tables import header, parse_rows, write_rows
from ceph.data.names import ShownFormatter, bare, guarded, shown
from ceph.files import write_text
from ceph.report.console import PlainConsole
from ceph.run.report import report
from ceph.run.trained import load

STRANGE = os.fsdecode(b"f\xfc\x1b[31m.png")
ADDRESSES = "a+b & c#1 100%41;=?.png"


def test_what_cannot_be_printed_is_shown_as_in_addresses_and_every_other_letter_as_it_is():
    assert shown(STRANGE) == "f%FC%1B[31m.png"
    assert shown("x\u202e\ud800\n", keep="\n") == "x%E2%80%AE%ED%A0%80\n"
    for name in ("Aufnahme 3\u202fUhr", "\u4e2d\u6587", "\u0646\u200c\u0645", "a+b%41"):
        assert shown(name) == name


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1+1", "-S", "@SUM(A1)", "\uff1d1", "'=1", "''@x"])
def test_a_cell_that_a_spreadsheet_would_run_has_a_quote_before_it(cell):
    assert guarded(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-3.25", "+7", "1e-3", "", "S", "'S", "a=b", 5, -2.5, None])
def test_numbers_and_names_stay(cell):
    assert guarded(cell) == cell


@given(st.text())
def test_a_guarded_cell_is_read_back_equal(cell):
    assert bare(guarded(cell)) == cell


def test_a_table_is_read_back_equal_whatever_its_columns_and_cells_begin_with(tmp_path):
    columns, rows = ("film", "=S_x", "@m"), [("=cmd", "-3.5", "+x"), ("'=y", "2", "-")]
    write_rows(tmp_path / "t.csv", columns, rows)
    text = (tmp_path / "t.csv").read_text("utf-8")
    assert not any(cell[:1] in "=@" for row in csv.reader(io.StringIO(text)) for cell in row)
    found, lines = parse_rows(text, tmp_path / "t.csv")
    assert (found, header(text)) == (columns, columns)
    assert [tuple(line[column] for column in columns) for line in lines] == rows


def test_a_console_shows_markup_emoji_and_escape_sequences_as_they_are():
    stream = io.StringIO()
    console = PlainConsole(file=stream, width=100, force_terminal=True, color_system=None)
    table = Table(title="[/a]", caption=":x:")
    table.add_column("[/x] :smile:")
    table.add_row("[red]S[/] \x1b[31m")
    console.print(table)
    console.print("[/y] \x1b]0;title\x07")
    text = stream.getvalue()
    for name in ("[/a]", ":x:", "[/x] :smile:", "[red]S[/] %1B[31m", "[/y] %1B]0;title%07"):
        assert name in text
    assert "\x1b" not in text


def test_errors_and_warnings_hand_no_escape_sequence_to_a_terminal(capsys):
    assert main(["run", "--data", "no\x1b[31m"]) == 2
    assert "\x1b" not in (told := capsys.readouterr().err)
    assert "%1B" in told or "x1b" in told
    record = logging.LogRecord("ceph", logging.WARNING, "", 0, "%s\nnext", ("\x1b[2J",), None)
    assert ShownFormatter().format(record) == "%1B[2J\nnext"


def test_a_film_is_found_by_its_name_as_it_is_shown(tmp_path):
    film = noise_film(tmp_path / STRANGE)
    places = Films(tmp_path)
    assert places.find(STRANGE) == film
    assert places.find(shown(STRANGE)) == film


def test_a_text_with_half_a_character_is_written_all_the_same(tmp_path):
    write_text(tmp_path / "a.json", f'"{STRANGE[:2]}"')
    assert (tmp_path / "a.json").read_bytes() == b'"f\\udcfc"'


@pytest.mark.parametrize("to", ["labelstudio", "coco", "labelme", "cvat", "csv", "aariz"])
def test_films_with_any_name_are_converted_and_read_back(tmp_path, to):
    source = write_csv(tmp_path / "source")
    table = source / "points.csv"
    text = table.read_text("utf-8")
    for old, new in (("f0.png", "a+b & c#1 100%41=.png"), ("f1.png", "=cmd.png"), ("f3.png", "%2B.png")):
        (source / "films" / old).rename(source / "films" / new)
        text = text.replace(old, guarded(new))
    table.write_text(text, encoding="utf-8")
    assert main(["data", "convert", str(source), str(tmp_path / "out"), "--to", to]) == 0
    ids = {sample.id for sample in read(tmp_path / "out").samples}
    assert {"a+b & c#1 100%41=", "=cmd", "%2B"} <= ids


@pytest.mark.parametrize(
    "address", ["/data/local-files/?d=films/{}", "films/{}", "/data/upload/1/{}", "https://host/films/{}"]
)
def test_label_studio_addresses_that_nobody_quoted_are_read(tmp_path, address):
    film = noise_film(tmp_path / "films" / ADDRESSES)
    places = Films(tmp_path)
    from ceph.data.formats.labelstudio import _addresses, _is_film

    assert _is_film(address.format(ADDRESSES))
    assert film in [places.find(name) for name in _addresses(address.format(ADDRESSES))]


def test_a_set_with_strange_names_trains_is_scored_reported_and_predicted(tmp_path, capsys):
    source = write_csv(tmp_path / "films")
    table, bad = source / "points.csv", "=[/x]"
    (source / "films" / "f4.png").rename(source / "films" / STRANGE)
    (source / "films" / "f0.png").rename(source / "films" / "=[b].png")
    text = table.read_text("utf-8").replace("f4.png", shown(STRANGE)).replace("f0.png", "'=[b].png")
    table.write_text(text.replace("A_x", f"'{bad}_x").replace("A_y", f"'{bad}_y"), encoding="utf-8")
    folder = tmp_path / "run"
    settings = ["data.size=[64, 64]", "data.workers=0", "model.backbone=test_resnet", "model.weights=none"]
    settings += ["model.width=8", "train.epochs=1", "train.device=cpu", "train.precision=fp32", "evaluate.scales=[1]"]
    flags = [word for one in settings for word in ("--set", one)]
    assert main(["run", "--data", str(source), "--out", str(folder), *flags]) == 0
    assert bad in capsys.readouterr().out
    assert load(folder).evaluate("train")[1] == "train"
    with (folder / "predictions-train.csv").open(encoding="utf-8") as stream:
        assert "'=[b]" in {row["image_id"] for row in csv.DictReader(stream)}
    report(folder)
    page = (folder / "report.html").read_text("utf-8")
    assert "=[b]" in page
    out = tmp_path / "points.csv"
    assert (
        main(["predict", str(folder), str(source / "films"), "--out", str(out), "--overlays", str(tmp_path / "o")]) == 0
    )
    assert shown(STRANGE) in out.read_text("utf-8")
    assert len(list((tmp_path / "o").rglob("*.png"))) == 8
    assert main(["predict", str(folder), str(source / "films"), "--out", str(tmp_path / "p.json")]) == 0
    assert main(["predict", str(folder), str(source / "films" / STRANGE)]) == 0
    assert "\x1b" not in capsys.readouterr().out
