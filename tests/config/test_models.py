"""The models: every key is described, nothing can be changed, and nothing is coerced."""

from __future__ import annotations

import copy
import pickle

import pytest
from pydantic import ValidationError

from ceph.config.load import resolve
from ceph.config.models import Config, ReadOnly, TrainConfig, read_only
from ceph.config.starter import keys


@pytest.mark.parametrize(("key", "field"), list(keys()))
def test_every_key_is_described(key, field):
    assert field.description
    assert field.default is not None or "null" in field.description


def test_defaults_are_those_of_the_design():
    config = Config()
    assert (config.data.size, config.train.lr, config.train.epochs) == ((512, 416), 1e-3, 60)
    assert (config.target_kind, config.decoder) == ("distribution", "dark")


@pytest.mark.parametrize(
    ("loss", "kind"),
    [("cross-entropy", "distribution"), ("adaptive-wing", "heatmap"), ("mse", "heatmap"), ("focal", "heatmap")],
)
def test_the_kind_of_target_follows_the_loss(loss, kind):
    assert resolve(settings=[f"loss.name={loss}"]).config.target_kind == kind
    assert resolve(settings=[f"loss.name={loss}", f"target.kind={kind}"]).config.target_kind == kind


def test_evaluation_may_have_its_own_decoder():
    assert resolve(settings=["evaluate.decoder=argmax"]).config.decoder == "argmax"


@pytest.mark.parametrize(
    "bad", [{"epochs": "8"}, {"epochs": 8.5}, {"epochs": True}, {"lr": "1e-3"}, {"lr": float("inf")}, {"x": 1}]
)
def test_nothing_is_coerced(bad):
    with pytest.raises(ValidationError):
        TrainConfig(**bad)


def test_the_config_is_frozen_all_the_way_down():
    plugins = read_only({"a": {"b": [1, {"c": 2}]}})
    config = Config(plugins=plugins)
    with pytest.raises(ValidationError):
        config.train = TrainConfig()
    with pytest.raises(ValidationError):
        config.train.lr = 1.0
    for change in (
        lambda: config.plugins.update(x={}),
        lambda: config.plugins.__setitem__("x", {}),
        lambda: config.plugins["a"].pop("b"),
        lambda: config.plugins["a"]["b"][1].clear(),
    ):
        with pytest.raises(TypeError, match="read-only"):
            change()
    assert config.plugins["a"]["b"] == (1, {"c": 2})


def test_the_config_travels_to_other_processes():
    config = Config(plugins={"a": {"b": [1, 2]}})
    for same in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config)):
        assert same == config
        assert isinstance(same.plugins["a"], ReadOnly)
