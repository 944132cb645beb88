"""CEPH_ALLOW_PLUGINS: where it is set, nothing that it does not list is imported."""

from __future__ import annotations

import sys

import pytest
from tests.config.fakes import OHKM, install

import ceph
from ceph.cli.app import main
from ceph.errors import ConfigError
from ceph.hooks.discovery import ALLOWED, load


@pytest.fixture
def ohkm(tmp_path, monkeypatch):
    return install(tmp_path / "site", monkeypatch, name="ohkm")


@pytest.mark.parametrize("listed", ["", " , ", "hard-mining, weighted-loss", "OHKM", "ohkm-2"])
def test_a_plugin_that_is_not_listed_is_refused_before_it_is_imported(ohkm, monkeypatch, listed):
    monkeypatch.setenv(ALLOWED, listed)
    with pytest.raises(ConfigError) as caught:
        load("ohkm")
    (problem,) = caught.value.problems
    assert problem.what == "the plugin 'ohkm' is not on the list of allowed plugins"
    assert problem.key == "plugins.ohkm"
    names = ", ".join(name.strip() for name in listed.split(",") if name.strip()) or "none"
    assert problem.hint == f"CEPH_ALLOW_PLUGINS allows {names}; ask who set it, or do without: --without ohkm"
    assert ohkm not in sys.modules


def test_a_listed_plugin_is_loaded_and_so_is_any_where_there_is_no_list(ohkm, monkeypatch):
    monkeypatch.setenv(ALLOWED, "hard-mining , ohkm")
    assert load("ohkm").name == "ohkm"
    monkeypatch.delenv(ALLOWED)
    assert load("ohkm").name == "ohkm"


def test_a_file_is_allowed_by_what_it_holds_and_never_by_a_plugins_name(tmp_path, monkeypatch):
    allowed, copy, changed = tmp_path / "ohkm.py", tmp_path / "copy" / "ohkm.py", tmp_path / "changed" / "ohkm.py"
    for file in (allowed, copy, changed):
        file.parent.mkdir(exist_ok=True)
        file.write_text(OHKM)
    changed.write_text(OHKM + "\n")
    monkeypatch.setenv(ALLOWED, f"ohkm,{allowed},{tmp_path}/gone.py")
    assert load(str(allowed)).name == "ohkm"
    assert load(str(copy)).name == "ohkm"
    with pytest.raises(
        ConfigError, match="'ohkm' is not on the list of allowed plugins .a file counts by what it holds"
    ):
        load(str(changed))
    monkeypatch.setenv(ALLOWED, "ohkm")
    with pytest.raises(ConfigError, match="not on the list"):
        load(str(allowed))


def test_a_run_goes_on_with_its_own_copy_of_an_allowed_file(tiny, tmp_path, monkeypatch):
    file = tmp_path / "ohkm.py"
    file.write_text(OHKM)
    monkeypatch.setenv(ALLOWED, str(file))
    run = ceph.train(tiny(plugins={"ohkm": {"from": str(file)}}, train={"epochs": 1}), out=tmp_path / "run")
    assert ceph.load(run.folder).hooks.names == ("ohkm",)


def test_every_refusal_is_told_at_once_with_its_place(ohkm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(ALLOWED, "multi-scale")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ceph.yaml").write_text("plugins:\n  ohkm: {}\n")
    assert main(["plan", "--plugin", "hard-mining", "--plugin", "multi-scale"]) == 2
    err = capsys.readouterr().err
    assert "--plugin:1:1: plugins.hard-mining: the plugin 'hard-mining' is not on the list" in err
    assert "ceph.yaml:2:3: plugins.ohkm: the plugin 'ohkm' is not on the list" in err
    assert err.count("error:") == 2
    assert ohkm not in sys.modules


def test_the_list_of_plugins_does_not_ask_the_list(ohkm, monkeypatch, capsys):
    monkeypatch.setenv(ALLOWED, "")
    assert main(["plugins", "list"]) == 0
    assert "ohkm" in capsys.readouterr().out
    assert ohkm not in sys.modules
