"""held-out.json is read as it was written, and a damaged one is told of."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ceph.errors import DataError
from ceph.run.held_out import Known
from ceph.runfolder import HeldOut, read_held_out, write_held_out


@pytest.fixture
def known():
    numbers = np.random.default_rng(0).uniform(0.5, 3, (2, 3))
    numbers[1, 2] = np.nan
    parts = np.array([0.5, 0.9, 0.99]), numbers, np.array([30, 0]), np.array([[1.5, 2], [np.nan, np.nan]])
    return HeldOut("validation", ("Go", "Pog`"), *parts, np.arange(16.0).reshape(4, 4), 0.06, np.array([0.9, 0.1]))


def test_what_is_written_is_read(known, tmp_path):
    assert read_held_out(tmp_path) is None
    write_held_out(tmp_path, known)
    read = read_held_out(tmp_path)
    assert (read.split, read.landmarks, read.size_sd) == (known.split, known.landmarks, known.size_sd)
    for name in ("levels", "factors", "films", "shape_mm", "covariance", "scores"):
        assert np.allclose(getattr(read, name), getattr(known, name), atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("levels", 3, "must be a list"), ("landmarks", [{"symbol": "Go"}], "'factors' is missing"), ("split", 1, "text")],
)
def test_a_damaged_file_is_told_of(known, tmp_path, key, value, said):
    write_held_out(tmp_path, known)
    path = tmp_path / "held-out.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(DataError, match=said):
        read_held_out(tmp_path)


def test_a_file_of_another_format_says_nothing_and_a_line_tells_why(known, tmp_path, caplog):
    write_held_out(tmp_path, known)
    path = tmp_path / "held-out.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    assert read_held_out(tmp_path) is None
    assert Known(tmp_path, [], known.landmarks).radii is None
    assert f"ceph evaluate {tmp_path}" in caplog.text


@pytest.mark.parametrize("split", ["validation", "adapt"])
def test_films_that_taught_radii_are_not_counted_by_these_however_few_they_are(known, tmp_path, split):
    write_held_out(tmp_path, replace(known, split=split))
    points, errors = np.random.default_rng(0).uniform(0, 9, (10, 2, 2)), np.ones((10, 2))
    alike = {"scores": errors, "spread_px": errors, "errors_mm": errors, "mm_per_px": np.ones(10)}
    found = SimpleNamespace(points_px=points, truth_px=points, valid=np.ones((10, 2), dtype=bool), **alike)
    radii = Known(tmp_path, [], known.landmarks).radii_mm(found, np.arange(10))  # nine others teach nothing
    assert np.isfinite(radii).any() == (split == "adapt")
