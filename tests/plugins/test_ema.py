"""ema: the average is the closed form's, is what is evaluated and kept, and survives a resume bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.training.runs import ALL, last_weights, same_weights
from torch import nn

import ceph
from ceph.hooks.verbs import Hooks
from ceph.training import checkpoint
from ceph_plugins.ema import Ema, EmaConfig, decay_after


def stepped(plugin, model, steps, seed=0):
    """Let the model take random steps and tell the plugin of each; returns its states after them."""
    hooks, rng, states = Hooks({"ema": plugin}), torch.Generator().manual_seed(seed), []
    for step in range(steps):
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor += torch.ones_like(tensor) if tensor.ndim == 0 else torch.randn(tensor.shape, generator=rng)
        hooks.tell("step_end", step=step + 1, model=model, loss=torch.zeros(()))
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return states


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
def test_after_n_steps_weights_and_buffers_are_the_closed_form_average(decay):
    model, plugin = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), Ema(EmaConfig(decay=decay))
    states = stepped(plugin, model, 7)
    decays = [min(decay, (1 + n) / (10 + n)) for n in range(7)]
    shares = [1.0] + [1 - d for d in decays[1:]]  # the first step begins the average
    for later in range(1, 7):
        shares[:later] = [share * decays[later] for share in shares[:later]]
    assert sum(shares) == pytest.approx(1.0)
    average = plugin.eval_model(model=model).state_dict()
    assert list(average) == list(model.state_dict())
    for name, tensor in average.items():
        if tensor.is_floating_point():
            expected = sum(share * state[name].double() for share, state in zip(shares, states, strict=True))
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-6)
        else:
            assert tensor == 7  # a counter is copied


def test_a_step_reads_nothing_so_it_cannot_wait_for_the_device():
    model, plugin = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).to("meta"), Ema()
    for _ in range(2):
        plugin.step_end(model=model)  # a number of the device `meta` cannot be read
    with pytest.raises(RuntimeError):
        plugin.eval_model(model=model)[0].weight.sum().item()


def test_the_model_itself_is_evaluated_before_any_step_and_is_never_changed():
    model, plugin = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), Ema()
    assert plugin.eval_model(model=model) is model
    (state,) = stepped(plugin, model, 1)
    average = plugin.eval_model(model=model)
    assert average is not model
    assert not average.training
    assert model.training
    assert same_weights(average.state_dict(), state)  # the average of one step is that step
    assert same_weights(model.state_dict(), state)
    assert not any(p.requires_grad for p in average.parameters())
    assert all(p.requires_grad for p in model.parameters())


@given(st.integers(0, 10**6), st.floats(0, 0.9999))
def test_the_decay_grows_from_a_tenth_to_its_setting(steps, decay):
    found = decay_after(steps, decay)
    assert found == decay or 0.1 <= found < decay
    assert found <= decay_after(steps + 1, decay)
    assert decay_after(10**7, decay) == decay


def test_its_state_is_taken_back_bit_for_bit_before_and_after_the_model_is_seen(tmp_path):
    model, plugin = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), Ema()
    assert Hooks({"ema": plugin}).state_dict() == {"ema": {}}
    stepped(plugin, model, 3)
    torch.save(Hooks({"ema": plugin}).state_dict(), tmp_path / "state.pt")
    other = Ema()
    hooks = Hooks({"ema": other})
    hooks.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert same_weights(hooks.state_dict()["ema"]["average"], plugin.state_dict()["average"])
    stepped(plugin, model, 2, seed=1)
    twin = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    twin.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True)["ema"]["average"])
    model_then = {name: t.clone() for name, t in model.state_dict().items()}
    hooks.tell("step_end", step=4, model=twin, loss=torch.zeros(()))
    assert other.steps == 4
    assert same_weights(model.state_dict(), model_then)


def test_a_resumed_run_has_the_same_average_and_best_holds_it(whole, tiny, tmp_path):
    half = ceph.train(tiny(plugins={"ema": {}}, train={"stop_after": 1}), out=tmp_path / "half").folder
    config = half / "config.yaml"
    config.write_text(config.read_text().replace("stop_after: 1", "stop_after: null"))
    ceph.resume(half)
    one, other = (checkpoint.load(f / "checkpoints", checkpoint.LAST)["plugins"]["ema"] for f in (whole, half))
    assert one["steps"] == other["steps"] == 6  # twelve films in batches of four, two epochs
    assert same_weights(one["average"], other["average"])
    assert same_weights(last_weights(whole), last_weights(half))
    assert (whole / "metrics.jsonl").read_text() == (half / "metrics.jsonl").read_text()
    best = checkpoint.load(whole / "checkpoints", checkpoint.BEST)
    if best["epoch"] == 1:
        assert same_weights(best["model"], one["average"])
    assert not same_weights(last_weights(whole), one["average"])


@pytest.mark.slow  # in `make test` the shelf is killed and resumed by tests/reliability/test_kills.py
def test_the_whole_shelf_trains_beside_the_four_and_resumes_in_the_same_weights(tiny, tmp_path):
    shelf = {"ema": {}, "tta": {}, "shape-prior": {"warmup_epochs": 0}, "annotator-noise": {}, "hard-only": {}}
    shelf |= {"attention-head": {}, "fine-tune": {"freeze": 2, "freeze_epochs": 1}}
    plugins, epochs = {**ALL, **shelf}, {"epochs": 2, "monitor": "plugins.hard_mre_mm"}
    whole = ceph.train(tiny(plugins=plugins, train=epochs), out=tmp_path / "whole").folder
    half = ceph.train(tiny(plugins=plugins, train={**epochs, "stop_after": 1}), out=tmp_path / "half").folder
    config = half / "config.yaml"
    config.write_text(config.read_text().replace("stop_after: 1", "stop_after: null"))
    ceph.resume(half)
    assert same_weights(last_weights(whole), last_weights(half))
    assert (whole / "metrics.jsonl").read_text() == (half / "metrics.jsonl").read_text()


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The folder of an uninterrupted run with it."""
    return ceph.train(tiny(plugins={"ema": {}}), out=tmp_path_factory.mktemp("ema") / "whole").folder


def test_training_itself_is_not_changed(whole, tiny_run):
    assert same_weights(last_weights(whole), last_weights(tiny_run))


@pytest.mark.parametrize("wrong", [{"decay": 1.0}, {"decay": -0.1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        EmaConfig(**wrong)
