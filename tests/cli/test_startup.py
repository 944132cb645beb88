"""Help and lists answer at once: they import neither torch nor anything else that is slow."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from ceph.cli.app import COMMANDS
from ceph.cli.imports import for_good

SLOW = ("torch", "timm", "albumentations", "cv2", "numpy")
LEAN = (*SLOW, "pydantic", "ruamel.yaml")


def imported_by(names: tuple[str, ...], *calls: list[str]) -> tuple[int, list[str], str]:
    """Calls of `ceph` in one new process: their exit code, which of `names` it imported, and what it printed."""
    code = (
        f"import sys; from ceph.cli.app import main; code = max([main(call) for call in {calls!r}]); "
        f"print('LOADED', code, *[name for name in {names!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, _, tail = done.stdout.rpartition("LOADED ")
    exit_code, *loaded = tail.split()
    return int(exit_code), loaded, text + done.stderr


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"]])
def test_the_first_help_imports_next_to_nothing(arguments):
    code, loaded, text = imported_by(LEAN, arguments)
    assert (loaded, code) == ([], 0 if arguments else 2)
    assert text


def test_the_help_of_every_command_imports_nothing_slow():
    code, loaded, text = imported_by(SLOW, *([name, "--help"] for name in COMMANDS))
    assert (code, loaded) == (0, [])
    assert all(f"Usage: ceph {name} " in text for name in COMMANDS)


def test_the_list_of_plugins_imports_nothing_slow():
    code, loaded, text = imported_by(SLOW, ["plugins", "list"])
    assert (code, loaded) == (0, [])
    assert text


@pytest.mark.parametrize("arguments", [["config", "show"], ["config", "show", "--set", "x=1"]])
def test_the_config_is_resolved_without_torch(arguments):
    assert imported_by(SLOW, arguments)[1] == []


@pytest.fixture
def no_torch(monkeypatch):
    """As in a process that has just begun."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("no_torch")
def test_imports_are_not_looked_through_for_garbage_and_the_rest_is():
    before = gc.get_freeze_count()
    with for_good():
        collecting, made = gc.isenabled(), [[] for _ in range(1000)]
    assert (collecting, gc.isenabled()) == (False, True)
    assert gc.get_freeze_count() > before + len(made)
    gc.disable()
    with for_good():
        pass
    assert not gc.isenabled(), "as it was found"


@pytest.mark.usefixtures("no_torch")
def test_imports_that_fail_leave_the_collector_as_it_was():
    before = gc.get_freeze_count()
    with pytest.raises(ImportError), for_good():
        raise ImportError
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, before)


def test_a_program_that_has_torch_keeps_its_garbage_to_be_collected(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", sys)
    before = gc.get_freeze_count()
    with for_good():
        collecting = gc.isenabled()
    assert (collecting, gc.get_freeze_count()) == (True, before)
