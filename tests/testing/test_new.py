"""`ceph plugins new` writes, for every hook, a module that is tidy, neutral and keeps the rules, and its test."""

from __future__ import annotations

import ast
import inspect
import os
import runpy
import subprocess
import sys
import tomllib

import pytest
from tests.testing.test_suite import failures

from ceph.cli.new_plugin import BODIES, check_name, class_of, project, write
from ceph.errors import ConfigError
from ceph.hooks import discovery
from ceph.hooks.misuse import hooks_of
from ceph.hooks.specs import VERBS, Specs


def module(name):
    return f"src/{name.replace('-', '_')}/__init__.py"


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """A folder with a plugin for each hook, `only-HOOK`, and one with all of them, `all-hooks`."""
    folder = tmp_path_factory.mktemp("new")
    for hook in VERBS:
        name = f"only-{hook.replace('_', '-')}"
        write(name, [hook], folder / name)
    write("all-hooks", list(VERBS), folder / "all-hooks")
    return folder


def test_there_is_a_neutral_answer_for_every_hook():
    assert list(BODIES) == list(VERBS)
    assert all(bool(BODIES[hook]) == (verb != "tell") for hook, verb in VERBS.items())


@pytest.mark.parametrize("hook", VERBS)
def test_a_hook_has_the_arguments_and_the_words_of_the_specs(every, hook):
    name = f"only-{hook.replace('_', '-')}"
    text = (every / name / module(name)).read_text()
    methods = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    assert [a.arg for a in methods[hook].args.args] == list(inspect.signature(getattr(Specs, hook)).parameters)
    assert ast.get_docstring(methods[hook]) == inspect.getdoc(getattr(Specs, hook))
    imported = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.startswith("ceph")} == {"ceph.plugin"}


# All at once is kept to the rules by test_suite.py, of a sound plugin that answers all, in `make test`.
@pytest.mark.parametrize("hook", [*VERBS, pytest.param("", marks=pytest.mark.slow)], ids=lambda hook: hook or "all")
def test_a_plugin_of_each_hook_and_of_all_keeps_the_rules(every, hook):
    name = f"only-{hook.replace('_', '-')}" if hook else "all-hooks"
    plugin = discovery.load(str(every / name / module(name))).plugin_class
    assert set(hooks_of(plugin)) == ({hook} if hook else set(VERBS))
    assert failures(plugin, name=name, only=f"answers-{hook}" if hook else "") == {}


def test_the_files_are_tidy(every):
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", "--select", "E,F,I,B,UP,D", "--ignore", "D1,D203,D213", every], check=True)
    subprocess.run([*ruff, "format", "--check", every], check=True, capture_output=True)


def test_the_generated_test_finds_training_unchanged(tmp_path, monkeypatch):
    write("my-idea", ["landmark_weights", "warps", "epoch_end"], tmp_path / "my-idea")
    monkeypatch.syspath_prepend(tmp_path / "my-idea" / "src")
    monkeypatch.setitem(sys.modules, "my_idea", None)  # as it is again afterwards: missing
    del sys.modules["my_idea"]
    made = runpy.run_path(str(tmp_path / "my-idea" / "tests" / "test_my_idea.py"))
    (neutral,) = (check for check in made["CHECKS"] if check.id == "neutral-changes-nothing")
    made["test_conformance"](neutral)


@pytest.mark.slow
def test_the_generated_test_of_all_hooks_passes(tmp_path):
    write("my-idea", list(VERBS), tmp_path / "my-idea")
    ran = pytest_in(tmp_path / "my-idea")
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert "neutral-changes-nothing" in ran.stdout
    assert "skipped" not in ran.stdout


def pytest_in(folder, *more, **environment):
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *more, str(folder)]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_the_entry_point_names_the_class(tmp_path):
    write("my-idea", ["landmark_weights"], tmp_path / "my-idea")
    project = tomllib.loads((tmp_path / "my-idea" / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["ceph.plugins"] == {"my-idea": "my_idea:MyIdea"}
    assert project["dependencies"] == ["ceph-trainer"]
    assert "class MyIdea(Plugin[MyIdeaConfig])" in (tmp_path / "my-idea" / module("my-idea")).read_text()
    assert "albumentations==2.0.8" in (project_of(["augmentations"]))["dependencies"]


def project_of(hooks):
    return tomllib.loads(project("my-idea", hooks)["pyproject.toml"])["project"]


@pytest.mark.parametrize("name", ["My-Idea", "my_idea", "8-ohkm", "-x", "x-", "x--y", "", "../x", "idée"])
def test_a_name_that_is_no_kebab_case_identifier_is_refused(name):
    with pytest.raises(ConfigError, match="is no name"):
        check_name(name)


@pytest.mark.parametrize("name", ["json", "class", "torch", "ceph"])
def test_a_name_that_python_has_taken_is_refused(name):
    with pytest.raises(ConfigError, match="cannot be imported"):
        check_name(name)


def test_a_name_that_is_taken_says_whose_it_is():
    with pytest.raises(ConfigError, match="'hard-mining' is taken by ceph-trainer"):
        check_name("hard-mining")


@pytest.mark.parametrize(
    ("name", "cls"), [("my-idea", "MyIdea"), ("warp", "WarpPlugin"), ("top-8", "Top8"), ("none", "NonePlugin")]
)
def test_the_class_of_a_name(name, cls):
    assert class_of(name) == cls


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write("my-idea", ["warps"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_unknown_hook_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'landmark_weights'"):
        write("my-idea", ["landmark_wieghts"], tmp_path / "my-idea")
    assert not (tmp_path / "my-idea").exists()
