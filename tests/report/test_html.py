"""report.html: one file that needs no network, shows what the run was, and lets no name become HTML."""

from __future__ import annotations

import logging
from html.parser import HTMLParser

import numpy as np
import pytest
from tests.report.folders import IDS, films_of, write_run

import ceph.run.report
from ceph.report.findings import Films
from ceph.report.html import render
from ceph.report.record import read_record
from ceph.run.report import report
from ceph.run.train import train

VOID = {"meta", "image", "path", "circle", "line"}


class Page(HTMLParser):
    """The tags, attributes and text of a page, and whether its tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open, self.crossed = set(), [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.crossed.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words).replace("\u00a0", " ")


def require_safe(text):
    page = Page(text)
    assert (page.open, page.crossed) == ([], [])
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "link", "base", "form", "i", "b"}
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href", "action"):
            assert value.startswith(("#", "data:image/jpeg;base64,"))
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes
    assert "@import" not in text
    assert "url(" not in text
    return page


def test_a_finished_run_has_its_report(trained_once):
    text = (trained_once / "report.html").read_text("utf-8")
    page = require_safe(text)
    for part in ("validation", "Radial error", "By landmark", "Machines", "Worst films", "hard-films.csv", "Versions"):
        assert part in page.text
    assert "Sizes drawn" in page.text
    assert "Weight of each landmark in the loss" in page.text
    assert "Answered by hard-mining, weighted-loss." in page.text
    assert text.count('<svg class="film"') >= 2
    assert len(text) < 1e6


def test_a_test_split_that_was_scored_after_the_run_is_in_the_page(trained_once):
    text = (trained_once / "report.html").read_text("utf-8")
    assert 'id="split-2"' in text
    assert "test was opened" in require_safe(text).text


def test_the_page_is_the_same_when_it_is_written_anew(real_run):
    before = (real_run / "report.html").read_text("utf-8")
    assert report(real_run) == [real_run / "report.html"]
    assert (real_run / "report.html").read_text("utf-8") == before


def test_the_model_stands_beside_the_readers(tmp_path):
    page = require_safe(render(read_record(write_run(tmp_path / "r")), films_of(tmp_path / "films")))
    assert "8 films, 24 points: the mean radial error is 2.25 mm" in page.text
    assert "The readers of these films are 2.00 mm apart on average" in page.text
    assert "each is 1.00 mm from their mean" in page.text
    assert "Error against disagreement" in page.text
    assert "How much of it is the readers'" in page.text
    assert "of the points on which the readers are" not in page.text, "none of these readers are 4 mm apart"
    assert "ICC x, y" in page.text


def test_names_from_files_never_become_html(tmp_path):
    bad = "<script>alert(1)</script>"
    image = '"><img src=x onerror=alert(1)>'
    ids, landmarks, plugins = (bad, *IDS[:7]), (image, "N", "'><b>"), (f"{bad}x", "<i>")
    run = write_run(
        tmp_path / "r",
        ids=ids,
        landmarks=landmarks,
        plugins=plugins,
        log=(f"INFO {bad}x: {image}", f"INFO <i>: {bad}", "INFO done: x"),
        splits=("validation", "<img src=y onerror=alert(2)>"),
        started=bad,
    )
    (run / "<b>.csv").write_text(f"{bad},{bad}\n{bad},{bad}\n")
    (run / "weights.csv").write_text(f"epoch,{bad}\n1,2\n2,3\n")
    (run / "metrics.json").write_text(f'{{"{bad}": ')
    splits = ("validation", "<img src=y onerror=alert(2)>")
    films = films_of(tmp_path / "films", ids=ids, landmarks=landmarks, splits=splits)
    page = require_safe(render(read_record(run), films))
    for name in (bad, image, "<i>", "<b>.csv"):
        assert name in page.text
    page = require_safe(render(read_record(run), Films(missing=image)))
    assert image in page.text


def test_without_the_films_the_page_says_so_and_shows_the_rest(tmp_path):
    text = render(read_record(write_run(tmp_path / "r")), Films(missing="films: is no folder"))
    page = require_safe(text)
    assert "films: is no folder" in page.text
    assert '<svg class="film"' not in text
    assert "2.25 mm" in page.text


def test_a_film_that_is_gone_is_named_and_the_others_are_drawn(tmp_path):
    films = films_of(tmp_path / "films")
    films.samples["validation", "film-7"].path.unlink()
    text = render(read_record(write_run(tmp_path / "r")), films)
    assert text.count('<svg class="film"') == 5
    assert "7.png: cannot be opened" in Page(text).text


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    record = read_record(write_run(tmp_path / "r", splits=(), epochs=0))
    page = require_safe(render(record, Films()))
    assert "Nothing is scored yet" in page.text
    assert "No epoch is over yet" in page.text


def test_curves_of_a_plugin_are_drawn_and_its_other_tables_shown(tmp_path):
    run = write_run(tmp_path / "r")
    (run / "weights.csv").write_text("epoch,S,N\n1,0.5,1.5\n2,0.6,1.4\n")
    (run / "films.csv").write_text("film,times\n" + "".join(f"f{i},{i}\n" for i in range(30)))
    page = require_safe(render(read_record(run), films_of(tmp_path / "films")))
    assert "weights.csv" in page.text
    assert "hard-mining figure" in page.text
    assert "f11" in page.text
    assert "f12" not in page.text
    assert "the first 12 of 30 rows" in page.text


@pytest.mark.parametrize("content", ["[]", '{"command": {}, "versions": [], "plugins": {"a": 3}, "git": "x"}', "{}"])
def test_an_environment_of_another_shape_does_not_break_the_page(tmp_path, content):
    run = write_run(tmp_path / "r")
    (run / "environment.json").write_text(content)
    (run / "metrics.json").write_text('{"validation": {"interval_95": {"mre_mm": "?"}}}')
    (run / "metrics.jsonl").write_text('{"epoch": "?", "lr": "abc", "validation": []}\n{}\n')
    require_safe(render(read_record(run), films_of(tmp_path / "films")))


def test_points_far_off_the_film_and_unknown_truth_are_drawn(tmp_path):
    run = write_run(tmp_path / "r", ids=("a",), landmarks=("S", "N", "Go"))
    rows = ["a,S,-400,9000,0.1,20,30,4000", "a,N,50,60,0.5,,,", "a,Go,50,61,0.5,50,60,0.5"]
    (run / "predictions-validation.csv").write_text(
        "image_id,symbol,x_px,y_px,score,true_x_px,true_y_px,error_mm\n" + "\n".join(rows) + "\n"
    )
    text = render(read_record(run), films_of(tmp_path / "films", ids=("a",)))
    require_safe(text)
    assert text.count('<svg class="film"') == 1


def test_a_fault_in_the_report_never_fails_the_run(tmp_path, tiny, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr(ceph.run.report, "write_html", fail)
    with caplog.at_level(logging.WARNING, "ceph"):
        result = train(tiny(train={"epochs": 1}), out=tmp_path / "r")
    assert np.isfinite(result.metrics["mre_mm"])
    assert "report.html was not written (RuntimeError: no ink)" in caplog.text
