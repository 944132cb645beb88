"""One parent of all processes, and one uninterrupted run with the whole shelf to compare with."""

from __future__ import annotations

import pytest
from tests.reliability.processes import Nursery, run_words, shelf

EPOCHS = 2


@pytest.fixture(scope="session")
def whole(tiny_set, tmp_path_factory):
    """The folder of an uninterrupted run of two epochs with the whole shelf, and the nursery that made it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    patch = pytest.MonkeyPatch()
    patch.setenv("TRACKIO_DIR", str(folder.with_name("trackio")))
    nursery = Nursery(*run_words(tiny_set, folder, *shelf(), epochs=EPOCHS))
    yield folder, nursery
    nursery.close()
    patch.undo()


@pytest.fixture(scope="session")
def nursery(whole):
    return whole[1]
