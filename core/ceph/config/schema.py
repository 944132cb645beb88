"""The JSON schema of the whole config file, with the section of every installed plugin (which it imports)."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from ceph.config.layers import preset_names
from ceph.config.models import Config
from ceph.errors import CephError
from ceph.hooks import discovery

_REFERENCE = "#/$defs/{model}"


def json_schema() -> dict[str, Any]:
    """The schema as plain values; a plugin that cannot be imported stands with any settings and the reason."""
    loaded, broken = _load_all()
    models = [
        (Config, "validation"),
        *((plugin.plugin_class.config_model(), "validation") for plugin in loaded.values()),
    ]
    unique: list[Any] = list(dict.fromkeys(models))
    refs, whole = models_json_schema(unique, by_alias=True, ref_template=_REFERENCE)
    definitions: dict[str, Any] = whole["$defs"]
    config = definitions.pop(refs[Config, "validation"]["$ref"].rpartition("/")[2])
    properties: dict[str, Any] = config["properties"]
    for name, section in properties.items():
        if name != "plugins":  # a section whose keys are all commented out is null
            properties[name] = {"anyOf": [section, {"type": "null"}]}
    properties["plugins"] = {
        "description": properties["plugins"]["description"],
        "type": ["object", "null"],
        "properties": {
            **{
                name: _section(refs[plugin.plugin_class.config_model(), "validation"], plugin)
                for name, plugin in loaded.items()
            },
            **{name: {"type": ["object", "null"], "description": reason} for name, reason in broken.items()},
        },
        "additionalProperties": {
            "description": "a plugin in a file, with its settings",
            "type": "object",
            "properties": {"from": {"type": "string", "pattern": r"\.py(:\w+)?$"}},
            "required": ["from"],
        },
    }
    properties = {"extends": _extends(), **properties}
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "ceph config",
        "description": config.get("description", ""),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions,
    }


def _load_all() -> tuple[dict[str, discovery.LoadedPlugin], dict[str, str]]:
    loaded: dict[str, discovery.LoadedPlugin] = {}
    broken: dict[str, str] = {}
    for name in sorted({plugin.name for plugin in discovery.installed()}):
        try:
            loaded[name] = discovery.load(name)
        except CephError as error:
            broken[name] = str(error)
    return loaded, broken


def _section(reference: dict[str, Any], plugin: discovery.LoadedPlugin) -> dict[str, Any]:
    description = (plugin.plugin_class.__doc__ or "").strip().split("\n", 1)[0]
    return {"description": description, "anyOf": [reference, {"type": "null"}]}


def _extends() -> dict[str, Any]:
    return {
        "description": "what this file builds on: the name of a preset, or another file, relative to this one",
        "anyOf": [{"enum": preset_names()}, {"type": "string", "pattern": r"[/\\]|\.ya?ml$"}],
    }
