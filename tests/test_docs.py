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


def test_the_page_of_the_plugins_says_whom_to_trust():
    page = (ROOT / "docs" / "plugins" / "README.md").read_text("utf-8")
    assert "A plugin is code that runs with your rights" in page
    assert "CEPH_ALLOW_PLUGINS" in page


def test_the_table_of_the_shelf_has_every_plugin_once_and_each_page_says_more_than_its_code(maker):
    assert sorted(name for names in maker.GROUPS.values() for name in names) == sorted(maker.plugins())
    for name in maker.plugins():
        _, _, by_hand = (ROOT / "docs" / "plugins" / f"{name}.md").read_text("utf-8").partition(maker.HAND)
        assert len(by_hand) > 200, name


FOLDERS = (ROOT, *(ROOT / name for name in ("core", "plugins", "examples", "examples/third_party_plugin")))
PAGES = sorted([*(page for folder in FOLDERS for page in folder.glob("*.md")), *(ROOT / "docs").rglob("*.md")])


def test_the_menu_of_the_site_names_every_page_once(maker):
    assert sorted(page for page in maker.listed() if page.suffix == ".md") == PAGES


def anchors(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page, maker):
    for target in maker.links(page):
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"
