"""What the class of a plugin declares: its settings, and the names of others."""

from __future__ import annotations

from types import new_class
from typing import Generic, TypeVar

import pytest
from pydantic import BaseModel

from ceph.hooks.base import Plugin, PluginConfig

T = TypeVar("T")
C = TypeVar("C", bound=PluginConfig)


class Settings(PluginConfig):
    strength: float = 1.0


class Mixed(Generic[T]):
    pass


class Base(Plugin[C]):
    pass


def test_settings_are_found_through_a_base_and_beside_other_generics():
    class Mine(Mixed[int], Base[Settings]):
        pass

    class Plain(Plugin):
        pass

    assert Mine.config_model() is Settings
    assert Plain.config_model() is PluginConfig
    assert Mine().config.strength == 1.0


class Other(BaseModel):
    pass


def test_settings_that_are_no_plugin_config_are_refused():
    with pytest.raises(TypeError, match=r"its settings Other are no PluginConfig: write class Other\(PluginConfig\)"):
        new_class("Mine", (Plugin[Other],))


@pytest.mark.parametrize("names", ["ema", ("ema", 3), None, {"ema"}])
@pytest.mark.parametrize("relation", ["requires", "conflicts"])
def test_relations_are_tuples_of_names(relation, names):
    with pytest.raises(TypeError, match=f"^{relation} is .*: write a tuple of plugins' names"):
        type("Mine", (Plugin,), {relation: names})
