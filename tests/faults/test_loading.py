"""Plugins that cannot be loaded: the message names the plugin, its version and what to do."""

from __future__ import annotations

import hashlib
import logging

import pytest
from tests.config.fakes import OHKM, install

from ceph.config.load import from_values
from ceph.errors import CephError, ConfigError, PluginError
from ceph.hooks import base
from ceph.run.assembly import make_hooks

SOUND = OHKM.replace("ceph.hooks.base", "ceph.plugin")
API = "    api = {}\n\n    @hookimpl\n    def landmark_weights"
INIT = "    def __init__(self, config=None):\n        pass\n\n    @hookimpl\n    def landmark_weights"
BROKEN = {
    "relation as text": (
        SOUND.replace("    @hookimpl", "    conflicts = 'ema'\n\n    @hookimpl"),
        "cannot be imported: TypeError: conflicts is 'ema': write a tuple of plugins' names",
        "--without mine",
    ),
    "settings of another kind": (
        SOUND.replace("OhkmConfig(PluginConfig)", "OhkmConfig(pydantic.BaseModel)").replace(
            "from pydantic", "import pydantic\nfrom pydantic"
        ),
        "TypeError: its settings OhkmConfig are no PluginConfig: write class OhkmConfig(PluginConfig)",
        "--without mine",
    ),
    "no super": (
        SOUND.replace("    @hookimpl\n    def landmark_weights", INIT),
        "its __init__ leaves it without `config`",
        "super().__init__(config)",
    ),
    "no self": (
        SOUND.replace("(self, batch, loss)", "(batch, loss)"),
        "the method has no `self`",
        "write def landmark_weights(self, batch, loss)",
    ),
    "a property": (
        SOUND.replace("    @hookimpl", "    @property\n    @hookimpl").replace("(self, batch, loss)", "(self)"),
        "is named like a hook but is no method",
        "write a plain method",
    ),
    "name of a newer door": (
        SOUND.replace("import Plugin,", "import NotYet, Plugin,"),
        "cannot import name 'NotYet' from 'ceph.plugin'",
        "upgrade ceph-trainer",
    ),
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
        "its api is 'new', no whole number",
        f"write api = {base.API}",
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


def test_what_is_required_and_not_installed_is_said_to_be_so(tmp_path):
    text = SOUND.replace("    @hookimpl", "    requires = ('not-there',)\n\n    @hookimpl")
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError) as found:
        switch_on(str(tmp_path / "mine.py"))
    for word in ("plugins.mine: needs the plugin not-there, which is not installed", "hint: install what provides it"):
        assert word in str(found.value)


def test_settings_whose_check_ends_the_process_are_told(tmp_path):
    check = (
        "    @pydantic.field_validator('keep')\n    def ends(cls, value):\n        raise SystemExit(0)\n\n\nclass Ohkm"
    )
    text = SOUND.replace("class Ohkm(", f"{check}(").replace("from pydantic", "import pydantic\nfrom pydantic")
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(PluginError, match=r"cannot check its settings: SystemExit: 0[\s\S]*--without mine"):
        from_values({}, plugins=[str(tmp_path / "mine.py")], settings=["plugins.mine.keep=3"])


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
