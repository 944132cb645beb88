"""Every hook times every fault: the message names the plugin, its version, the hook and a remedy."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.faults.table import ARGUMENTS, FAULTS, GOOD, TELL, source

from ceph.data.augment import Augmentation
from ceph.data.types import Batch, Sample
from ceph.errors import PluginError
from ceph.evaluation.means import Ensemble, Member
from ceph.evaluation.stations import Stations
from ceph.hooks import discovery
from ceph.hooks.answers import STATIONS
from ceph.hooks.base import Run
from ceph.hooks.misuse import hook_arguments
from ceph.hooks.sampling import SampleHooks, draw_names
from ceph.hooks.specs import VERBS
from ceph.hooks.verbs import Hooks
from ceph.model.codec import GaussianDecoder, GaussianTargets, gaussians
from ceph.model.network import add_parts, seen_by_parts
from ceph.training import job
from ceph.training.loss import cross_entropy

FILMS, LANDMARKS, SIZE, MAP = 2, 3, (32, 32), (8, 8)
IMAGES = torch.rand(FILMS, 1, *SIZE)
CONFIG = SimpleNamespace(model=SimpleNamespace(stride=4))
TARGETS = GaussianTargets("distribution", 1.0, 4)
DECODER = GaussianDecoder("distribution", 1.0, 4, "local-soft-argmax")


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Conv2d(1, LANDMARKS, 5, stride=4, padding=2)

    def forward(self, images):
        return self.backbone(images)


def sample():
    points = np.full((2, LANDMARKS, 2), 9.0)
    return Sample("1", "train", "1", "", (64, 64), 0.1, points, np.ones((2, LANDMARKS), bool), None)


IN_A_RUN = [fault for fault in FAULTS if fault.kind.endswith("in a run")]  # told at the end of a split only


def held(hooks, hook, answer, shape, dtype=None):
    """What a part gave, held against its promise as the engine does."""
    return hooks.promised(hook, answer, shape, torch.device("cpu"), dtype)


def look(centre, mm, px):
    return torch.zeros(*centre.shape[:-1], px, px)


def question(hook, films):
    """Ask one hook as the engine does, and use what it builds."""
    model = Small()
    maps = model(IMAGES).detach()
    points = torch.full((FILMS, LANDMARKS, 2), 9.0)
    valid = torch.ones(FILMS, LANDMARKS, dtype=torch.bool)
    eye = torch.eye(3).expand(FILMS, 3, 3)
    batch = Batch(IMAGES, points, valid, torch.arange(FILMS), torch.ones(FILMS), eye)
    target = gaussians(points, MAP, "distribution", 1.0, 4)
    run = Run(("A", "B", "C"), SIZE, 2, 3, 0, (sample(),) * FILMS, torch.device("cpu"), CONFIG)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    live = maps.clone().requires_grad_()
    added = {"batch": batch, "pred": live, "points": points, "model": model, "outputs": {}}
    maps_shape = (FILMS, LANDMARKS, *MAP)

    def trained(hooks, optimizer, schedule):
        class Job(SimpleNamespace):
            factor = job.Job.factor

        return Job(hooks=hooks, schedule=schedule).factor(0.5)

    def decoded(hooks, station):
        parts = {"decoder": DECODER, hook.removeprefix("build_"): station}
        stations = Stations(**parts, built_by={hook.removeprefix("build_"): hooks.blames(hook)["mine"]})
        stages = stations.stages(target, SIZE, look, model, eye)
        found = {s.station: torch.cat((s.points, s.scores[..., None]), -1).detach().numpy() for s in stages}
        stations.require_finite(found)

    asked = {
        "build_model": ({"run": run}, lambda: model, lambda h, m: held(h, hook, m(IMAGES), maps_shape)),
        "build_targets": ({"run": run}, lambda: TARGETS, lambda h, t: held(h, hook, t.encode(batch, MAP), maps_shape)),
        "build_criterion": (
            {"run": run},
            lambda: cross_entropy,
            lambda h, f: held(h, hook, f(maps, target, None), (FILMS, LANDMARKS), torch.float32),
        ),
        "build_optimizer": (
            {"model": model, "run": run},
            lambda: (optimizer, lambda done: 1.0),
            lambda h, pair: trained(h, *pair),
        ),
        **{name: ({"run": run}, lambda: DECODER, decoded) for name in STATIONS},
        "truth": ({"sample": sample(), "rng": np.random.default_rng(0)}, None, None),
        "batch_shape": ({"epoch": 0, "index": 0, "size": SIZE, "seed": 0}, None, None),
        "eval_model": ({"epoch": 0, "model": model}, None, lambda h, m: held(h, hook, m.eval()(IMAGES), maps_shape)),
        "sample_weights": {"epoch": 0, "samples": run.samples, "shape": (FILMS,)},
        "landmark_mask": {"batch": batch, "shape": (FILMS, LANDMARKS)},
        "pixel_weights": {"batch": batch, "pred": maps, "target": target, "shape": tuple(maps.shape)},
        "landmark_weights": {"batch": batch, "loss": torch.ones(FILMS, LANDMARKS), "shape": (FILMS, LANDMARKS)},
        "landmark_losses": added,
        "loss_terms": added,
        "metrics": {
            "split": "validation",
            "errors_mm": np.ones((FILMS, LANDMARKS)),
            "points_px": points.numpy(),
            "valid": valid.numpy(),
            "samples": run.samples,
            "landmarks": run.landmarks,
            "outputs": {},
        },
        "modules": {"run": run, "model": model},
        "augmentations": {"stage": "photometric"},
        "epoch_start": {"epoch": 0, "model": model},
        "step_end": {"step": 1, "model": model, "loss": torch.ones(())},
        "epoch_end": {
            "epoch": 0,
            "model": model,
            "samples": run.samples,
            "loss": maps,
            "errors_mm": maps,
            "moves_mm": maps,
            "metrics": {},
        },
        "run_start": {"run": run, "model": model},
        "run_end": {"run": run, "result": None},
    }

    def one(hooks):
        arguments, default, use = asked[hook]
        with hooks.blamed():
            answer = hooks.one(hook, default, **arguments)
            return answer if use is None else use(hooks, answer)

    def merge(hooks):
        if hook in ("augmentations", "warps"):
            found = dict(hooks.each(hook, **asked.get(hook, {})))
            transforms = {"photometric": found} if hook == "augmentations" else {}
            changes = Augmentation(found if hook == "warps" else {}, transforms, hooks.versions)
            return changes.change_pixels(np.zeros(SIZE, dtype=np.uint8), 0), changes.draw_warp(0, SIZE)
        if hook == "second_draws":
            return draw_names(hooks)
        if hook == "extras":
            asks = SampleHooks(hooks)
            return [asks.extras(sample(), (points[0].numpy(), valid[0].numpy()), look, seed) for seed in range(2)]
        answer = hooks.merge(hook, **asked.get(hook, {}))
        if hook == "dataset_formats":
            return [(reader.matches(films), reader.read(films, mm_per_px=None)) for reader in answer.values()]
        if hook == "modules":
            add_parts(model, answer)
            with hooks.blamed():
                return seen_by_parts(model, model, IMAGES)
        return answer

    def mean(hooks):
        own = hooks.blames(hook)["mine"]
        answer = [part for _, listed in hooks.each(hook, model=model) for part in listed]
        members = [(Member(model), None), *((part, own) for part in answer if hook == "members")]
        views = [(part, own) for part in answer if hook == "views"]
        item = SimpleNamespace(film_to_network=eye)
        with hooks.blamed():
            return Ensemble(members, views, SIZE).maps([item], [IMAGES], nullcontext)

    arguments = asked.get(hook, {"run": run})
    return {
        "one": one,
        "merge": merge,
        "mean": mean,
        "all": lambda hooks: hooks.all(hook, **arguments),
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


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f not in IN_A_RUN], ids=lambda fault: f"{fault.hook}-{fault.kind.replace(' ', '-')}"
)
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
