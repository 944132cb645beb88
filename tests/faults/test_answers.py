"""Every hook times every fault: the message names the plugin, its version, the hook and a remedy."""

from __future__ import annotations

import copy
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.faults.table import ARGUMENTS, FAULTS, GOOD, TELL, source

from ceph.data.augment import Augmentation
from ceph.data.types import Batch, Sample
from ceph.errors import PluginError
from ceph.hooks import discovery
from ceph.hooks.base import Run
from ceph.hooks.misuse import hook_arguments
from ceph.hooks.specs import VERBS
from ceph.hooks.verbs import Hooks
from ceph.model.codec import GaussianCodec, activate
from ceph.training.loss import cross_entropy

FILMS, LANDMARKS, SIZE, MAP = 2, 3, (32, 32), (8, 8)
IMAGES = torch.rand(FILMS, 1, *SIZE)
CONFIG = SimpleNamespace(model=SimpleNamespace(stride=4))
CODEC = GaussianCodec("distribution", 1.0, 4, "local-soft-argmax")


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Conv2d(1, LANDMARKS, 5, stride=4, padding=2)

    def forward(self, images):
        return self.backbone(images)


def sample():
    points = np.full((2, LANDMARKS, 2), 9.0)
    return Sample("1", "train", "1", "", (64, 64), 0.1, points, np.ones((2, LANDMARKS), bool), None)


def question(hook, films):
    """Ask one hook as the engine does, and use what it builds."""
    model, codec = Small(), CODEC
    maps = model(IMAGES).detach()
    points = torch.full((FILMS, LANDMARKS, 2), 9.0)
    valid = torch.ones(FILMS, LANDMARKS, dtype=torch.bool)
    batch = Batch(IMAGES, points, valid, torch.arange(FILMS), torch.ones(FILMS), 0, 0)
    target = codec.encode(points, SIZE, MAP)
    run = Run(("A", "B", "C"), SIZE, 2, 3, 0, (sample(),) * FILMS, torch.device("cpu"), CONFIG)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    asked = {
        "build_model": ({"run": run}, lambda: model, lambda found: found(IMAGES)),
        "build_codec": ({"run": run}, lambda: codec, lambda c: c.decode(c.encode(points, SIZE, MAP), SIZE)),
        "build_criterion": ({"run": run}, lambda: cross_entropy, lambda f: f(maps, target, None)),
        "build_optimizer": ({"model": model, "run": run}, lambda: (optimizer, lambda done: 1.0), lambda f: f[1](0.5)),
        "truth": ({"sample": sample(), "rng": np.random.default_rng(0)}, None, None),
        "batch_shape": ({"epoch": 0, "index": 0, "size": SIZE, "seed": 0}, None, None),
        "eval_model": ({"model": model}, None, lambda found: found.eval()(IMAGES)),
        "predict": (
            {"model": model, "images": IMAGES, "activate": lambda maps: activate(maps, "distribution")},
            None,
            None,
        ),
        "sample_weights": {"epoch": 0, "samples": run.samples, "shape": (FILMS,)},
        "pixel_weights": {"batch": batch, "pred": maps, "target": target, "shape": tuple(maps.shape)},
        "landmark_weights": {"batch": batch, "loss": torch.ones(FILMS, LANDMARKS), "shape": (FILMS, LANDMARKS)},
        "loss_terms": {"batch": batch, "pred": maps.clone().requires_grad_(), "points": points},
        "metrics": {
            "errors_mm": np.ones((FILMS, LANDMARKS)),
            "points_px": points.numpy(),
            "valid": valid.numpy(),
            "samples": run.samples,
            "landmarks": run.landmarks,
        },
        "augmentations": {"stage": "photometric"},
        "epoch_start": {"epoch": 0, "model": model},
        "step_end": {"step": 1, "model": model, "loss": torch.ones(())},
        "epoch_end": {"epoch": 0, "samples": run.samples, "loss": maps, "errors_mm": maps, "metrics": {}},
        "run_end": {"run": run, "result": None},
    }

    def one(hooks):
        hooks.tell("check_run", run=run)  # since then it is known how many landmarks there are
        arguments, default, use = asked[hook]
        answer = hooks.one(hook, default, **arguments)
        return answer if use is None else use(answer)

    def merge(hooks):
        if hook == "augmentations":
            transforms = {"photometric": dict(hooks.each(hook, **asked[hook]))}
            film = np.zeros(SIZE, dtype=np.uint8)
            return Augmentation({}, transforms, hooks.versions).change_pixels(film, 0)
        if hook == "warps":
            ((_, warps),) = hooks.each(hook)
            return [(w.matrix(None, SIZE), w.displacement(None, SIZE)) for w in warps]
        answer = hooks.merge(hook, **asked.get(hook, {}))
        if hook == "dataset_formats":
            return [(reader.matches(films), reader.read(films, mm_per_px=None)) for reader in answer.values()]
        return answer

    arguments = asked.get(hook, {"run": run})
    return {
        "one": one,
        "merge": merge,
        "product": lambda hooks: hooks.product(hook, **arguments),
        "tell": lambda hooks: hooks.tell(hook, **arguments),
    }[VERBS[hook]]


@pytest.fixture
def load(tmp_path):
    """`load(source)`: the plugin `mine` of a file, alone in its Hooks, and its version."""

    def made(text):
        path = tmp_path / "mine.py"
        path.write_text(text)
        found = discovery.load(str(path))
        return Hooks({"mine": found.create({})}, {"mine": found.version}), found.version

    return made


def test_the_table_has_every_hook_with_its_arguments_and_a_wrong_type():
    assert {hook: ", ".join(hook_arguments(hook)) for hook in VERBS} == ARGUMENTS
    assert {fault.hook for fault in FAULTS if fault.kind == "wrong type"} == set(VERBS) == set(GOOD)
    assert set(TELL) == {hook for hook, verb in VERBS.items() if verb == "tell"}


@pytest.mark.parametrize("hook", VERBS)
def test_a_good_answer_passes_and_is_used(hook, load, tiny_set):
    hooks, _ = load(source(hook, GOOD[hook]))
    question(hook, tiny_set)(hooks)
    hooks.check()
    assert hooks.disabled == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.hook}-{fault.kind.replace(' ', '-')}")
def test_a_fault_names_plugin_version_hook_and_remedy(fault, load, tiny_set):
    hooks, version = load(source(fault.hook, fault.body, memory=True))

    def ask():
        question(fault.hook, tiny_set)(hooks)
        hooks.check()

    with pytest.raises(PluginError) as found:
        ask()
    message = str(found.value)
    for word in (f"plugin 'mine' {version}, hook {fault.hook}: ", fault.words, "hint: ", "--without mine"):
        assert word in message


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.hook in TELL], ids=lambda fault: f"{fault.hook}-{fault.kind.replace(' ', '-')}"
)
def test_the_fault_of_an_observer_switches_it_off_with_a_warning_that_names_it(fault, load, tiny_set, caplog):
    hooks, version = load(source(fault.hook, fault.body))
    with caplog.at_level(logging.WARNING, logger="ceph"):
        question(fault.hook, tiny_set)(hooks)
    assert set(hooks.disabled) == {"mine"}
    for word in (f"plugin 'mine' {version}, hook {fault.hook}: ", fault.words, "switched off and the run goes on"):
        assert word in caplog.text
    assert not hooks.answers(fault.hook)


PATCHES = {
    "set on the module": "net.forward = lambda images: old(images) + 1",
    "bound to the module": "net.forward = MethodType(lambda self, images: type(self).forward(self, images) + 1, net)",
}


@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_a_forward_that_a_plugin_sets_on_the_module_is_used_and_checked(patch, load):
    body = f"from types import MethodType; net = default(); old = net.forward; {patch}; return net"
    hooks, _ = load(source("build_model", body))
    run = Run(("A", "B", "C"), SIZE, 2, 3, 0, (), torch.device("cpu"), CONFIG)
    model = hooks.one("build_model", Small, run=run)
    assert torch.equal(model(IMAGES), Small.forward(model, IMAGES) + 1)
    if "MethodType" in patch:  # it knows whose it is, so a copy has its own
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for part in twin.parameters():
                part.zero_()
        assert torch.equal(twin(IMAGES), torch.ones_like(model(IMAGES)))
    model.backbone = torch.nn.Conv2d(1, 2, 5, stride=4, padding=2)
    with pytest.raises(PluginError, match=r"hook build_model: its module gave Tensor \[2, 2, 8, 8\]"):
        model(IMAGES)


def test_a_built_model_stays_checked_in_its_copies_and_keeps_its_weights_names(load):
    hooks, _ = load(source("build_model", "return Net(default(), lambda maps: maps[:1])"))
    run = Run(("A", "B", "C"), SIZE, 2, 3, 0, (), torch.device("cpu"), CONFIG)
    model = hooks.one("build_model", Small, run=run)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for part in twin.parameters():
            part.zero_()
    assert list(model.state_dict()) == [
        f"{place}.{name}" for place in ("inner.backbone", "backbone") for name in ("weight", "bias")
    ]
    for module in (model, twin):
        with pytest.raises(PluginError, match=r"hook build_model: its module gave Tensor \[1, 3, 8, 8\]"):
            module(IMAGES)
        module.change = lambda maps: maps
    assert not twin(IMAGES).any()  # the copy runs its own weights
    assert model(IMAGES).any()
