"""Plugins that cannot be loaded: the message names the plugin, its version and what to do."""

from __future__ import annotations

import hashlib
import logging

import pytest
from tests.config.fakes import OHKM, install

from ceph.assembly import make_hooks
from ceph.config.load import from_values
from ceph.errors import CephError, ConfigError, PluginError
from ceph.hooks import base

SOUND = OHKM.replace("ceph.hooks.base", "ceph.plugin")
API = "    api = {}\n\n    @hookimpl\n    def landmark_weights"
BROKEN = {
    "import error": (
        f"import no_such_module\n{SOUND}",
        "mine.py:1) cannot be imported: ModuleNotFoundError",
        "install",
    ),
    "exit on import": (f"{SOUND}\nraise SystemExit(3)\n", "cannot be imported: SystemExit: 3", "--without mine"),
    "syntax error": (f"{SOUND}\nclass (:\n", "cannot be imported: SyntaxError", "--without mine"),
    "no plugin": ("class Mine:\n    pass\n", "has no Plugin subclass", "write class Name(Plugin[NameConfig])"),
    "two plugins": (
        f"{SOUND}\n\nclass Two(Ohkm):\n    pass\n",
        "several Plugin subclasses (Ohkm, Two)",
        "mine.py:Ohkm",
    ),
    "no start": (
        SOUND.replace("    @hookimpl", "    def __init__(self, config=None):\n        1 / 0\n\n    @hookimpl"),
        "cannot be created: ZeroDivisionError",
        "--without mine",
    ),
    "no mark": (SOUND.replace("    @hookimpl\n", ""), "lacks @hookimpl", "put @hookimpl above the method"),
    "no such hook": (SOUND.replace("def landmark_weights", "def landmark_weight"), "no such hook", "landmark_weights"),
    "no such argument": (SOUND.replace("batch, loss)", "batch, losses)"), "no argument 'losses'", "'loss'"),
    "api too new": (
        SOUND.replace("    @hookimpl\n    def landmark_weights", API.format(base.API + 1)),
        f"written for api {base.API + 1} of the hooks, and this ceph has api {base.API}",
        "upgrade ceph-trainer",
    ),
    "api of a wrong kind": (
        SOUND.replace("    @hookimpl\n    def landmark_weights", API.format("'new'")),
        "written for api 'new' of the hooks",
        "upgrade ceph-trainer",
    ),
}


def switch_on(value):
    return make_hooks(from_values({}, plugins=[value]))


@pytest.mark.parametrize(("text", "what", "remedy"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_sound_plugin_is_named_with_its_version_and_a_remedy(text, what, remedy, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises((ConfigError, PluginError)) as found:
        switch_on(str(path))
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    for word in ("mine", version, what, "hint: ", remedy):
        assert word in str(found.value)


def test_a_plugin_of_an_api_too_new_is_refused_for_that_alone(tmp_path):
    text = BROKEN["api too new"][0] + "\n    @hookimpl\n    def hook_of_tomorrow(self):\n        return 1\n"
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError) as found:
        switch_on(str(tmp_path / "mine.py"))
    assert "hook_of_tomorrow" not in str(found.value)
    assert f"for api {base.API}" in str(found.value)


def test_a_name_taken_by_two_distributions_names_both(tmp_path, monkeypatch):
    install(tmp_path / "a", monkeypatch, name="mine", distribution="first", source=SOUND)
    install(tmp_path / "b", monkeypatch, name="mine", distribution="second", version="3", source=SOUND)
    with pytest.raises(ConfigError) as found:
        switch_on("mine")
    for word in ("plugins.mine", "'mine' is given by first 1.2 and second 3", "hint: ", "uninstall one"):
        assert word in str(found.value)


def test_a_file_with_the_name_of_an_installed_plugin_is_taken_with_a_warning(tmp_path, monkeypatch, caplog):
    install(tmp_path / "a", monkeypatch, name="mine", source=SOUND)
    path = tmp_path / "mine.py"
    path.write_text(SOUND.replace("default=8", "default=7"))
    with caplog.at_level(logging.WARNING, logger="ceph"):
        hooks = switch_on(str(path))
    assert hooks.plugins["mine"].config.keep == 7
    for word in (f"'mine' {hooks.versions['mine']}", str(path), "fake-dist 1.2", "hint: rename the file"):
        assert word in caplog.text


@pytest.mark.parametrize("order", [1, -1])
def test_one_name_from_two_places_in_one_call_is_an_error_that_names_both(tmp_path, order):
    (tmp_path / "ema.py").write_text(SOUND)
    values = ["ema", str(tmp_path / "ema.py")][::order]
    with pytest.raises(ConfigError) as found:
        from_values({}, plugins=[*values, values[0]])
    for word in (f"both --plugin {values[0]} and --plugin {values[1]} are the plugin 'ema'", "hint: ", "rename"):
        assert word in str(found.value)
    assert from_values({}, plugins=[values[0], values[0]]).config.plugins.keys() == {"ema"}


def test_the_file_of_an_installed_plugin_is_taken_in_silence(tmp_path, monkeypatch, caplog):
    install(tmp_path, monkeypatch, name="mine", source=SOUND)
    (tmp_path / "mine.py").write_text(SOUND)
    with caplog.at_level(logging.WARNING, logger="ceph"):
        switch_on(str(tmp_path / "mine.py"))
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["import error", "two plugins", "api too new"])
def test_nothing_is_written_for_a_plugin_that_cannot_be_loaded(name, tiny, tmp_path):
    import ceph

    (tmp_path / "mine.py").write_text(BROKEN[name][0])
    with pytest.raises(CephError):
        ceph.train(tiny(plugins={"mine": {"from": str(tmp_path / "mine.py")}}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
