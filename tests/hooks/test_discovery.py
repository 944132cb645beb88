"""Plugins are listed without importing them; only the selected one is imported, and its faults name it."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from tests.config.fakes import OHKM, install

from ceph.errors import ConfigError, PluginError
from ceph.hooks.discovery import file_plugin_name, installed, is_file, kebab_case, load


def find(name: str):
    return [plugin for plugin in installed() if plugin.name == name]


def test_listing_imports_nothing(tmp_path, monkeypatch):
    module = install(tmp_path, monkeypatch, name="bomb", source=OHKM.replace("Only", "Not") + "\nraise SystemExit(3)\n")
    (plugin,) = find("bomb")
    assert (plugin.version, plugin.distribution, plugin.value) == ("1.2", "fake-dist", f"{module}:Ohkm")
    assert (plugin.source, plugin.description) == (tmp_path / f"{module}.py", "Not the hardest landmarks count.")
    assert module not in sys.modules


def test_a_module_in_a_package_is_found_without_importing_the_package(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, name="deep", distribution="deep", source="")
    package = tmp_path / "deep_package" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("raise SystemExit(3)\n")
    (package / "loss.py").write_text(OHKM)
    (tmp_path / "deep-1.2.dist-info" / "entry_points.txt").write_text(
        "[ceph.plugins]\ndeep = deep_package.inner.loss:Ohkm\n"
    )
    (plugin,) = find("deep")
    assert (plugin.source, plugin.description) == (package / "loss.py", "Only the hardest landmarks count.")


@pytest.mark.parametrize("source", ["", "def (:\n", "class Ohkm:\n    x = 1\n", "\0", "class Other:\n    'no'\n"])
def test_a_source_without_a_sentence_has_an_empty_description(tmp_path, monkeypatch, source):
    install(tmp_path, monkeypatch, name="mute", source=source)
    assert find("mute")[0].description == ""


def test_a_module_that_is_not_there_has_no_source(tmp_path, monkeypatch):
    module = install(tmp_path, monkeypatch, name="gone")
    (tmp_path / f"{module}.py").unlink()
    assert (find("gone")[0].source, find("gone")[0].description) == (None, "")
    with pytest.raises(PluginError, match=r"plugin 'gone' 1\.2 .* cannot be imported: ModuleNotFoundError") as caught:
        load("gone")
    assert caught.value.problems[0].hint == (
        f"install what provides the module {module!r}, or do without the plugin: --without gone"
    )


def test_a_selected_plugin_is_loaded_with_its_origin(tmp_path, monkeypatch):
    module = install(tmp_path, monkeypatch, name="ohkm")
    loaded = load("ohkm")
    assert (loaded.name, loaded.version, loaded.distribution, loaded.file) == ("ohkm", "1.2", "fake-dist", "")
    assert (loaded.plugin_class.__name__, loaded.source) == ("Ohkm", tmp_path / f"{module}.py")
    assert loaded.sha256 == hashlib.sha256(OHKM.encode()).hexdigest()
    assert loaded.create({"keep": 3}).config.keep == 3


def test_a_wrong_name_is_told_with_the_nearest(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, name="ohkm-loss")
    with pytest.raises(ConfigError) as caught:
        load("okhm-loss")
    problem = caught.value.problems[0]
    assert (problem.key, problem.hint) == ("plugins.okhm-loss", "did you mean 'ohkm-loss'?")


def test_one_name_from_two_distributions_names_both(tmp_path, monkeypatch):
    install(tmp_path / "a", monkeypatch, name="ohkm", distribution="first")
    install(tmp_path / "b", monkeypatch, name="ohkm", distribution="second", version="3")
    assert [plugin.distribution for plugin in find("ohkm")] == ["first", "second"]
    with pytest.raises(ConfigError, match=r"the plugin 'ohkm' is given by first 1\.2 and second 3"):
        load("ohkm")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def (:\n", "SyntaxError"),
        ("\nimport no_such_thing\n", "ModuleNotFoundError"),
        ("\nraise SystemExit(2)\n", "SystemExit: 2"),
        ("\n1 / 0\n", "ZeroDivisionError"),
        ("\nx = 1\n", "AttributeError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_with_version_and_line(tmp_path, monkeypatch, source, reason):
    module = install(tmp_path, monkeypatch, name="bad", source=source)
    with pytest.raises(PluginError) as caught:
        load("bad")
    text = str(caught.value)
    assert text.startswith("plugin 'bad' 1.2 (")
    assert reason in text
    assert "--without bad" in text
    if reason != "AttributeError":
        assert f"{module}.py:{1 if reason == 'SyntaxError' else 2})" in text


@pytest.mark.parametrize(
    "source", ["class Ohkm:\n    pass\n", "Ohkm = 3\n", "from ceph.hooks.base import Plugin as Ohkm\n"]
)
def test_what_is_no_plugin_is_refused(tmp_path, monkeypatch, source):
    install(tmp_path, monkeypatch, name="odd", source=source)
    with pytest.raises(PluginError, match=r"plugin 'odd' 1\.2 .* is no subclass of ceph\.plugin\.Plugin"):
        load("odd")


@pytest.mark.parametrize(
    ("name", "kebab"),
    [("my_ohkm", "my-ohkm"), ("MyOHKMLoss", "my-ohkm-loss"), ("Ohkm2D", "ohkm2-d"), ("_x_", "x"), ("a.b c", "a-b-c")],
)
def test_kebab_case(name, kebab):
    assert kebab_case(name) == kebab


def test_which_values_are_files():
    assert [is_file(v) for v in ("a.py", "./b/a.py:Cls", "hard-mining", "a.pyc", ".py", "a.py:", "a.py:1")] == [
        *(True, True, False, False, False, False, False)
    ]
    assert (file_plugin_name("./b/my_loss.py"), file_plugin_name("x.py:MyLoss")) == ("my-loss", "my-loss")


def test_a_file_is_loaded_from_the_bytes_that_are_recorded_and_leaves_nothing_beside_it(tmp_path):
    file = tmp_path / "my loss.py"
    file.write_text(OHKM)
    loaded = load(str(file))
    assert (loaded.name, loaded.file, loaded.distribution) == ("my-loss", str(file), "")
    assert loaded.version == loaded.sha256[:12] == hashlib.sha256(OHKM.encode()).hexdigest()[:12]
    assert [path.name for path in tmp_path.iterdir()] == ["my loss.py"]
    assert load(str(file)).plugin_class is loaded.plugin_class
    file.write_text(OHKM.replace("8", "9"))
    assert load(str(file)).create({}).config.keep == 9
    assert loaded.create({}).config.keep == 8


def test_a_file_that_fails_leaves_no_module_behind(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("x = 1\n1 / 0\n")
    before = set(sys.modules)
    with pytest.raises(PluginError, match=r"bad\.py:2\) cannot be imported: ZeroDivisionError"):
        load(str(file))
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("source", "value", "message"),
    [
        ("x = 1\n", "f.py", "has no Plugin subclass"),
        (OHKM + "\n\nclass Two(Ohkm):\n    pass\n", "f.py", r"has several Plugin subclasses \(Ohkm, Two\)"),
        (OHKM, "f.py:Ohk", "has no class 'Ohk'"),
    ],
)
def test_a_file_must_say_which_class_is_the_plugin(tmp_path, source, value, message):
    (tmp_path / "f.py").write_text(source)
    with pytest.raises(ConfigError, match=message):
        load(str(tmp_path / value))


def test_a_class_is_picked_by_name_and_may_only_be_imported_there(tmp_path):
    (tmp_path / "f.py").write_text(OHKM + "\n\nclass Two(Ohkm):\n    pass\n")
    assert load(f"{tmp_path}/f.py:Two").plugin_class.__name__ == "Two"
    with pytest.raises(PluginError, match="PluginConfig is no subclass"):
        load(f"{tmp_path}/f.py:PluginConfig")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the plugin's file .*: no such file"):
        load(str(tmp_path / "none.py"))


def test_objects_of_a_plugin_in_a_file_unpickle_in_another_process(tmp_path):
    file = tmp_path / "étude.py"
    file.write_text(OHKM, encoding="utf-8")
    plugin = load(str(file)).create({"keep": 5})
    pickled = tmp_path / "plugin.pickle"
    pickled.write_bytes(pickle.dumps(plugin))
    code = f"import pickle; print(pickle.load(open({str(pickled)!r}, 'rb')).config.keep)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout == "5\n"
    file.write_text("changed = 1\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "has changed since the run began" in done.stderr


def test_discovery_imports_no_torch():
    code = (
        "import sys, ceph.hooks.discovery as d; d.installed(); print('torch' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
