"""`ceph plugins`: what is installed, and what one plugin is, does and takes."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from tests.config.fakes import OHKM, install

from ceph.cli.app import main
from ceph.cli.plugins import type_in_words
from ceph.hooks.specs import VERBS
from ceph.testing import runs


def test_the_list_names_version_source_and_purpose_without_importing(tmp_path, monkeypatch, capsys):
    module = install(tmp_path, monkeypatch, name="ohkm")
    assert main(["plugins", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "SOURCE", "WHAT", "IT", "DOES"]
    (line,) = [line for line in lines if line.startswith("ohkm ")]
    assert line.split(maxsplit=3) == ["ohkm", "1.2", "fake-dist", "Only the hardest landmarks count."]
    assert module not in sys.modules


def test_the_list_as_json(tmp_path, monkeypatch, capsys):
    module = install(tmp_path, monkeypatch, name="ohkm")
    assert main(["plugins", "list", "--json"]) == 0
    found = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)}
    assert found["ohkm"] == {
        "name": "ohkm",
        "version": "1.2",
        "distribution": "fake-dist",
        "source": str(tmp_path / f"{module}.py"),
        "description": "Only the hardest landmarks count.",
    }


def test_show_describes_settings_and_hooks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    install(tmp_path, monkeypatch, name="ohkm", source=OHKM + "\n    requires = ('other',)\n")
    assert main(["plugins", "show", "ohkm"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("ohkm 1.2  (")
    assert "A second paragraph." in text
    assert "requires: other" in text
    assert "  keep   whole number (> 0)         8         landmarks of each film that count" in text
    assert "  table  mapping of text to number  {A: 1.0}  weights by symbol" in text
    assert "  landmark_weights  " in text
    assert "(no such hook)" not in text


def test_show_takes_a_file_and_prints_json(tmp_path, capsys):
    (tmp_path / "my_loss.py").write_text(OHKM)
    assert main(["plugins", "show", str(tmp_path / "my_loss.py"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["class"], [hook["name"] for hook in facts["hooks"]]) == (
        "my-loss",
        "Ohkm",
        ["landmark_weights"],
    )
    assert facts["settings"][0] == {
        "name": "keep",
        "type": "whole number (> 0)",
        "default": "8",
        "description": "landmarks of each film that count",
    }


def test_a_wrong_name_exits_with_2_and_a_broken_plugin_with_1(tmp_path, monkeypatch, capsys):
    install(tmp_path, monkeypatch, name="ohkm", source="1 / 0\n")
    assert main(["plugins", "show", "okhm"]) == 2
    assert capsys.readouterr().err == ("error: plugins.okhm: there is no plugin 'okhm'\n  hint: did you mean 'ohkm'?\n")
    assert main(["plugins", "show", "ohkm"]) == 1
    assert "cannot be imported: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "whole number"),
        (bool, "true or false"),
        (float | None, "number or null"),
        (Literal["a", "b"], "a, b"),
        (tuple[int, int], "[whole number, whole number]"),
        (tuple[Annotated[int, Field(ge=1)], ...], "list of whole number (>= 1)"),
        (list[str], "list of text"),
        (dict[str, float], "mapping of text to number"),
        (dict, "mapping"),
        (list, "list"),
        (Any, "anything"),
    ],
)
def test_types_are_told_in_words(annotation, words):
    assert type_in_words(annotation) == words


def test_check_prints_a_line_a_check_and_a_summary_and_takes_settings(tmp_path, capsys):
    (tmp_path / "my_loss.py").write_text(OHKM)
    code = main(["plugins", "check", str(tmp_path / "my_loss.py"), "--fast", "--set", "plugins.my-loss.keep=5"])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, "\n".join(lines)
    assert lines[0].startswith("my-loss ")
    words = [line[:9].strip() for line in lines[1:-1]]
    assert set(words) <= {"ok", "left out"}
    assert any(line.split()[:2] == ["ok", "answers-landmark_weights"] for line in lines)
    assert not any(text in line for line in lines for text in ("answers-warps", "trains-", "resumes-exactly"))
    ok, out = words.count("ok"), words.count("left out")
    told, foreign = lines[-1].split("; ")
    assert told == f"{ok + out} checks: {ok} ok, 0 failed, {out} left out"
    assert foreign == f"{len(VERBS) - 1 + 5} more are of hooks that it does not answer"


POWER = """\
from pydantic import Field

from ceph.plugin import Plugin, PluginConfig, hookimpl


class PowerConfig(PluginConfig):
    power: float = Field(default=1.0, ge=0, description="weights are losses to this power")


class Power(Plugin[PowerConfig]):
    '''Hard landmarks count more.'''

    @hookimpl
    def landmark_weights(self, loss):
        return loss.clamp_min(0) ** self.config.power
"""


def test_check_trains_and_is_told_neutral_settings(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "built_in", lambda: ("ema",))  # all of the shelf: tests/testing/test_suite.py
    (tmp_path / "power.py").write_text(POWER)
    assert main(["plugins", "check", str(tmp_path / "power.py"), "--neutral", "plugins.power.power=2"]) == 1
    text = capsys.readouterr().out
    assert "FAILED    neutral-changes-nothing" in text
    assert "ok        trains-beside-ema" in text


def test_what_a_plugin_prints_while_it_is_imported_is_no_part_of_an_answer(tmp_path, capsys):
    (tmp_path / "power.py").write_text(f"print('hello')\n{POWER}")
    assert main(["plugins", "show", str(tmp_path / "power.py"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] == "power"
    assert err == "hello\n"


def test_a_plugin_in_a_package_has_the_package_s_name(tmp_path, capsys):
    (tmp_path / "my_power").mkdir()
    (tmp_path / "my_power" / "__init__.py").write_text(POWER)
    assert main(["plugins", "show", str(tmp_path / "my_power" / "__init__.py")]) == 0
    assert capsys.readouterr().out.startswith("my-power ")


def test_a_setting_that_must_be_given_is_asked_for_with_the_flag_that_gives_it(tmp_path, capsys):
    (tmp_path / "power.py").write_text(POWER.replace("default=1.0, ", ""))
    assert main(["plugins", "check", str(tmp_path / "power.py")]) == 2
    text = capsys.readouterr().err
    assert "plugins.power.power: is missing; it has no default" in text
    assert "hint: --set plugins.power.power=VALUE" in text


def test_a_check_that_fails_says_why_and_exits_with_1(tmp_path, capsys):
    (tmp_path / "bare.py").write_text(
        OHKM.replace("    @hookimpl\n", "").replace(', description="weights by', ', title="')
    )
    assert main(["plugins", "check", str(tmp_path / "bare.py")]) == 1
    text = capsys.readouterr().out
    assert "FAILED    hooks-are-real" in text
    assert "lacks @hookimpl\n" in text
    assert "hint: put @hookimpl above the method" in text
    assert "note: plugin 'bare': no description of table" in text
    assert ", 1 failed, " in text.splitlines()[-1]


@pytest.mark.parametrize("source", ["1 / 0\n", "x = 1\n", "import no_such_module\n"])
def test_a_plugin_that_cannot_be_loaded_is_a_wrong_call(tmp_path, capsys, source):
    (tmp_path / "bad.py").write_text(source)
    assert main(["plugins", "check", str(tmp_path / "bad.py")]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["no-such-plugin"], ["hard-mining", "--set", "train.lr=1"], ["hard-mining", "--set", "plugins.hard-mining.kep=1"]],
)
def test_a_wrong_name_or_setting_of_check_exits_with_2(arguments, capsys):
    assert main(["plugins", "check", *arguments]) == 2
    assert "error: " in capsys.readouterr().err


def test_new_writes_a_plugin_and_says_what_comes_next(tmp_path, capsys):
    out = tmp_path / "mine"
    assert main(["plugins", "new", "my-idea", "--hook", "warps", "--hook", "epoch_end", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == f"next: pip install -e {out} && pytest {out} && ceph run --plugin my-idea"
    module = (out / "src" / "my_idea" / "__init__.py").read_text()
    assert module.count("@hookimpl") == 2
    assert main(["plugins", "show", str(out / "src" / "my_idea" / "__init__.py:MyIdea")]) == 0


def test_new_answers_landmark_weights_in_a_folder_of_its_name_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "my-idea"]) == 0
    assert "def landmark_weights(" in (tmp_path / "my-idea" / "src" / "my_idea" / "__init__.py").read_text()
    assert main(["plugins", "new", "my-idea"]) == 2


@pytest.mark.parametrize("arguments", [["My-Idea"], ["multi-scale"], ["x", "--hook", "warp"]])
def test_a_wrong_call_of_new_exits_with_2_and_writes_nothing(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", *arguments]) == 2
    assert list(tmp_path.iterdir()) == []


def test_new_names_every_hook_that_there_is_not(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "x", "--hook", "warp", "--hook", "stepend"]) == 2
    text = capsys.readouterr().err
    assert "'warp'" in text
    assert "did you mean 'step_end'" in text
