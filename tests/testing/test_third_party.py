"""A plugin of somebody else: the example, and what `ceph plugins new` writes, as wheels that are installed by pip."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.testing.broken import Ones
from tests.testing.test_new import pytest_in
from tests.testing.test_suite import failures

import ceph
from ceph.cli.new_plugin import write
from ceph.hooks import discovery
from ceph.testing import suite

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_plugin"
TINY = ["data.size=[64,64]", "model.backbone=test_resnet", "model.weights=none", "train.epochs=3", "train.device=cpu"]


def test_the_example_imports_nothing_of_ours_but_the_door():
    text = (EXAMPLE / "src" / "dynamic_weights" / "__init__.py").read_text()
    assert [line for line in text.splitlines() if "import" in line and "ceph" in line] == [
        "from ceph.plugin import Batch, Duration, Plugin, PluginConfig, Run, hookimpl"
    ]


def test_the_example_is_built_and_installed_from_its_wheel_beside_ours_checked_and_trained(tiny, tmp_path, monkeypatch):
    backend = pytest.importorskip("hatchling.build")
    shutil.copytree(EXAMPLE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path / "source")
    wheel = backend.build_wheel(str(tmp_path))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    call([*pip, "install", "--no-deps", "--no-index", "--target", tmp_path / "site", tmp_path / wheel])
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = discovery.load("dynamic-weights")
    assert (found.distribution, found.source.parents[1]) == ("ceph-plugin-dynamic-weights", tmp_path / "site")
    assert failures(found.plugin_class, name="dynamic-weights") == {}
    run = ceph.train(tiny(plugins={"dynamic-weights": {}, "hard-mining": {}}), out=tmp_path / "run").folder
    noted = json.loads((run / "environment.json").read_text())["plugins"]
    assert set(noted) == {"dynamic-weights", "hard-mining"}


@pytest.mark.slow
def test_the_tests_of_the_example_pass():
    ran = pytest_in(EXAMPLE, PYTHONDONTWRITEBYTECODE="1")
    assert ran.returncode == 0, ran.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("made", ["example", "new"])
def test_a_wheel_is_installed_listed_checked_and_trained_by_name(tmp_path, tiny_set, made):
    pytest.importorskip("hatchling")
    source, site = tmp_path / "source", tmp_path / "site"
    name = {"example": "dynamic-weights", "new": "my-idea"}[made]
    if made == "example":
        shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        write(name, ["landmark_weights", "warps"], source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    call([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source])
    (wheel,) = tmp_path.glob("*.whl")
    call([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel])
    ceph = [sys.executable, "-m", "ceph.cli.app"]
    settings = [part for setting in TINY for part in ("--set", setting)]
    listed = call([*ceph, "plugins", "list"], PYTHONPATH=site)
    assert f"ceph-plugin-{name}" in listed
    checked = call([*ceph, "plugins", "check", name], PYTHONPATH=site)
    assert " 0 failed" in checked
    out = tmp_path / "run"
    call([*ceph, "run", "--plugin", name, "--data", tiny_set, "--out", out, *settings], PYTHONPATH=site)
    assert (out / "metrics.json").is_file()


@pytest.mark.slow
def test_a_new_plugin_installs_editable(tmp_path):
    pytest.importorskip("hatchling")
    write("my-idea", ["landmark_weights"], tmp_path / "my-idea")
    venv = tmp_path / "venv"
    call([sys.executable, "-m", "venv", venv])
    site = next(venv.glob("lib/python*/site-packages"), venv / "Lib" / "site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text("\n".join(f"import site; site.addsitedir({path!r})" for path in ours))
    python = next(path for path in (venv / "bin" / "python", venv / "Scripts" / "python.exe") if path.exists())
    call([python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-e", tmp_path / "my-idea"])
    assert "my-idea" in call([python, "-m", "ceph.cli.app", "plugins", "show", "my-idea"])


def call(command, **environment):
    """Run a command and give its output; fails with what it printed."""
    ran = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    return ran.stdout


PAGE = EXAMPLE.parents[1] / "docs" / "writing-a-plugin.md"


def test_the_idea_of_the_page_keeps_the_rules_and_is_neutral_where_it_says_so(tmp_path):
    idea = re.search(r"```python\n(from pydantic.*?class MyIdeaConfig.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    head = "import torch\nfrom ceph.plugin import Plugin, PluginConfig, hookimpl\n"
    (tmp_path / "my_idea.py").write_text(head + idea)
    plugin = discovery.load(str(tmp_path / "my_idea.py")).plugin_class
    assert failures(plugin) == {}
    (neutral,) = (c for c in suite(plugin, neutral={"power": 0}) if c.id == "neutral-changes-nothing")
    neutral()


def test_the_page_lists_every_check():
    listed = re.findall(r"^\| `([a-zA-Z-]+)` \|", PAGE.read_text(), re.MULTILINE)
    known = [re.sub("^(answers)-(?!repeat).*", r"\1-HOOK", c.id) for c in suite(Ones)]
    assert listed == list(dict.fromkeys(re.sub("^(trains-beside)-.*", r"\1-NAME", name) for name in known))
