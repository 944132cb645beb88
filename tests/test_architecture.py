"""The walls of the house: what may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE, PLUGINS = ROOT / "core" / "ceph", ROOT / "plugins" / "ceph_plugins"
FILES = sorted([*CORE.rglob("*.py"), *PLUGINS.rglob("*.py")])

# The ground floor is 0; a file imports from its own floor or from below. `ceph.hooks` and `ceph.evaluation` share a
# floor, as do the pairs of the plan; `report` is shown things and knows nothing.
FLOORS = {
    "ceph.errors": 0,
    "ceph.files": 0,
    "ceph.stop": 0,
    "ceph.threads": 0,
    "ceph.data": 1,
    "ceph.model": 1,
    "ceph.runfolder": 1,
    "ceph.evaluation": 2,
    "ceph.hooks": 2,
    "ceph.report": 2,
    "ceph.plugin": 3,
    "ceph.config": 3,
    "ceph.measuring": 3,
    "ceph.measuring.analyse": 7,
    "ceph.measuring.found": 7,
    "ceph.measuring.tracing": 7,
    "ceph.training": 4,
    "ceph_plugins": 4,
    "ceph.fanout": 5,
    "ceph.run.assembly": 5,
    "ceph.run.evaluator": 5,
    "ceph.run.films": 5,
    "ceph.run": 6,
    "ceph.run.many": 7,
    "ceph.run.members": 7,
    "ceph.run.predictions": 7,
    "ceph.ablation": 6,
    "ceph.__main__": 7,
    "ceph.cli": 7,
    "ceph.exporting": 7,
    "ceph.testing": 7,
    "ceph.tools": 7,
    "ceph.view": 7,
}
# Imports up the floors, and why. Each is made when it is called for, never when the file is imported.
UPWARDS = {"ceph.plugin": "ceph.run"}  # a plugin may ask for another run by `load`


def module_of(path):
    root = CORE.parent if path.is_relative_to(CORE) else PLUGINS.parent
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path, *, top_level=False):
    """Modules that a file imports; with `top_level`, only those imported when it is (no `if TYPE_CHECKING`)."""
    tree = ast.parse(path.read_text("utf-8"))
    found = set()

    def visit(node):
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def floor(module):
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in FLOORS:
            return FLOORS[".".join(parts[:length])]
    return None


def is_of(module, package):
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("path", [p for p in FILES if module_of(p) != "ceph"], ids=module_of)
def test_no_import_runs_back_up(path):
    own = floor(module_of(path))
    assert own is not None, "a new file belongs on a floor"
    late = imports(path) - imports(path, top_level=True)
    allowed = {module for module in late if is_of(module, UPWARDS.get(module_of(path), "nothing"))}
    for module in imports(path) - allowed:
        other = floor(module) if is_of(module, "ceph") or is_of(module, "ceph_plugins") else None
        assert other is None or other <= own, f"{module_of(path)} imports {module}, which is above it"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_right_rooms_know_the_big_libraries(path):
    module, used = module_of(path), imports(path)
    homes = {
        "pluggy": module.startswith("ceph.hooks"),
        "albumentations": module == "ceph.data.augment" or module.startswith("ceph_plugins"),
        "accelerate": module == "ceph.training.runtime",
        "typer": module.startswith("ceph.cli"),
        "ruamel": module.startswith("ceph.config"),
    }
    for library, allowed in homes.items():
        assert allowed or not any(is_of(name, library) for name in used), f"{module} imports {library}"


def test_the_core_knows_no_plugin_and_plugins_know_only_the_door():
    for path in FILES:
        used = {m for m in imports(path) if is_of(m, "ceph") or is_of(m, "ceph_plugins")}
        if module_of(path).startswith("ceph_plugins"):
            assert all(is_of(m, "ceph.plugin") for m in used), f"{path.name} imports {used}"
        else:
            assert not any(is_of(m, "ceph_plugins") for m in used), f"{path.name} imports {used}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_the_data_and_the_model_know_neither_hooks_nor_config(path):
    if module_of(path).startswith(("ceph.data", "ceph.model")):
        assert not any(is_of(m, "ceph.hooks") or is_of(m, "ceph.config") for m in imports(path))


QUICK = [
    p for p in FILES if module_of(p).startswith(("ceph.cli", "ceph.config", "ceph.hooks.discovery", "ceph.errors"))
]


@pytest.mark.parametrize("path", QUICK, ids=module_of)
def test_the_command_line_and_the_config_import_torch_late(path):
    slow = {"torch", "timm", "albumentations", "cv2", "accelerate"}
    assert not {m.split(".")[0] for m in imports(path, top_level=True)} & slow


def test_the_config_and_discovery_import_without_torch():
    code = (
        "import sys, ceph, ceph.config.load, ceph.config.schema, ceph.hooks.discovery, ceph.hooks.specs, ceph.cli.app; "
    )
    code += "sys.exit(bool({'torch', 'timm', 'albumentations'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_file_says_its_job_in_its_first_line(path):
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring
    assert docstring.strip().splitlines()[0].strip()
