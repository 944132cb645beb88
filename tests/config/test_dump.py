"""A dumped config reads back to the same config, says where every value came from, and stands beside its files."""

from __future__ import annotations

import shutil
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.config.fakes import OHKM, install

from ceph.config.dump import dump_yaml, flow, word
from ceph.config.load import resolve
from ceph.config.source import parse

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, PLAIN, max_size=4))
@example(
    {
        "a": "1e-4",
        "b": "true",
        "c": "- x",
        "d": "a: b",
        "e": " # c",
        "f": "",
        "g": "\u2028\x85\ufeff",
        "h": "😀",
        "i": "...",
    }
)
def test_any_plain_values_survive(values):
    source = parse(dump_yaml(values, {}), "dump")
    assert source.problems == ()
    assert source.root.plain() == values


@pytest.mark.parametrize("text", ["hrnet_w32", "/data/my films/x-1", "./a.py", "cross-entropy"])
def test_simple_words_need_no_quotes(text):
    assert word(text) == text


@pytest.mark.parametrize("text", ["null", "true", "1", ".5", ".nan", "a: b", "a #b", "-x", "x ", "", "it's", "9" * 30])
def test_words_that_would_mean_something_else_are_quoted(text):
    assert word(text).startswith('"')


def test_small_numbers_stay_numbers():
    assert [flow(1e-5), flow(1.0), flow(1e300), flow(True)] == ["1e-05", "1.0", "1e+300", "true"]


def test_a_resolved_config_reads_back_to_the_same(here, monkeypatch):
    install(here / "site", monkeypatch, name="ohkm")
    (here / "films").mkdir()
    first = resolve(
        preset="base",
        plugins=["ohkm"],
        data=here / "films",
        settings=["train.lr=1e-5", "data.landmarks=[A, 'No', '1']", "plugins.ohkm.table={A: 2, '`Pn': 0.5, '7': 1}"],
    )
    (here / "dumped.yaml").write_text(first.dump())
    second = resolve(here / "dumped.yaml")
    assert second.config == first.config
    assert set(second.provenance) == set(first.provenance)


def test_every_leaf_says_where_it_came_from(here):
    (here / "ceph.yaml").write_text("extends: quick\ntrain:\n  lr: 1e-4\n")
    lines = resolve(settings=["train.epochs=2"]).dump().splitlines()
    sections = [f"{section}:" for section in ("data", "model", "target", "loss", "train", "evaluate", "plugins")]
    assert all("  # " in line for line in lines if line not in sections)
    text = {" ".join(line.split()) for line in lines}
    assert {
        "lr: 0.0001 # ceph.yaml:3",
        "epochs: 2 # --set",
        "weights: offline # preset quick",
        "width: 64 # default",
    } <= text


def test_files_move_with_the_config(here):
    (here / "my_ohkm.py").write_text(OHKM)
    run = here / "run"
    run.mkdir()
    shutil.copy(here / "my_ohkm.py", run / "copy.py")
    first = resolve(plugins=["./my_ohkm.py"], settings=["plugins.my-ohkm.keep=2"])
    assert f"from: {here}/my_ohkm.py" in first.dump()
    (run / "config.yaml").write_text(first.dump({"my-ohkm": "./copy.py"}))
    second = resolve(run / "config.yaml")
    assert second.plugins["my-ohkm"].source == run / "copy.py"
    assert second.config.plugins["my-ohkm"]["keep"] == 2
    assert second.plugins["my-ohkm"].sha256 == first.plugins["my-ohkm"].sha256


def test_comments_cannot_break_out_of_their_line():
    text = dump_yaml({"a": 1}, {"a": f"odd{string.whitespace}name\x00: x\ny: 2"})
    assert parse(text, "d").root.plain() == {"a": 1}
