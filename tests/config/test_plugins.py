"""Plugins in a config: switched on and off, their settings resolved with defaults, instances made."""

from __future__ import annotations

import hashlib

import pytest
from tests.config.fakes import OHKM, install

from ceph.config.load import from_values, resolve
from ceph.errors import PluginError


@pytest.fixture
def ohkm(here, monkeypatch):
    return install(here / "site", monkeypatch, name="ohkm")


def test_a_key_under_plugins_switches_on_and_defaults_are_filled_in(here, ohkm):
    (here / "ceph.yaml").write_text("plugins:\n  ohkm:\n")
    resolved = resolve()
    assert resolved.config.plugins == {"ohkm": {"keep": 8, "table": {"A": 1.0}}}
    assert resolved.provenance["plugins.ohkm"] == "ceph.yaml:2"
    assert resolved.provenance["plugins.ohkm.keep"] == "default"
    assert (resolved.plugins["ohkm"].version, resolved.plugins["ohkm"].distribution) == ("1.2", "fake-dist")


def test_a_flag_keeps_the_settings_of_a_plugin_that_is_on(here, ohkm):
    (here / "ceph.yaml").write_text("plugins: {ohkm: {keep: 3}}\n")
    resolved = resolve(plugins=["ohkm"], settings=["plugins.ohkm.table.B=2"])
    assert resolved.config.plugins["ohkm"] == {"keep": 3, "table": {"B": 2.0}}
    assert resolved.provenance["plugins.ohkm.keep"] == "ceph.yaml:1"
    assert resolved.provenance["plugins.ohkm.table.B"] == "--set"


def test_without_switches_off_what_a_file_or_a_setting_switched_on(here, ohkm):
    (here / "ceph.yaml").write_text("plugins: {ohkm: {keep: 3}}\n")
    resolved = resolve(without=["ohkm"], settings=["plugins.ohkm.keep=5"])
    assert (dict(resolved.config.plugins), dict(resolved.plugins)) == ({}, {})


def test_only_the_selected_plugins_are_imported(here, monkeypatch):
    install(here / "site", monkeypatch, name="ohkm")
    install(here / "site", monkeypatch, name="broken", distribution="broken", source="raise SystemExit(3)\n")
    assert list(resolve(plugins=["ohkm"]).plugins) == ["ohkm"]
    with pytest.raises(PluginError, match=r"plugin 'broken' 1\.2 .* cannot be imported: SystemExit: 3"):
        resolve(plugins=["broken"])


def test_the_order_of_naming_does_not_matter(here, ohkm):
    (here / "zz.py").write_text(OHKM)
    one, other = resolve(plugins=["ohkm", "./zz.py"]), resolve(plugins=["./zz.py", "ohkm"])
    assert list(one.plugins) == list(other.plugins) == ["ohkm", "zz"]
    assert list(one.config.plugins) == list(other.config.plugins) == ["ohkm", "zz"]


def test_a_plugin_in_a_file(here, monkeypatch):
    (here / "sub").mkdir()
    (here / "sub" / "my_loss.py").write_text(OHKM)
    (here / "sub" / "c.yaml").write_text("plugins: {mine: {from: ./my_loss.py, keep: 2}}\n")
    resolved = resolve(here / "sub" / "c.yaml")
    loaded = resolved.plugins["mine"]
    assert resolved.config.plugins["mine"]["from"] == str(here / "sub" / "my_loss.py")
    assert (loaded.source, loaded.file) == (here / "sub" / "my_loss.py", str(here / "sub" / "my_loss.py"))
    assert loaded.sha256 == hashlib.sha256(OHKM.encode()).hexdigest()
    monkeypatch.chdir(here / "sub")
    by_flag = resolve(plugins=["my_loss.py", "./my_loss.py:Ohkm"], settings=["plugins.ohkm.keep=4"])
    assert list(by_flag.plugins) == ["my-loss", "ohkm"]
    assert by_flag.config.plugins["ohkm"]["keep"] == 4
    assert by_flag.plugins["ohkm"].file == str(here / "sub" / "my_loss.py") + ":Ohkm"
    assert by_flag.plugins["ohkm"].plugin_class is by_flag.plugins["my-loss"].plugin_class


def test_instances_have_their_settings(here, ohkm):
    resolved = from_values({"plugins": {"ohkm": {"keep": 3}}})
    made = resolved.create_plugins()
    assert made["ohkm"].config.keep == 3
    assert resolved.create_plugins()["ohkm"] is not made["ohkm"]


def test_a_plugin_that_cannot_be_created_is_named(here):
    source = OHKM + "\n    def __init__(self, config=None):\n        raise RuntimeError('no GPU')\n"
    (here / "bad.py").write_text(source)
    resolved = resolve(plugins=["./bad.py"])
    with pytest.raises(PluginError, match=r"plugin 'bad' \w+ .* cannot be created: RuntimeError: no GPU"):
        resolved.create_plugins()


def test_a_validator_that_breaks_is_the_plugins_fault(here):
    source = (
        "from pydantic import field_validator\nfrom ceph.hooks.base import Plugin, PluginConfig\n\n\n"
        "class C(PluginConfig):\n    x: int = 1\n\n    @field_validator('x')\n    @classmethod\n"
        "    def check(cls, v):\n        if v == 2:\n            raise KeyError('odd')\n"
        "        if v == 3:\n            raise ValueError('Three is not allowed')\n        return v\n\n\n"
        "class P(Plugin[C]):\n    pass\n"
    )
    (here / "odd.py").write_text(source)
    with pytest.raises(PluginError, match="cannot check its settings: KeyError: 'odd'"):
        resolve(plugins=["./odd.py"], settings=["plugins.odd.x=2"])
    with pytest.raises(Exception, match=r"--set:1:15: plugins.odd.x: three is not allowed"):
        resolve(plugins=["./odd.py"], settings=["plugins.odd.x=3"])
