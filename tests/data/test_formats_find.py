"""A data folder's reader is found by looking, settings are checked by key, and chosen landmarks keep their order."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data.small_sets import write_aariz, write_isbi

from ceph.data.formats.aariz import LANDMARKS, Aariz
from ceph.data.formats.base import Reader
from ceph.data.formats.find import READERS, read
from ceph.errors import ConfigError, DataError


@pytest.fixture
def small(tmp_path):
    return write_aariz(tmp_path / "set")


def test_a_folder_that_is_no_set_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError) as error:
        read(tmp_path)
    for reader in READERS:
        assert f"{reader.name}: {reader.layout}" in str(error.value)


@pytest.mark.parametrize("named", [".", "set/train", "set/train/Cephalograms"])
def test_a_folder_too_high_or_too_low_leads_to_the_set(small, tmp_path, named):
    with pytest.raises(DataError, match=r"did you mean .*set\?"):
        read(tmp_path / named)


def test_a_folder_of_two_formats_asks_for_one(small):
    write_isbi(small)
    with pytest.raises(DataError, match=r"several formats \(aariz, isbi2015\)\n.*data\.format=aariz"):
        read(small)
    assert read(small, format="aariz").format == "aariz"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"format": "ariz"}, "data.format: unknown format 'ariz'\n  hint: did you mean 'aariz'?"),
        ({"format": ""}, "data.format: unknown format ''"),
        ({"landmarks": ["S", "PNSS"]}, "data.landmarks: this set has no landmark 'PNSS'\n  hint: did you mean"),
        ({"landmarks": ["S", "N", "S"]}, "data.landmarks: 'S' stands twice"),
        ({"landmarks": []}, "data.landmarks: no landmark is left"),
        ({"mm_per_px": 0.0}, "data.mm_per_px: 0 is no spacing of a film"),
        ({"mm_per_px": float("nan")}, "data.mm_per_px: nan is no spacing of a film"),
    ],
)
def test_a_wrong_setting_is_named_by_its_key(small, settings, says):
    with pytest.raises(ConfigError) as error:
        read(small, **settings)
    assert says in str(error.value)


def test_a_path_that_is_no_folder_is_a_wrong_setting(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file", tmp_path / "nul\0"):
        with pytest.raises(ConfigError, match=r"data\.path: "):
            read(path)


def test_another_format_than_the_folders_is_an_error(small):
    with pytest.raises(DataError, match=r"is not in the format 'isbi2015'\n.*looked for RawImage"):
        read(small, format="isbi2015")


def test_chosen_landmarks_come_in_the_order_asked(small):
    data = read(small, landmarks=["S", "A"])
    assert data.landmarks == ("S", "A")
    whole = read(small).samples[0].points
    np.testing.assert_array_equal(data.samples[0].points, whole[:, [LANDMARKS.index("S"), LANDMARKS.index("A")]])
    assert data.samples[0].valid.shape == (2, 2)


def test_a_strangers_reader_is_found_like_our_own(tmp_path):
    class Mine(Aariz):
        name = "mine"
        layout = "a file mine.txt"

        def matches(self, folder):
            return (folder / "mine.txt").is_file()

    (write_isbi(tmp_path) / "mine.txt").touch()
    assert isinstance(Mine(), Reader)
    with pytest.raises(DataError, match="isbi2015, mine"):
        read(tmp_path, readers=(*READERS, Mine()))
