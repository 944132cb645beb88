"""Which split a film is in: as its folder or file says, or by a lot that its name alone draws."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

ORDER = ("train", "validation", "test", "test1", "test2")
OUT_OF_FOLD = "out-of-fold"  # all films that some fold of a cross-validation holds out
WORDS = {
    "train": "train",
    "training": "train",
    "trainingdata": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "test1": "test1",
    "test2": "test2",
}
HELD_OUT, NUMBERED = 20, 150


def lot(film: str) -> bytes:
    """The lot that a film draws by its name alone: the lowest go to validation. `1` and `001` draw the same."""
    name = str(int(film)) if film.isascii() and film.isdigit() and len(film) < 20 else film
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, person=b"ceph-isbi").digest()


# The bound below which a training film is held out: exactly 20 of the ISBI challenge's 001-150 are, whichever of
# them a copy of the set holds; of other films, the same share.
BOUND = sorted(lot(str(number)) for number in range(1, NUMBERED + 1))[HELD_OUT]


def held_out(groups: Iterable[str]) -> set[str]:
    """Those of the `groups` of training films that go to validation: about 13 %, at least one of several."""
    names = sorted(set(groups))
    chosen = {name for name in names if lot(name) < BOUND}
    if len(names) < 2 or 0 < len(chosen) < len(names):
        return chosen
    return {min(names, key=lot)}


def split_of(name: str) -> str:
    """The split that a file's or folder's name states, such as `val2017` or `TrainingData`; empty where none or two."""
    words = re.findall(r"test[12](?!\d)|[a-z]+", name.lower())
    found = {WORDS[word] for word in words if word in WORDS}
    return found.pop() if len(found) == 1 else ""


def split_of_folders(folders: Sequence[str]) -> str:
    """The split that the innermost of some folders states; empty where none does."""
    return next(filter(None, map(split_of, reversed(folders))), "")


def kind(split: str) -> str:
    """The split without the number of a test set."""
    return "test" if split.startswith("test") else split
