"""fine-tune: rates by stage, frozen stages that stay as they are, and the same after a resume."""

import logging

import pytest
import torch
from pydantic import ValidationError
from tests.training.runs import last_weights, same_weights
from torch import nn

import ceph
from ceph.config.load import from_values
from ceph.hooks.verbs import Hooks
from ceph.model.network import LandmarkNetwork
from ceph.model.zoo import create_model
from ceph.run.prepare import prepare
from ceph.training.optim import adamw, warmup_cosine
from ceph_plugins.fine_tune import FineTune, FineTuneConfig, split_by_rate, stages


@pytest.fixture
def network():
    torch.manual_seed(0)
    return LandmarkNetwork("test_resnet", 3, width=8)


def names(backbone):
    """The stages as names of the backbone's modules."""
    of = {id(module): name for name, module in backbone.named_modules()}
    return [[of[id(module)] for module in part] for part in stages(backbone)]


def optimizer_of(model, tiny, **settings):
    values = tiny(train={"lr": 1e-2, "weight_decay": 0.3}, plugins={"fine-tune": settings})
    run = prepare(from_values(values)).run
    hooks = Hooks({"fine-tune": FineTune(FineTuneConfig(**settings))})
    core = (adamw(model, 1e-2, 0.3), warmup_cosine(2, 0.5))
    return hooks.one("build_optimizer", lambda: core, model=model, run=run), core


STAGES = {
    "test_resnet": [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]],
    "tf_efficientnet_lite0": [["conv_stem", "bn1"], *([f"blocks.{i}"] for i in range(7))],
}


@pytest.mark.parametrize("backbone", STAGES)
def test_stages_go_from_the_input_to_the_output_and_have_every_weight_once(backbone):
    model = create_model(backbone, features_only=True, pretrained=False, in_chans=1)
    assert names(model) == STAGES[backbone]
    found = [p for part in stages(model) for module in part for p in module.parameters()]
    assert [id(p) for p in found] == [id(p) for p in model.parameters()]


def test_each_stage_has_its_rate_and_the_head_the_whole(network, tiny):
    (optimizer, schedule), core = optimizer_of(network, tiny, backbone_lr=0.5, layer_decay=0.1)
    assert schedule is core[1]
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert rate.keys() == {id(p) for p in network.parameters()}
    for i, part in enumerate(stages(network.backbone)):
        for p in (p for module in part for p in module.parameters()):
            assert rate[id(p)] == pytest.approx(1e-2 * 0.5 * 0.1 ** (4 - i))
    assert rate[id(network.head.weight)] == rate[id(network.smooth[0][0].weight)] == 1e-2
    for name, p in network.named_parameters():
        assert decay[id(p)] == (0.3 if p.ndim > 1 else 0.0), name


def test_without_a_decay_there_is_one_rate_for_the_backbone(network, tiny):
    (optimizer, _), _ = optimizer_of(network, tiny, backbone_lr=0.1)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([1e-3, 1e-2])
    assert len(optimizer.param_groups) == 4  # with and without weight decay


def test_splitting_keeps_the_kind_of_optimiser_and_its_options():
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    optimizer = torch.optim.SGD([{"params": weights, "momentum": 0.7}], lr=2.0)
    split_by_rate(optimizer, lambda p: 0.5 if p is weights[1] else 1.0)
    assert [(g["lr"], g["momentum"], len(g["params"])) for g in optimizer.param_groups] == [
        (2.0, 0.7, 2),
        (1.0, 0.7, 1),
    ]


def weights_of(folder, network, part):
    """The state of some stages, norms' statistics included, in a run's last checkpoint."""
    wanted = tuple(f"backbone.{name}." for stage in names(network.backbone)[part] for name in stage)
    return {name: t for name, t in last_weights(folder).items() if name.startswith(wanted)}


def trained(tiny, out, **settings):
    """The folder of two epochs of six steps."""
    return ceph.train(tiny(plugins={"fine-tune": settings}), out=out).folder


def test_what_is_frozen_for_good_ends_as_it_began_and_all_else_learns(tiny, tmp_path, network):
    start = ceph.train(tiny(train={"epochs": 1, "lr": 1e-30, "weight_decay": 0}), out=tmp_path / "start").folder
    folder = tmp_path / "run"
    ceph.train(tiny(plugins={"fine-tune": {"freeze": 2}}), out=folder, init_from=start)
    frozen, free = slice(0, 2), slice(2, None)
    assert len(weights_of(folder, network, frozen)) > 10
    best = ceph.load(start).model.state_dict()
    assert all(torch.equal(t, best[name]) for name, t in weights_of(folder, network, frozen).items())
    assert not any(
        torch.equal(t, best[name]) for name, t in weights_of(folder, network, free).items() if t.is_floating_point()
    )


@pytest.mark.parametrize("freeze_epochs", [2, "25%"])
def test_frozen_stages_are_in_evaluation_mode_without_gradients_and_thaw(network, make_run, freeze_epochs):
    hooks = Hooks({"fine-tune": FineTune(FineTuneConfig(freeze="all", freeze_epochs=freeze_epochs))})
    hooks.tell("run_start", run=make_run(epochs=8), model=network)
    for epoch, frozen in [(0, True), (1, True), (2, False), (3, False)]:
        network.train()
        hooks.tell("epoch_start", epoch=epoch, model=network)
        assert all(p.requires_grad != frozen for p in network.backbone.parameters())
        norms = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(norm.training != frozen for norm in norms)
        assert network.head.weight.requires_grad
        assert network.smooth.training


def test_a_resumed_run_thaws_as_the_whole_one_does(tiny, tmp_path, network):
    plugins, epochs = {"fine-tune": {"freeze": "all", "freeze_epochs": 1, "layer_decay": 0.5}}, {"epochs": 2}
    whole = ceph.train(tiny(plugins=plugins, train=epochs), out=tmp_path / "whole").folder
    half = ceph.train(tiny(plugins=plugins, train={**epochs, "stop_after": 1}), out=tmp_path / "half").folder
    everything = slice(0, None)
    frozen = weights_of(half, network, everything)
    config = half / "config.yaml"
    config.write_text(config.read_text().replace("stop_after: 1", "stop_after: null"))
    ceph.resume(half)
    assert same_weights(last_weights(whole), last_weights(half))
    assert not same_weights(frozen, weights_of(half, network, everything))


def test_the_rates_are_told(tiny, network, caplog):
    with caplog.at_level(logging.INFO, logger="ceph"):
        optimizer_of(network, tiny, layer_decay=0.5)
    assert "5 parts from its input: 6.25e-05, 0.000125, 0.00025, 0.0005, 0.001" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone_lr": 0},
        {"layer_decay": 0},
        {"layer_decay": 1.1},
        {"freeze": -1},
        {"freeze": "stem"},
        {"freeze_epochs": 0},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        FineTuneConfig(**wrong)
