"""The JSON schema covers every key of every section, with the settings of installed plugins."""

from __future__ import annotations

import json
import re

from tests.config.fakes import OHKM, install

from ceph.config.load import resolve
from ceph.config.models import Config
from ceph.config.schema import json_schema
from ceph.config.starter import keys, starter


def test_every_key_stands_in_the_schema_with_its_description():
    schema = json_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"extends", *Config.model_fields}
    for key, field in keys():
        section, _, name = key.partition(".")
        reference = schema["properties"][section]["anyOf"][0]["$ref"].rpartition("/")[2]
        definition = schema["$defs"][reference]
        assert definition["properties"][name]["description"] == field.description
        assert definition["additionalProperties"] is False


def test_an_installed_plugin_has_its_section_and_a_broken_one_its_reason(here, monkeypatch):
    install(here / "site", monkeypatch, name="ohkm")
    install(here / "site", monkeypatch, name="broken", distribution="broken", source="1 / 0\n")
    install(here / "site", monkeypatch, name="twin", distribution="twin", source=OHKM.replace("8", "9"))
    schema = json_schema()
    plugins = schema["properties"]["plugins"]["properties"]
    assert plugins["ohkm"]["description"] == "Only the hardest landmarks count."
    references = {name: plugins[name]["anyOf"][0]["$ref"].rpartition("/")[2] for name in ("ohkm", "twin")}
    assert references["ohkm"] != references["twin"]
    for reference in references.values():
        assert schema["$defs"][reference]["properties"]["keep"]["exclusiveMinimum"] == 0
    assert "cannot be imported: ZeroDivisionError" in plugins["broken"]["description"]


def test_the_starter_file_names_every_key_and_resolves_to_what_it_extends(here):
    text = starter()
    (here / "ceph.yaml").write_text(text)
    assert resolve().config == resolve(preset="quick").config
    for key, _ in keys():
        assert f"  # {key.partition('.')[2]}: " in text
    sections = text.partition("# Plugins that are on")[0].replace("extends: quick", "")
    (here / "all.yaml").write_text(re.sub(r"^  # (\w+: )", r"  \1", sections, flags=re.MULTILINE))
    assert resolve(here / "all.yaml").config == Config()
