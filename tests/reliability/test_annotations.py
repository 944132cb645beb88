"""Rows 11 and 12 of docs/reliability.md: annotations and configs that are broken, hostile or suspicious."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.small_sets import noise_film, write_aariz, write_isbi
from tests.reliability.processes import tries

from ceph.config.load import from_values, resolve
from ceph.data.formats import aariz, isbi2015
from ceph.data.formats.find import read
from ceph.data.strict_json import parse_json
from ceph.errors import CephError, ConfigError, DataError

SIZE = (500, 400)  # H, W
SUSPICIOUS = {"percent": "percent of the film", "fractions": "fractions of the film", "swapped": "x and y look swapped"}


PLACES = {"N": (260, 120), "S": (160, 130), "Or": (250, 180), "A": (280, 250), "B": (270, 330), "Go": (150, 300)}
PLACES |= {"Pog": (265, 365), "Gn": (262, 380), "Me": (250, 390)}


def face(landmarks) -> dict[str, tuple[float, float]]:
    """Points [px] of an upright head, of which those without a place of their own lie about in it."""
    return {s: tuple(map(float, PLACES.get(s, (200 + 4 * k, 150 + 5 * k)))) for k, s in enumerate(sorted(landmarks))}


class JsonMarks:
    """The senior's annotation of one film in the Aariz layout."""

    landmarks = aariz.LANDMARKS

    def __init__(self, folder):
        self.root = write_aariz(folder, {"train": 1})
        noise_film(self.root / "train" / aariz.FILMS / "train000.png", 0, SIZE)
        self.file = self.root / "train" / aariz.MARKS / aariz.READERS["senior"] / "train000.json"
        self.plain(face(self.landmarks), file=self.file.parents[1] / aariz.READERS["junior"] / "train000.json")

    def plain(self, points, file=None) -> None:
        listed = [{"symbol": s, "value": {"x": x, "y": y}} for s, (x, y) in points.items()]
        (file or self.file).write_text(json.dumps({"ceph_id": "train000", "landmarks": listed}))

    def number(self, text: str) -> None:
        self.plain(face(self.landmarks))
        self.file.write_text(self.file.read_text().replace("260.0", text, 1))


class TextMarks(JsonMarks):
    """The senior's annotation of one film in the ISBI layout."""

    landmarks = isbi2015.LANDMARKS

    def __init__(self, folder):
        self.root = write_isbi(folder, {"TrainingData": 1})
        noise_film(self.root / "RawImage" / "TrainingData" / "001.bmp", 0, SIZE)
        self.file = self.root / "AnnotationsByMD" / "400_senior" / "001.txt"
        self.plain(face(self.landmarks), file=self.file.parents[1] / "400_junior" / "001.txt")

    def plain(self, points, file=None) -> None:
        rows = [f"{x},{y}" for x, y in (points[s] for s in self.landmarks if s in points)]
        (file or self.file).write_text("\n".join(rows) + "\n")


FORMATS = {"aariz": JsonMarks, "isbi2015": TextMarks}


@pytest.fixture(scope="module", params=FORMATS)
def marks(request, tmp_path_factory):
    return FORMATS[request.param](tmp_path_factory.mktemp(request.param))


def break_it(marks, fault: str, number: float, place: float, junk: bytes) -> None:
    """Write the senior's annotation with one fault in it."""
    points = face(marks.landmarks)
    symbol = sorted(points)[int(place * (len(points) - 1))]
    moved = {
        "missing": {s: p for s, p in points.items() if s != symbol},
        "outside": {**points, symbol: (SIZE[1] + abs(number), 50.0)},
        "percent": {s: (100 * x / SIZE[1], 100 * y / SIZE[0]) for s, (x, y) in points.items()},
        "fractions": {s: (x / SIZE[1], y / SIZE[0]) for s, (x, y) in points.items()},
        "swapped": {s: (y, x) for s, (x, y) in points.items()},
    }
    marks.plain(moved.get(fault, points))
    raw = marks.file.read_bytes()
    at = int(place * len(raw))
    texts = {
        "cut off": raw[:at],
        "junk": raw[:at] + junk + raw[at:],
        "doubled": raw.replace(b'"symbol": "B"', b'"symbol": "A"')
        if b"symbol" in raw
        else raw + raw[: raw.find(b"\n") + 1],
        "unknown": raw.replace(b'"symbol": "B"', b'"symbol": "Bx"') if b"symbol" in raw else raw.replace(b",", b";", 1),
        "doubled key": raw.replace(b'"x": 260.0', b'"x": 260.0, "x": 151.0', 1) if b'"x"' in raw else b"1,2,3\n" + raw,
        "deep": b"[" * 100_000,
        "marked and CRLF": b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"),
    }
    marks.file.write_bytes(texts.get(fault, raw))
    if fault in ("NaN", "1e400", "Infinity", "9" * 5000, '"12"', "null"):
        marks.number(fault)
    if fault == "large":
        with marks.file.open("r+b") as file:
            file.truncate(200 * 2**20)


HARMLESS = ("marked and CRLF", "outside")
FAULTS = (
    *(
        "NaN",
        "1e400",
        "Infinity",
        "9" * 5000,
        '"12"',
        "null",
        "outside",
        "missing",
        "doubled",
        "unknown",
        "doubled key",
    ),
    *("percent", "fractions", "swapped", "cut off", "junk", "deep", "large", "marked and CRLF"),
)


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def told(marks) -> tuple[str, list[str]]:
    """What a reader says of the set: its error, and its warnings."""
    kept, log = Kept(), logging.getLogger("ceph")
    log.addHandler(kept)
    log.propagate = False
    begin = time.process_time()
    try:
        read(marks.root, mm_per_px=0.7)  # so that it is a head of a head's size
    except DataError as error:
        return str(error), kept.texts
    finally:
        log.removeHandler(kept)
        log.propagate = True
        assert time.process_time() - begin < 5
    return "", kept.texts


@tries(60, 300)
def test_row_11_a_broken_annotation_is_named_by_file_and_a_suspicious_one_is_warned_of(marks, tries):
    @settings(max_examples=tries // 2, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        fault=st.sampled_from(FAULTS),
        number=st.floats(1, 1e6),
        place=st.floats(0, 1),
        junk=st.binary(min_size=1, max_size=6),
    )
    def try_one(fault, number, place, junk):
        break_it(marks, fault, number, place, junk)
        error, warnings = told(marks)
        if error:
            assert str(marks.file.name) in error, (fault, error)
            assert fault not in (*HARMLESS, *SUSPICIOUS), error
        elif fault in SUSPICIOUS:
            (warning,) = [text for text in warnings if SUSPICIOUS[fault] in text]
            assert marks.file.stem in warning
            assert "senior" in warning
        elif fault == "outside":
            assert any("outside their film" in text and marks.file.stem in text for text in warnings)
        else:
            # A landmark that JSON does not list is masked; junk may be white space, or digits that make another number.
            assert fault in ("missing", "junk", "cut off", "marked and CRLF"), fault

    try_one()


def test_row_11_a_film_as_it_should_be_is_not_suspected(marks):
    marks.plain(face(marks.landmarks))
    assert told(marks) == ("", [])


BOMBS = {
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)),
    "maps": "a: &a {x: 1, y: 2}\n" + "".join(f"k{i}: &{chr(98 + i)} {{<<: *{chr(97 + i)}}}\n" for i in range(20)),
    "itself": "a: &a [*a]\n",
    "lists": "[" * 100_000,
    "braces": "{" * 50_000,
    "dashes": "- " * 20_000,
    "keys": "? " * 20_000,
    "long": "a: " + "x" * 5_000_000,
    "many": "".join(f"k{i}: 1\n" for i in range(30_000)),
    "quotes": '"' + "\\n" * 100_000,
    "anchors": "".join(f"k{i}: &a{i} 1\n" for i in range(15_000)),
}


RESOLVE = """
import json, sys, time
from pathlib import Path
from ceph.config.load import resolve
from ceph.errors import ConfigError
for file in sys.argv[1:]:
    begin = time.process_time()
    try:
        resolve(file)
        said = ""
    except ConfigError as error:
        said = str(error)[:300]
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
    print(json.dumps([file, said, time.process_time() - begin, peak]))
"""


def test_row_12_a_yaml_bomb_is_an_error_with_its_place_in_little_time_and_memory(tmp_path):
    for name, text in BOMBS.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    files = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run([sys.executable, "-c", RESOLVE, *files], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(BOMBS)
    for file, said, seconds, mib in map(json.loads, done.stdout.splitlines()):
        assert re.match(rf"{re.escape(file)}:\d+:\d+: ", said), said
        assert seconds < 10, file
        assert mib < 500, file


def leaves(value, path=()):
    """The paths of all settings of a config as plain values."""
    if isinstance(value, dict) and value and path != ("plugins",):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif len(path) == 2:
        yield path


KEYS = list(leaves(json.loads(from_values({}).config.model_dump_json())))


@pytest.mark.parametrize("wrong", ["{weird: [1]}", "twice", "misspelt"])
def test_row_12_a_wrong_type_a_doubled_and_an_unknown_key_are_errors_with_their_line(tmp_path, wrong):
    file = tmp_path / "c.yaml"
    assert len(KEYS) > 34  # with the three faults and the bombs more than a hundred tries
    for section, key in KEYS:
        line = {"twice": f"  {key}: null\n  {key}: null\n", "misspelt": f"  {key}x: 1\n"}.get(
            wrong, f"  {key}: {wrong}\n"
        )
        file.write_text(f"# a comment\n{section}:\n{line}")
        with pytest.raises(ConfigError) as error:
            resolve(file)
        assert re.search(rf"c\.yaml:{4 if wrong == 'twice' else 3}:\d+: {section}\.{key}", str(error.value))


@given(st.recursive(st.just("1"), lambda inner: st.tuples(inner, st.integers(1, 90)).map(lambda t: "[" * t[1] + t[0])))
def test_row_11_brackets_of_any_depth_raise_nothing_but_data_errors(text):
    with pytest.raises(CephError):
        parse_json(text + "}", None)
