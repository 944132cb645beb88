"""YAML 1.2 with places: what words mean, where values stand, and what no text gets past."""

from __future__ import annotations

import pytest

from ceph.config.source import MAX_BYTES, Source, parse, parse_bytes
from ceph.config.words import scalar, show


def problem(source: Source) -> str:
    assert len(source.problems) == 1
    place = source.problems[0].place
    assert place is not None
    return f"{place.line}:{place.column}: {source.problems[0].key}: {source.problems[0].what}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e4", 1e4),
        (".5", 0.5),
        ("010", 10),
        ("0o10", 8),
        ("0x10", 16),
        ("+3", 3),
        ("No", "No"),
        ("On", "On"),
        ("yes", "yes"),
        ("true", True),
        ("Null", None),
        ("~", None),
        ("", None),
        ("1_000", "1_000"),
        ("12:30:00", "12:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("0b1", "0b1"),
        ("nan", "nan"),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_keys_and_values_know_their_places():
    root = parse("# top\ntrain:\n  lr: 1e-4\ndata: {size: [512, 416]}\n", "c.yaml").root
    lr, width = root.at("train", "lr"), root.at("data", "size", 1)
    assert (str(lr.key_place), str(lr.place), lr.place.text, lr.origin) == (
        "c.yaml:3:3",
        "c.yaml:3:7",
        "  lr: 1e-4",
        "c.yaml:3",
    )
    assert (str(width.place), width.value) == ("c.yaml:4:20", 416)
    assert root.plain() == {"train": {"lr": 1e-4}, "data": {"size": [512, 416]}}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\n\n", "null", "\ufeff"])
def test_an_empty_text_is_an_empty_mapping(text):
    source = parse_bytes(text.encode(), "c.yaml")
    assert (source.root.plain(), source.problems, source.broken) == ({}, (), False)


def test_quotes_and_block_texts_are_texts():
    root = parse("a: '8'\nb: \"true\"\nc: |\n  1\nd: !!str 5\ne: ! 6\n", "c").root
    assert root.plain() == {"a": "8", "b": "true", "c": "1\n", "d": "5", "e": "6"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1: a: given twice; first in line 1"),
        ("t:\n  a: {x: 1, x: 1}\n", "2:13: t.a.x: given twice; first in line 2"),
        ("1: x\n", "1:1: : a key must be a name, not 1"),
        ("t:\n  true: x\n", "2:3: t: a key must be a name, not true"),
        ("? [a]\n: x\n", "1:3: : a key must be a name"),
        ("a: .nan\n", "1:4: a: must be a finite number, not .nan"),
        ("a: [1, -.inf]\n", "1:8: a[1]: must be a finite number, not -.inf"),
        ("a: 1e400\n", "1:4: a: must be a finite number; 1e400 is too large"),
        ("a: " + "9" * 40, "1:4: a: is a number of more than 20 digits"),
        ("a: !foo x\n", "1:4: a: the tag !foo is not known here"),
        (
            "a: !!python/object:os.system x\n",
            "1:4: a: the tag tag:yaml.org,2002:python/object:os.system is not known here",
        ),
        ("a: !!int x\n", "1:4: a: is no int, as its tag !!int says"),
        ("a: !!set {x: 1}\n", "1:4: a: the tag tag:yaml.org,2002:set is not known here"),
        ('a: "\\ud800"\n', "1:4: a: holds half a character (a lone surrogate)"),
    ],
)
def test_a_wrong_value_is_a_problem_in_its_place_and_the_rest_is_read(text, expected):
    source = parse(text + "\nzz: 1\n", "c.yaml")
    assert problem(source) == expected
    assert source.root.at("zz").value == 1
    assert not source.broken


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\nb: 2\n", "2:2: : not YAML: while parsing a flow sequence; expected ',' or ']', but got ':'"),
        ("a: 1\n b: 2\n", "2:3: : not YAML: mapping values are not allowed here"),
        ("- 1\n", "1:1: : the file must hold keys and values (`train:` and below it `  epochs: 60`)"),
        ("text\n", "1:1: : the file must hold keys and values (`train:` and below it `  epochs: 60`)"),
        ("a: 1\n---\nb: 2\n", "2:1: : a second document begins here; a config is one"),
        ("a: *x\n", "1:4: : the alias *x has no anchor before it"),
        ("a: &x [*x]\n", "1:8: : the alias *x stands inside its own anchor"),
        ("ab: \0\n", "1:5: : holds a character that no text may hold: U+0000"),
        ("a: \x1b[31m\n", "1:4: : holds a character that no text may hold: U+001B"),
        ("a: " + "[" * 30 + "]" * 30, "1:28: : is nested deeper than 24 levels"),
    ],
)
def test_an_unreadable_text_is_one_problem(text, expected):
    source = parse(text, "c.yaml")
    assert problem(source) == expected
    assert source.broken


def test_a_bomb_of_aliases_stops():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    source = parse("\n".join(lines), "bomb")
    assert "aliases make this more than 20000 values" in problem(source)


def test_an_alias_is_the_value_of_its_anchor():
    root = parse("a: &x {k: 1}\nb: *x\n", "c").root
    assert root.plain() == {"a": {"k": 1}, "b": {"k": 1}}
    assert str(root.at("b").place) == "c:2:4"


def test_bytes_that_are_no_text_are_told_with_their_line():
    assert problem(parse_bytes(b"a: 1\nb: \xff\n", "c")) == "2:4: : the file is not UTF-8 text (byte 0xff)"
    assert problem(parse_bytes("a: 1".encode("utf-16"), "c")) == "1:1: : the file is not UTF-8 text (byte 0xff)"
    assert problem(parse_bytes(b"#" * (MAX_BYTES + 1), "c")) == "1:1: : the file is larger than 1 MB: this is no config"


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert parse_bytes(b"\xef\xbb\xbfa: 1\n", "c").root.plain() == {"a": 1}


def test_a_setting_is_placed_in_the_whole_argument():
    source = parse("[1, .inf]", "--set", before="data.size=", at=("data", "size"))
    place = source.problems[0].place
    assert (str(place), place.text, source.problems[0].key) == ("--set:1:15", "data.size=[1, .inf]", "data.size[1]")


def test_lines_are_shown_without_control_characters_and_cropped():
    source = parse("a: !x '" + "b" * 500 + "\u200b'\n", "c")
    assert len(source.problems[0].place.text) == 160
    assert "\t" not in parse("a: !x 1\t# c\n", "c").problems[0].place.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("x", "'x'"),
        ({"a": 1}, "a mapping"),
        ([1, "a"], "[1, 'a']"),
        ("y" * 99, "'" + "y" * 55 + "...'"),
    ],
)
def test_values_are_shown_as_they_would_be_written(value, text):
    assert show(value) == text
