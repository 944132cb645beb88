"""The pages made from the code are fresh, and no hook is without a plugin that uses it, a test and a paragraph."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

from ceph.cli.app import COMMANDS
from ceph.hooks.specs import VERBS, Specs

ROOT = Path(__file__).resolve().parent.parent
TESTS = [
    p for p in sorted((ROOT / "tests").rglob("*.py")) if p.name not in ("test_docs.py", "test_specs.py", "table.py")
]


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("docs_from_code", ROOT / "benchmarks" / "docs_from_code.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_what_the_code_says(maker):
    stale = [path.name for path, text in maker.pages().items() if not path.exists() or path.read_text("utf-8") != text]
    assert stale == [], "write them anew: make docs"


def test_every_hook_is_used_by_a_plugin_of_the_tree(maker):
    assert [hook for hook, names in maker.users().items() if not names] == []


@pytest.mark.parametrize("hook", VERBS)
def test_every_hook_has_a_test_beside_that_of_its_signature(hook):
    called = re.compile(rf'"{hook}"|\b{hook}\(|\b{hook}=')
    assert any(called.search(path.read_text("utf-8")) for path in TESTS)


@pytest.mark.parametrize("hook", VERBS)
def test_every_hook_has_a_paragraph_in_the_docs(hook):
    page = (ROOT / "docs" / "hooks.md").read_text("utf-8")
    _, _, section = page.partition(f"### `{hook}`\n")
    section = section.partition("\n### ")[0]
    assert inspect.getdoc(getattr(Specs, hook)) in section
    assert f"Verb: **{VERBS[hook]}**. Used by: " in section


def test_every_plugin_says_what_it_does_and_what_each_setting_means(maker):
    for name, plugin in maker.plugins().items():
        assert len((plugin.__doc__ or "").strip().splitlines()[0]) > 20, name
        for setting, info in plugin.config_model().model_fields.items():
            assert info.description, f"{name}.{setting}"


def test_the_page_of_the_commands_has_each_with_its_options():
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for name in COMMANDS:
        assert f"\n## ceph {name}\n" in page
    assert "| `--resume` `RUN` | Go on with this run" in page
    assert "| `RUN` | The run folder. |" in page
    assert "\n### ceph plugins show\n" in page


def test_the_page_of_the_plugins_begins_with_whom_to_trust():
    page = (ROOT / "docs" / "plugins.md").read_text("utf-8")
    assert "A plugin is code that runs with your rights" in page.partition("## ")[0]
    assert "CEPH_ALLOW_PLUGINS" in page.partition("## ")[0]


SHELF = (ROOT / "docs" / "shelf.md").read_text("utf-8")


def test_every_plugin_has_a_page_or_a_section_of_the_shelf_with_each_of_its_settings(maker):
    for name, plugin in maker.plugins().items():
        page = ROOT / "docs" / f"{name}.md"
        text = page.read_text("utf-8") if page.exists() else SHELF.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert text, f"{name} has neither docs/{name}.md nor a section of docs/shelf.md"
        for setting in plugin.config_model().model_fields:
            assert f"`{setting}`" in text, f"{name}: its page does not say what {setting} is"


def test_the_table_of_the_shelf_has_every_section(maker):
    listed = re.findall(r"^\| \[`([a-z-]+)`\]\(#\1\)", SHELF, re.MULTILINE)
    assert listed == re.findall(r"^## (.+)$", SHELF, re.MULTILINE)
    assert set(listed) <= set(maker.plugins())


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_link_of_a_page_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!http)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"
