"""Strict JSON: what the standard parser lets pass is refused, and errors name file and field."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceph.data.strict_json import MAX_DEPTH, Field, depth, parse_json, read_json
from ceph.errors import DataError

FILE = Path("film.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"x": NaN}', "NaN is not a number"),
        ('{"x": -Infinity}', "-Infinity is not a number"),
        ('{"x": 1e400}', "too large"),
        ('{"x": %s}' % ("9" * 5000), "too large"),
        ('{"x": 1, "x": 2}', "'x' stands twice"),
        ("[" * 100_000, "deeper than 64"),
        ('{"a":' * 100_000, "deeper than 64"),
        ('{"x": 1,}', "film.json:1:9: is not valid JSON"),
        ("", "film.json:1:1: is not valid JSON"),
    ],
)
def test_refuses_what_the_standard_parser_accepts_or_dies_of(text, says):
    with pytest.raises(DataError, match=r"film\.json") as error:
        parse_json(text, FILE)
    assert says in str(error.value)


def test_shows_the_line_and_column_of_a_fault():
    with pytest.raises(DataError) as error:
        parse_json('{\n  "x": 1\n  "y": 2\n}', FILE)
    assert str(error.value).splitlines() == [
        "film.json:3:3: is not valid JSON: Expecting ',' delimiter",
        '    3 |   "y": 2',
        "      |   ^",
    ]


def test_depth_ignores_brackets_inside_strings_and_is_linear_in_hostile_ones():
    assert depth('{"[[[": [1, "\\"]]]", [2]]}') == 3
    assert parse_json(json.dumps(["[" * 1000] * 3), FILE) == ["[" * 1000] * 3
    start = time.process_time()
    depth('"' + '\\"' * 500_000)
    depth('"[' * 500_000)
    assert time.process_time() - start < 2


def test_the_deepest_allowed_nesting_is_read():
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, FILE) is not None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
def test_reads_all_valid_json_as_the_standard_parser_does(value):
    assert parse_json(json.dumps(value), FILE) == json.loads(json.dumps(value))


@given(st.text(alphabet='{}[]",:\\0e9.-+ntfalsru N', max_size=40))
def test_arbitrary_text_raises_nothing_but_data_errors(text):
    with contextlib.suppress(DataError):
        parse_json(text, FILE)


def test_a_field_names_itself_in_errors():
    root = Field({"landmarks": [{"value": {"x": "12"}}]}, FILE)
    with pytest.raises(DataError, match=r"film.json: landmarks\[0\].value.x: must be a number, not '12'"):
        root["landmarks"].items()[0]["value"]["x"].number()
    with pytest.raises(DataError, match=r"film.json: landmarks\[0\]: 'symbol' is missing"):
        root["landmarks"].items()[0]["symbol"]
    with pytest.raises(DataError, match=r"film\.json: the file: must be a list, not an object"):
        root.items()
    with pytest.raises(DataError, match="must be a number, not True"):
        Field(True, FILE, "x").number()


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'\xef\xbb\xbf{"x":\r\n 1}\r\n')
    assert read_json(file)["x"].number() == 1.0
