"""Layers: defaults < extends < file < --preset < flags; mappings merge, lists replace, every value has an origin."""

from __future__ import annotations

import pytest

from ceph.config import layers
from ceph.config.load import from_values, resolve
from ceph.errors import ConfigError


@pytest.fixture
def presets(tmp_path, monkeypatch):
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "demo.yaml").write_text("train: {epochs: 3}\n")
    (folder / "low.yaml").write_text("train: {epochs: 11, lr: 0.5, batch_size: 4}\ndata: {size: [32, 48]}\n")
    (folder / "high.yaml").write_text("extends: low\ntrain: {lr: 0.25}\n")
    monkeypatch.setattr(layers, "PRESETS", folder)


def test_each_layer_covers_the_ones_below(here, presets):
    (here / "base.yaml").write_text("extends: low\ntrain: {batch_size: 5, accumulate: 2}\n")
    (here / "c.yaml").write_text("extends: base.yaml\ntrain:\n  accumulate: 3\n  clip_norm: 0\n")
    resolved = resolve(here / "c.yaml", preset="high", settings=["train.clip_norm=1"], seed=7)
    train = resolved.config.train
    assert (train.epochs, train.lr, train.batch_size, train.accumulate, train.clip_norm, train.seed) == (
        11,
        0.25,
        4,
        3,
        1,
        7,
    )
    assert resolved.provenance["train.epochs"] == "preset low"
    assert resolved.provenance["train.lr"] == "preset high"
    assert resolved.provenance["train.accumulate"] == f"{here}/c.yaml:3"
    assert resolved.provenance["train.clip_norm"] == "--set"
    assert resolved.provenance["train.seed"] == "--seed"
    assert resolved.provenance["train.weight_decay"] == "default"


def test_extends_lies_below_the_file_and_a_preset_above(here, presets):
    (here / "ceph.yaml").write_text("extends: low\ntrain: {epochs: 20, lr: 0.75}\n")
    assert resolve().config.train.lr == 0.75
    assert resolve(preset="low").config.train.lr == 0.5
    assert resolve(preset="low").provenance["train.lr"] == "preset low"


def test_lists_replace_and_mappings_merge(here):
    (here / "ceph.yaml").write_text("data: {size: [512, 416], truth: senior}\nevaluate: {scales: [1, 2, 3]}\n")
    config = resolve(settings=["data.size=[32, 64]", "evaluate={scales: [0.5]}"]).config
    assert (config.data.size, config.data.truth, config.evaluate.scales) == ((32, 64), "senior", (0.5,))


def test_demo_is_the_bottom_only_where_nothing_is_said(here, presets):
    assert resolve().config.train.epochs == 3
    assert resolve(settings=["train.lr=0.5"]).config.train.epochs == 3
    assert resolve(data=here).config.train.epochs == 60
    assert resolve(settings=[f"data.path={here}"]).config.train.epochs == 60
    assert resolve(preset="low").config.train.epochs == 11
    (here / "ceph.yaml").write_text("")
    assert resolve().config.train.epochs == 60


def test_the_file_of_the_current_folder_is_read_unless_another_is_named(here):
    (here / "ceph.yaml").write_text("train: {epochs: 4}\n")
    (here / "other.yaml").write_text("train: {lr: 0.5}\n")
    assert resolve().provenance["train.epochs"] == "ceph.yaml:1"
    assert resolve(here / "other.yaml").config.train.epochs == 60


def test_later_settings_win(here):
    assert resolve(seed=3, settings=["train.seed=4", "train.seed=5"]).config.train.seed == 5


def test_paths_start_at_the_file_that_names_them_or_at_the_current_folder(here, monkeypatch):
    (here / "sub").mkdir()
    (here / "sub" / "base.yaml").write_text("data: {path: ./films, cache: ../cache}\nmodel: {weights: w.pth}\n")
    (here / "c.yaml").write_text("extends: sub/base.yaml\n")
    config = resolve(here / "c.yaml").config
    assert (config.data.path, config.data.cache) == (here / "sub" / "films", str(here / "cache"))
    assert config.model.weights == str(here / "sub" / "w.pth")
    monkeypatch.chdir(here / "sub")
    assert resolve(here / "c.yaml", settings=["data.path=x"]).config.data.path == here / "sub" / "x"
    assert resolve(here / "c.yaml", data=here / "sub" / ".." / "y").config.data.path == here / "y"


@pytest.mark.parametrize(
    "setting", ["data.path=~no-such-user/x", "model.weights=~no-such-user/x", "plugins.a.from=~no-such-user/x.py"]
)
def test_a_home_that_is_not_there_is_an_error(setting):
    with pytest.raises(ConfigError, match="home directory"):
        resolve(settings=[setting])


def test_extends_may_start_at_the_home_folder(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    (here / "home").mkdir()
    (here / "home" / "base.yaml").write_text("train: {epochs: 2}\n")
    (here / "ceph.yaml").write_text("extends: ~/base.yaml\n")
    assert resolve().config.train.epochs == 2
    (here / "ceph.yaml").write_text("extends: ~no-such-user/base.yaml\n")
    with pytest.raises(ConfigError, match="home directory"):
        resolve()


def test_words_of_cache_and_weights_are_no_paths(here):
    config = resolve(settings=["data.cache=none", "model.weights=hub"]).config
    assert (config.data.cache, config.model.weights) == ("none", "hub")


def test_an_empty_section_changes_nothing(here):
    (here / "ceph.yaml").write_text("extends: quick\ndata:\ntrain:\n  # epochs: 3\nplugins:\n")
    assert resolve().config == resolve(preset="quick").config


def test_python_values_resolve_like_a_file(here):
    resolved = from_values(
        {"data": {"path": here / "films", "size": (32, 48)}, "train": {"lr": 1}}, settings=["train.epochs=2"]
    )
    assert (resolved.config.data.path, resolved.config.data.size, resolved.config.train.lr) == (
        here / "films",
        (32, 48),
        1.0,
    )
    assert (resolved.provenance["train.lr"], resolved.provenance["train.epochs"]) == ("python", "--set")
    assert from_values({"extends": "quick"}).config == resolve(preset="quick").config


@pytest.mark.parametrize(
    "values", [{"train": {"lr": float("nan")}}, {"train": {"lr": object()}}, {1: 2}, {"train": {"epochs": "8"}}]
)
def test_python_values_are_checked_like_a_file(values):
    with pytest.raises(ConfigError):
        from_values(values)


def test_every_shipped_preset_resolves_and_says_what_it_is_for():
    assert layers.preset_names() == ["base", "demo", "fine-tune-hard", "high-res", "quick", "sharp"]
    for name in layers.preset_names():
        assert resolve(preset=name).provenance["train.epochs"] == f"preset {name}"
        assert (layers.PRESETS / f"{name}.yaml").read_text().startswith("# ")
    assert resolve(preset="high-res").config.model.backbone == resolve(preset="base").config.model.backbone
    for name in ("demo", "quick"):
        assert resolve(preset=name).config.model.weights == "offline"
