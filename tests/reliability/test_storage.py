"""Rows 5 to 7 of docs/reliability.md: checkpoints that are cut off, changed, or cannot be written."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.reliability.processes import one_message, run_words, tries
from tests.training.runs import last_weights, same_weights

from ceph.training import checkpoint

NOBODY = 65534
ROOT = os.geteuid() == 0


@pytest.fixture
def damaged(whole, tmp_path):
    """A copy of a real run's checkpoints, and the state of the one before the last."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(whole[0] / "checkpoints", folder)
    return folder, checkpoint.load(folder, checkpoint.PREVIOUS)["progress"]["step"]


def falls_back(folder: Path, step: int) -> None:
    content, note = checkpoint.load_last(folder)
    assert content["progress"]["step"] == step
    assert f"{folder / checkpoint.LAST} is damaged" in note
    assert f"going on from {folder / checkpoint.PREVIOUS}" in note


@tries(25, 200)
def test_row_05_a_checkpoint_cut_off_anywhere_gives_way_to_the_one_before_and_is_named(damaged, tries):
    folder, step = damaged
    path, chance = folder / checkpoint.LAST, random.Random(tries)
    whole = path.read_bytes()
    lengths = [0, 1, 7, 8, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(tries - 5))]
    for length in lengths:
        path.write_bytes(whole[:length])
        falls_back(folder, step)
    print(f"row 5: {len(lengths)} lengths of {len(whole)} bytes")


@tries(25, 200)
def test_row_06_one_flipped_bit_anywhere_is_always_noticed(damaged, tries):
    folder, step = damaged
    path, sums, chance = folder / checkpoint.LAST, folder / f"{checkpoint.LAST}.sha256", random.Random(tries)
    for attempt in range(tries):
        victim = sums if attempt % 10 == 9 else path
        whole = victim.read_bytes()
        changed = bytearray(whole)
        place = chance.randrange(64 if victim == sums else len(whole))  # the sum itself, of its line
        changed[place] ^= 1 << chance.randrange(8)
        victim.write_bytes(changed)
        falls_back(folder, step)
        victim.write_bytes(whole)
    assert checkpoint.load_last(folder)[1] == ""


@pytest.fixture(scope="module")
def begun(tiny_set, nursery):
    """A run of two epochs that stands after its first, in a folder that any user may enter."""
    with tempfile.TemporaryDirectory(prefix="ceph-storage-") as name:
        home = Path(name)
        home.chmod(0o755)
        shutil.copytree(tiny_set, home / "films")
        code, errors = nursery.run(run_words(home / "films", home / "run", "--set", "train.stop_after=1"), home / "io")
        assert code == 0, errors
        config = home / "run" / "config.yaml"
        config.write_text(config.read_text().replace("stop_after: 1", "stop_after: null"))
        (home / "run" / "metrics.json").unlink()
        yield home


def sums(run: Path) -> dict[str, str]:
    """Sums of the checkpoints of a run."""
    names = (checkpoint.LAST, checkpoint.PREVIOUS, checkpoint.BEST)
    files = [run / "checkpoints" / name for name in names]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


class Fault:
    """A folder in which a run cannot write: entered, it is there; `limits` are those of the process."""

    def __init__(self, kind: str, run: Path, home: Path, chance: random.Random) -> None:
        self.kind, self.run, self.home, self.chance = kind, run, home, chance
        self.limits: dict[str, int] = {}
        self.mounted: Path | None = None

    def __enter__(self) -> Path:
        if self.kind == "largest file":
            self.limits = {"bytes": self.chance.randrange(2_000, 300_000)}
        elif self.kind == "no permission":
            for path in (self.run, *self.run.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)
            self.limits = {"uid": NOBODY} if ROOT else {}
        else:
            self.mounted = self.home / "mounted"
            self.mounted.mkdir()
            size = sum(path.stat().st_size for path in self.run.rglob("*") if path.is_file())
            free = self.chance.randrange(0, 400_000)
            mount("-t", "tmpfs", "-o", f"size={size * 11 // 10 + 65536 + free}", "none", str(self.mounted))
            shutil.copytree(self.run, self.mounted / "run")
            if self.kind == "full disk":
                left = shutil.disk_usage(self.mounted).free - free
                (self.mounted / "ballast").write_bytes(bytes(max(0, left)))
            else:
                mount("-o", "remount,ro", str(self.mounted))
            return self.mounted / "run"
        return self.run

    def __exit__(self, *_: object) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.mounted)], check=True)
            self.mounted.rmdir()
        for path in (self.run, *self.run.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


KINDS = ("full disk", "no permission", "read-only", "largest file") if ROOT else ("no permission", "largest file")


@tries(4, 20)
def test_row_07_a_disk_that_is_full_or_forbidden_is_one_clear_error_and_old_checkpoints_stay(
    begun, tmp_path, tries, nursery, whole
):
    chance = random.Random(tries)
    before = sums(begun / "run")
    for attempt in range(tries):
        kind = KINDS[attempt % len(KINDS)]
        copy = begun / f"run-{attempt}"
        shutil.copytree(begun / "run", copy)
        fault = Fault(kind, copy, begun, chance)
        with fault as run:
            code, errors = nursery.run(["run", "--resume", str(run)], tmp_path / str(attempt), **fault.limits)
            assert code == 1, (kind, code, errors)
            assert one_message(errors), (kind, errors)
            assert "hint: " in errors
            assert str(run) in errors
            assert sums(run) == before, kind
            assert checkpoint.load_last(run / "checkpoints")[1] == ""
        if kind in ("no permission", "largest file"):  # the remedy works
            assert nursery.run(["run", "--resume", str(copy)], tmp_path / f"{attempt}-again")[0] == 0
            assert same_weights(last_weights(copy), end_of(begun, nursery, tmp_path))
        shutil.rmtree(copy)
    print(f"row 7: {tries} tries of {', '.join(KINDS)}")


def end_of(begun: Path, nursery, tmp_path: Path):
    """The last weights of the run that nothing stood in the way of."""
    copy = begun / "whole"
    if not copy.exists():
        shutil.copytree(begun / "run", copy)
        assert nursery.run(["run", "--resume", str(copy)], tmp_path / "whole")[0] == 0
    return last_weights(copy)
