"""Durations: one spelling in epochs or as a share of the run, read strictly and written back as it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from ceph.config.duration import Duration
from ceph.config.load import from_values, resolve
from ceph.config.schema import json_schema
from ceph.errors import ConfigError
from ceph.hooks.base import PluginConfig

WRITTEN = st.integers(0, 999) | st.floats(0, 999) | st.decimals(0, 100, places=2).map(lambda share: f"{share}%")


class Settings(PluginConfig):
    ramp: Duration = Field(default=Duration("20%"), description="how long")
    freeze: Duration | None = Field(default=None, gt=0, description="how long, if at all")


@pytest.mark.parametrize(
    ("written", "epochs"), [(3, 3), (0.5, 0.5), (0, 0), ("20%", 6), ("0%", 0), ("100%", 30), ("12.5%", 3.75), (40, 40)]
)
def test_a_duration_is_in_epochs_or_a_share_of_them(written, epochs):
    assert Duration(written).epochs(30) == epochs


@given(WRITTEN)
def test_it_is_written_back_as_it_was_and_reads_the_same_again(written):
    config = Settings.model_validate_json(json.dumps({"ramp": written}), strict=True)
    assert config.model_dump(mode="json")["ramp"] == written
    assert Settings.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    "wrong", [-1, "-20%", "3", "20", "% 20", "120%", "20 %", "soon", True, None, [3], ".5%", "1e1%"]
)
def test_what_is_neither_is_refused_and_both_spellings_are_told(wrong):
    with pytest.raises(ValidationError, match=r"epochs, as in 3, or a share of the run, as in 20%"):
        Settings.model_validate_json(json.dumps({"ramp": wrong}), strict=True)


@pytest.mark.parametrize("nothing", [0, 0.0, "0%", "0.0%"])
def test_a_setting_may_refuse_one_of_no_length(nothing):
    with pytest.raises(ValidationError, match="greater than 0"):
        Settings(freeze=nothing)
    assert Settings(freeze="0.1%").freeze == Duration("0.1%")


def test_a_wrong_one_is_told_with_its_place_in_the_file(tmp_path):
    (tmp_path / "ceph.yaml").write_text("train:\n  warmup_epochs: 2 epochs\n")
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path / "ceph.yaml")
    (problem,) = caught.value.problems
    assert (problem.key, problem.place.line, problem.place.column) == ("train.warmup_epochs", 2, 18)
    assert problem.what == "must be epochs, as in 3, or a share of the run, as in 20%, not '2 epochs'"


@pytest.mark.parametrize("written", ["20%", 2, 0.5])
def test_a_resolved_config_reads_back(written, tmp_path):
    resolved = from_values(
        {"train": {"warmup_epochs": written}, "plugins": {"weighted-loss": {"ramp_epochs": written}}}
    )
    (tmp_path / "config.yaml").write_text(resolved.dump())
    assert f"warmup_epochs: {written} " in resolved.dump()
    again = resolve(tmp_path / "config.yaml")
    assert again.config == resolved.config
    assert again.create_plugins()["weighted-loss"].config.ramp_epochs == Duration(written)


def test_the_schema_takes_both_spellings_and_gives_the_default_as_it_is_written():
    whole = json_schema()
    assert whole["$defs"]["Duration"]["anyOf"] == [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\d+(\.\d+)?%$"},
    ]
    assert Settings.model_json_schema()["properties"]["ramp"]["default"] == "20%"


@pytest.mark.parametrize(("written", "said"), [(3, "3 epochs"), (0.5, "0.5 epochs"), ("20%", "20% of the run")])
def test_it_stands_in_a_sentence(written, said):
    assert str(Duration(written)) == said
